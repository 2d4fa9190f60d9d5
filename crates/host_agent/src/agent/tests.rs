//! The agent over a simulated machine.
