//! A cloud for tests that look at it only from outside: the real binary in processes of its own,
//! a state directory that goes with the test, and a client that speaks HTTP and nothing else.

mod client;
mod cloud;
mod hosts;
mod kill;
pub mod recorded;
mod replica;
mod until;

pub use client::{Answer, Client};
pub use cloud::{Cloud, Database, Process, Setup};
pub use hosts::Hosts;
pub use kill::{At, KillPoints};
pub use replica::Replica;
pub use until::{DEADLINE, until, until_some};
