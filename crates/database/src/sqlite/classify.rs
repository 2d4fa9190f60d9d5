//! What SQLite's error codes mean to us.

use rusqlite::ErrorCode;
use rusqlite::ffi;

use crate::DatabaseError;

/// Reads an error that `sql` ended in.
pub(crate) fn classify(error: &rusqlite::Error, sql: &str) -> DatabaseError {
    let rusqlite::Error::SqliteFailure(code, message) = error else {
        return DatabaseError::sql(sql, error.to_string());
    };
    let text = message.clone().unwrap_or_else(|| code.to_string());
    match code.code {
        ErrorCode::ConstraintViolation
            if matches!(
                code.extended_code,
                ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY
            ) =>
        {
            let constraint =
                text.strip_prefix("UNIQUE constraint failed: ").unwrap_or(&text).to_owned();
            DatabaseError::Unique { constraint }
        }
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => DatabaseError::Locked(format!(
            "{text}; another process has held the file for longer than the time limit"
        )),
        ErrorCode::ReadOnly => DatabaseError::ReadOnly(format!(
            "{text}; check the permissions of the database's file and directory, and whether \
             the file system is mounted read-only"
        )),
        ErrorCode::DiskFull => {
            DatabaseError::Full(format!("{text}; make room on the database's file system"))
        }
        ErrorCode::SystemIoFailure => DatabaseError::Io(format!(
            "{text}, code {}; look at the kernel's log for errors of the disk",
            code.extended_code
        )),
        ErrorCode::CannotOpen => DatabaseError::Unreachable(format!(
            "{text}; check that the database's directory exists and may be written"
        )),
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => {
            DatabaseError::Corrupt(format!("{text}; restore the latest backup"))
        }
        _ => DatabaseError::sql(sql, text),
    }
}
