//! What PostgreSQL's errors mean to us.

use tokio_postgres::Error;
use tokio_postgres::error::{DbError, SqlState};

use crate::DatabaseError;

/// Reads an error that `sql` ended in.
pub(crate) fn classify(error: &Error, sql: &str) -> DatabaseError {
    let Some(server) = error.as_db_error() else {
        return if is_lost(error) {
            DatabaseError::Unreachable(spell(error))
        } else {
            DatabaseError::sql(sql, spell(error))
        };
    };
    let text = server.message().to_owned();
    let code = server.code();
    match code.code().get(..2).unwrap_or_default() {
        "40" => DatabaseError::Conflict(text),
        "08" => DatabaseError::Unreachable(text),
        _ if *code == SqlState::UNIQUE_VIOLATION => {
            DatabaseError::Unique { constraint: constraint(server) }
        }
        _ if *code == SqlState::LOCK_NOT_AVAILABLE || *code == SqlState::QUERY_CANCELED => {
            DatabaseError::Locked(text)
        }
        _ if *code == SqlState::READ_ONLY_SQL_TRANSACTION => DatabaseError::ReadOnly(format!(
            "{text}; the server is a standby, or was made read-only"
        )),
        _ if *code == SqlState::DISK_FULL => {
            DatabaseError::Full(format!("{text}; make room on the database server"))
        }
        _ if *code == SqlState::IO_ERROR => DatabaseError::Io(text),
        _ if *code == SqlState::DATA_CORRUPTED || *code == SqlState::INDEX_CORRUPTED => {
            DatabaseError::Corrupt(format!("{text}; restore the latest backup"))
        }
        "53" | "57" => DatabaseError::Unreachable(text),
        // A migration of another process changed what a prepared statement returns.
        _ if *code == SqlState::FEATURE_NOT_SUPPORTED && text.contains("cached plan") => {
            DatabaseError::Conflict(text)
        }
        _ if *code == SqlState::INVALID_SQL_STATEMENT_NAME => DatabaseError::Conflict(text),
        _ => DatabaseError::sql(sql, format!("{text} ({})", code.code())),
    }
}

/// Whether the connection is gone, or was ended by the server: what was asked last may have been
/// done or not.
pub(super) fn is_lost(error: &Error) -> bool {
    match error.as_db_error() {
        Some(server) => {
            let code = server.code().code();
            code.starts_with("57P") || code.starts_with("08")
        }
        None => {
            error.is_closed()
                || std::error::Error::source(error)
                    .is_some_and(|source| source.is::<std::io::Error>())
        }
    }
}

/// `table.column, table.column`, as SQLite says it.
fn constraint(server: &DbError) -> String {
    let table = server.table().unwrap_or("(unknown)");
    let columns = server
        .detail()
        .and_then(|detail| detail.strip_prefix("Key ("))
        .and_then(|rest| rest.split(")=").next())
        .unwrap_or_else(|| server.constraint().unwrap_or("(unknown)"));
    let named: Vec<String> =
        columns.split(", ").map(|column| format!("{table}.{column}")).collect();
    named.join(", ")
}

fn spell(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
