//! Fault tests that every workflow runs.
