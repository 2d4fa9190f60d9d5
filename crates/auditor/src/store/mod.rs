//! All SQL of the auditor: its own table, what it reads of everybody's, and its repairs.

mod findings;
mod global;
mod quota;
mod repair;
mod slices;

use database::{DatabaseError, Migration, MigrationSet, Row, Tx};

pub use findings::{all, forget_old, keep};
pub use global::{
    forgotten_addresses, hosts, journal, open_workflows, orphans, reports_without_documents, steps,
    waits,
};
pub use quota::usage;
pub use repair::repair;
pub use slices::{addresses, networks, ports, servers};

/// The auditor's tables.
pub const MIGRATIONS: MigrationSet = MigrationSet {
    service: "auditor",
    migrations: &[Migration {
        number: 1,
        name: "findings",
        sql: "
CREATE TABLE audit_findings (
    kind TEXT NOT NULL,
    object_kind TEXT NOT NULL,
    object_id TEXT NOT NULL,
    message TEXT NOT NULL,
    first_seen BIGINT NOT NULL,
    last_seen BIGINT NOT NULL,
    repaired BIGINT NOT NULL,
    PRIMARY KEY (kind, object_kind, object_id, message)
);
CREATE INDEX audit_findings_by_time ON audit_findings (last_seen)",
    }],
};

/// A part of all identifiers: from `low` on, below `high`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first.
    pub low: String,
    /// The first that is not in it any more.
    pub high: String,
}

impl Range {
    /// All identifiers, in so many parts (1, 16 or 256).
    pub fn parts(count: usize) -> Vec<Range> {
        let digits = match count {
            1 => 0,
            2..=16 => 1,
            _ => 2,
        };
        let total = 16_usize.pow(digits);
        let edge = |at: usize| match at {
            0 => String::new(),
            at if at == total => "~".to_owned(),
            at => format!("{at:0width$x}", width = digits as usize),
        };
        (0..total).map(|at| Range { low: edge(at), high: edge(at + 1) }).collect()
    }
}

/// How many servers and ports there are, about: the larger of the two decides into how many parts
/// the identifiers are cut.
pub async fn size(tx: &mut Tx) -> Result<u64, DatabaseError> {
    let servers = tx.query_one("SELECT COUNT(*) AS n FROM servers", &[]).await?.u64("n")?;
    let ports = tx.query_one("SELECT COUNT(*) AS n FROM ports", &[]).await?.u64("n")?;
    Ok(servers.max(ports))
}

fn flag(row: &Row, column: &'static str) -> Result<bool, DatabaseError> {
    Ok(row.int(column)? != 0)
}
