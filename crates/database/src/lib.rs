//! The cloud's memory: transactions on SQLite or PostgreSQL, object locks, a journal, migrations,
//! and word of what was committed.
//!
//! Everything that changes rows is a closure handed to [`Database::transact`]. The closure may
//! run more than once (another transaction was in the way), so it changes nothing but rows, and
//! waits for nothing but its own statements: no network, no sleep, no other transaction. When
//! `transact` answers `Ok`, the change is on disk.
//!
//! ```
//! use database::{Database, DatabaseConfig, DatabaseError, JournalEntry, ObjectLock, Origin, params};
//! # use std::sync::Arc;
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
//! # runtime.block_on(async {
//! let clock = Arc::new(cloud_types::SystemClock);
//! let db = Database::open(&DatabaseConfig::SqliteMemory, clock).await?;
//! # db.transact(&Origin::system("doc"), |tx| Box::pin(async move {
//! #     tx.execute("CREATE TABLE racks (id TEXT PRIMARY KEY, height BIGINT, generation BIGINT)", &[]).await?;
//! #     tx.execute("INSERT INTO racks VALUES ('r1', 40, 1)", &[]).await }) as futures::future::BoxFuture<'_, Result<u64, DatabaseError>>).await?;
//! let id = "r1".to_owned();
//! let height = db
//!     .transact(&Origin::system("example"), move |tx| {
//!         let id = id.clone();
//!         Box::pin(async move {
//!             tx.lock(&[ObjectLock::new("rack", &id)]).await?;
//!             let rack = tx
//!                 .query_one("SELECT height, generation FROM racks WHERE id = $1", &params![id])
//!                 .await?;
//!             let changed = tx
//!                 .execute(
//!                     "UPDATE racks SET height = $1, generation = generation + 1
//!                      WHERE id = $2 AND generation = $3",
//!                     &params![rack.int("height")? + 2, id, rack.int("generation")?],
//!                 )
//!                 .await?;
//!             tx.expect_one(changed, "rack", &id)?;
//!             tx.notify("racks", id);
//!             Ok::<_, DatabaseError>(rack.int("height")? + 2)
//!         })
//!     })
//!     .await?;
//! assert_eq!(height, 42);
//! # Ok::<(), DatabaseError>(()) }).unwrap();
//! ```

mod config;
mod database;
mod error;
pub mod journal;
pub mod leases;
mod migrations;
mod notify;
mod origin;
mod postgres;
mod row;
mod schema;
mod shared;
#[cfg(feature = "simulation")]
pub mod simulation;
mod sql_text;
mod sqlite;
#[cfg(feature = "test_support")]
pub mod test_support;
pub mod transfer;
mod tx;
mod value;
mod work;

pub use config::{Backend, DatabaseConfig};
pub use database::Database;
pub use error::DatabaseError;
pub use futures::future::BoxFuture;
pub use journal::{Consumer, JournalLag, JournalPosition, JournalRecord};
pub use migrations::{Migration, MigrationSet};
pub use notify::{Notification, Subscription};
pub use origin::{JournalEntry, ObjectLock, Origin};
pub use row::Row;
pub use shared::DatabaseMetrics;
pub use tx::Tx;
pub use value::{ToValue, Value};
