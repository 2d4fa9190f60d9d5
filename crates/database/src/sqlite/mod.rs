//! SQLite, called synchronously: a statement costs a function call, no change of thread.
//!
//! ```text
//!   transact ──▶ queue ──▶ writer thread: BEGIN IMMEDIATE
//!                                           SAVEPOINT  closure 1  RELEASE (or ROLLBACK TO)
//!                                           SAVEPOINT  closure 2  RELEASE
//!                                           …whoever else waits…
//!                                         COMMIT            one write to disk for all
//!                                         answers, then notifications
//!   read ──────▶ queue ──▶ reader threads, each with a connection and a snapshot
//! ```
//! A database in memory has no threads: the closure runs on its caller's, so that a simulation
//! decides what happens when.

mod classify;
mod executor;
mod job;
mod session;
mod threads;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::shared::Shared;
use crate::{DatabaseError, sql_text};

pub(crate) use classify::classify;
pub(crate) use executor::Executor;
pub(crate) use job::{Job, make_job};
pub(crate) use session::{SqliteSession, private};
use threads::{Readers, Writer};

/// Threads that answer reads; each keeps a connection with a small cache.
const READERS: usize = 3;

pub(crate) struct Sqlite {
    mode: Mode,
}

enum Mode {
    Memory(Box<Mutex<Executor>>),
    File { writer: Writer, readers: Readers },
}

impl Sqlite {
    /// Opens (making it when absent) the file, or a database in memory for `None`.
    pub fn open(path: Option<&Path>, shared: &Arc<Shared>) -> Result<Self, DatabaseError> {
        let (executor, lineage) = Executor::open(path.map(Path::to_path_buf), shared.clone())?;
        shared.set_lineage(lineage);
        let mode = match path {
            None => Mode::Memory(Box::new(Mutex::new(executor))),
            Some(path) => Mode::File {
                readers: Readers::start(path, READERS, shared)?,
                writer: Writer::start(executor)?,
            },
        };
        Ok(Sqlite { mode })
    }

    /// Hands a job to whoever runs it. For a database in memory it has run when this returns.
    pub fn submit(&self, job: Job, shared: &Arc<Shared>) {
        match &self.mode {
            Mode::Memory(executor) => {
                if executor::inside_transaction() {
                    job.finish(Err(executor::nested()));
                    return;
                }
                let mut executor = executor.lock().unwrap_or_else(PoisonError::into_inner);
                executor.serve(shared);
                executor.run(vec![job]);
            }
            Mode::File { writer, readers } => {
                if executor::inside_transaction() {
                    job.finish(Err(executor::nested()));
                } else if job.read_only() {
                    readers.submit(job);
                } else {
                    writer.submit(job);
                }
            }
        }
    }

    /// Waits until everything that was queued is stored, and closes the file.
    pub fn close(&self) {
        if let Mode::File { writer, readers } = &self.mode {
            readers.close();
            writer.close();
        }
    }
}

/// The statements of a migration in SQLite's types.
pub(crate) fn migration_statements(sql: &str) -> Vec<String> {
    sql_text::statements(sql)
        .into_iter()
        .map(|statement| statement.replace("BYTEA", "BLOB"))
        .collect()
}
