//! What each command of the binary does.

pub mod audit;
pub mod control_plane;
pub mod database;
pub mod host;
pub mod identity;
pub mod import;
pub mod init;
pub mod keys;
pub mod policy;
pub mod recover;
pub mod replica;
pub mod supervisor;
