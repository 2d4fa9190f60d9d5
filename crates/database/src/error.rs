//! What can go wrong between a service and its rows, and what the caller of the API is told.

use cloud_types::Fault;

/// Why a transaction failed. Nothing of it was stored, except where [`DatabaseError::Unknown`]
/// says that this cannot be known.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DatabaseError {
    /// Other transactions were in the way on every attempt. Trying again later can succeed.
    #[error("the transaction collided with others on every attempt ({0})")]
    Conflict(String),
    /// A lock was not free within its time limit. Trying again later can succeed.
    #[error("the database is locked by somebody else ({0})")]
    Locked(String),
    /// A row with these values exists already.
    #[error("a row with the same {constraint} exists already")]
    Unique {
        /// `table.column, table.column` on both databases.
        constraint: String,
    },
    /// The row is not at the generation that was read: somebody changed or deleted it.
    #[error("{kind} {id} was changed or deleted meanwhile")]
    Stale {
        /// What kind of object.
        kind: &'static str,
        /// Which one.
        id: String,
    },
    /// The database takes no writes: a read-only file or file system, or a standby.
    #[error("the database is read-only ({0})")]
    ReadOnly(String),
    /// The database cannot be reached or opened.
    #[error("the database cannot be reached ({0})")]
    Unreachable(String),
    /// No room is left for the database.
    #[error("the database's disk is full ({0})")]
    Full(String),
    /// The disk under the database failed a read or a write.
    #[error("the database's disk failed ({0})")]
    Io(String),
    /// The file is damaged, or is no database.
    #[error("the database is damaged ({0})")]
    Corrupt(String),
    /// The connection was lost while the commit was under way, and the database could not be
    /// asked since: the transaction may have been stored or not. Never retried by us.
    #[error("whether the transaction was stored is unknown ({0})")]
    Unknown(String),
    /// A column does not hold what the code expects.
    #[error("column {column} of {table} cannot be read: {reason}")]
    Decode {
        /// The table that the statement names first.
        table: String,
        /// The column.
        column: String,
        /// What was found instead.
        reason: String,
    },
    /// Not exactly one row where one was wanted.
    #[error("{found} rows of {table} where one was expected")]
    RowCount {
        /// The table that the statement names first.
        table: String,
        /// How many there were.
        found: usize,
    },
    /// The statement was refused.
    #[error("{message} (in: {sql})")]
    Sql {
        /// The database's message.
        message: String,
        /// The statement, cut.
        sql: String,
    },
    /// The code used the database in a way that cannot work.
    #[error("{0}")]
    Misuse(String),
    /// The schema was written by a newer release.
    #[error(
        "the database was migrated by a newer release: {service} is at migration {found}, this \
         release knows {known}; start the newer release, or restore a backup made before it"
    )]
    SchemaTooNew {
        /// Whose schema.
        service: String,
        /// The newest migration in the database.
        found: u32,
        /// The newest migration of this release.
        known: u32,
    },
    /// A migration could not be applied; nothing was changed.
    #[error("migration {number} ({name}) of {service} failed: {reason}")]
    Migration {
        /// Whose schema.
        service: String,
        /// Which one.
        number: u32,
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },
    /// The database is shutting down.
    #[error("the database is shutting down")]
    Closed,
}

impl DatabaseError {
    /// Whether another attempt at the same work can succeed without anybody changing it.
    pub fn is_retryable(&self) -> bool {
        matches!(self, DatabaseError::Conflict(_) | DatabaseError::Locked(_))
    }

    /// Whether a unique constraint of `table` was in the way.
    pub fn is_unique_on(&self, table: &str) -> bool {
        matches!(self, DatabaseError::Unique { constraint }
            if constraint.strip_prefix(table).is_some_and(|rest| rest.starts_with('.')))
    }

    pub(crate) fn decode(sql: &str, column: &str, reason: impl Into<String>) -> Self {
        DatabaseError::Decode {
            table: crate::sql_text::table_of(sql).to_owned(),
            column: column.to_owned(),
            reason: reason.into(),
        }
    }

    pub(crate) fn sql(sql: &str, message: impl Into<String>) -> Self {
        DatabaseError::Sql { message: message.into(), sql: crate::sql_text::shorten(sql) }
    }
}

impl From<DatabaseError> for Fault {
    fn from(error: DatabaseError) -> Fault {
        match &error {
            DatabaseError::Stale { kind, .. } => Fault::conflict(format!(
                "The {kind} was changed by another request meanwhile. Look at it and try again."
            )),
            DatabaseError::Unique { constraint } => {
                tracing::info!(%constraint, "a unique constraint refused a request");
                Fault::conflict("An object with the same identity exists already.")
            }
            DatabaseError::Conflict(_) | DatabaseError::Locked(_) => {
                tracing::warn!(%error, "database contention");
                Fault::unavailable(
                    "The object is busy: other requests change it at the same time. Try again.",
                )
                .retry_after(1)
            }
            DatabaseError::ReadOnly(_) => {
                tracing::error!(%error, "database");
                Fault::unavailable(
                    "The cloud's database is read-only at the moment, so nothing can be changed. \
                     Nothing was stored. Try again after the operator has repaired it.",
                )
                .retry_after(30)
            }
            DatabaseError::Full(_) => {
                tracing::error!(%error, "database");
                Fault::unavailable(
                    "The disk of the cloud's database is full. Nothing was stored. Try again \
                     after the operator has made room.",
                )
                .retry_after(30)
            }
            DatabaseError::Unreachable(_) | DatabaseError::Io(_) | DatabaseError::Closed => {
                tracing::error!(%error, "database");
                Fault::unavailable(
                    "The cloud's database cannot be reached at the moment. Nothing was stored. \
                     Try again.",
                )
                .retry_after(5)
            }
            DatabaseError::Unknown(_) => {
                tracing::error!(%error, "database");
                Fault::internal(
                    "The connection to the cloud's database was lost while the request was being \
                     stored: it may have been carried out or not. Look before you repeat it.",
                )
                .named("OutcomeUnknown")
            }
            _ => {
                tracing::error!(%error, "database");
                Fault::internal("The request failed inside the cloud; the operator's log says why.")
            }
        }
    }
}
