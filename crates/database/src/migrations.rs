//! Bringing the schema up to this release.
//!
//! Each service numbers its migrations from 1. They expand first and contract a release later, so
//! that two releases run side by side. One process migrates at a time; a database that a newer
//! release migrated is refused, because this one cannot know what the tables mean now.

use std::collections::BTreeMap;

use crate::sqlite::migration_statements;
use crate::{Backend, Database, DatabaseError, Origin, Tx, params, sql_text};

/// Locked while a process migrates; any number that nobody else uses.
const MIGRATION_LOCK: i64 = 0x6d65_7269_6469_616e;

/// The migrations of one service.
#[derive(Clone, Copy, Debug)]
pub struct MigrationSet {
    /// The crate's name.
    pub service: &'static str,
    /// In ascending order of number.
    pub migrations: &'static [Migration],
}

/// One step of a schema. Never changed once released.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// From 1, ascending.
    pub number: u32,
    /// What it does, in snake case.
    pub name: &'static str,
    /// Statements separated by `;`, one text for both databases: TEXT, BIGINT, BYTEA columns.
    pub sql: &'static str,
}

pub(crate) async fn run(database: &Database, sets: &[MigrationSet]) -> Result<(), DatabaseError> {
    for set in sets {
        check_numbers(set)?;
        let set = *set;
        // Nothing to do is the usual case, and works on a database that cannot be written.
        let pending: usize = database
            .read(move |tx| {
                Box::pin(async move { Ok::<_, DatabaseError>(pending(tx, &set).await?.len()) })
            })
            .await?;
        if pending > 0 {
            database
                .transact(&Origin::system("migration"), move |tx| {
                    Box::pin(async move { apply(tx, &set).await })
                })
                .await?;
        }
    }
    Ok(())
}

fn check_numbers(set: &MigrationSet) -> Result<(), DatabaseError> {
    let mut last = 0;
    for migration in set.migrations {
        if migration.number <= last {
            return Err(wrong(set, migration, "its number does not follow the one before"));
        }
        last = migration.number;
    }
    Ok(())
}

async fn pending(
    tx: &mut Tx,
    set: &MigrationSet,
) -> Result<Vec<&'static Migration>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT number, name FROM schema_migrations WHERE service = $1 ORDER BY number",
            &params![set.service],
        )
        .await?;
    let mut applied = BTreeMap::new();
    for row in rows {
        applied.insert(row.u32("number")?, row.text("name")?);
    }
    let known = set.migrations.last().map_or(0, |migration| migration.number);
    if let Some((&found, _)) = applied.last_key_value()
        && found > known
    {
        return Err(DatabaseError::SchemaTooNew { service: set.service.to_owned(), found, known });
    }
    let mut pending = Vec::new();
    for migration in set.migrations {
        match applied.get(&migration.number) {
            None => pending.push(migration),
            Some(name) if name == migration.name => {}
            Some(name) => {
                return Err(wrong(
                    set,
                    migration,
                    format!("the database has another migration of that number, {name}"),
                ));
            }
        }
    }
    Ok(pending)
}

async fn apply(tx: &mut Tx, set: &MigrationSet) -> Result<(), DatabaseError> {
    if tx.backend() == Backend::Postgres {
        // A migration may wait for another process's, and may take longer than a request.
        tx.execute("SET LOCAL statement_timeout = '1h'", &[]).await?;
        tx.execute("SET LOCAL lock_timeout = '5min'", &[]).await?;
        tx.query("SELECT pg_advisory_xact_lock($1)::text AS taken", &params![MIGRATION_LOCK])
            .await?;
    }
    for migration in pending(tx, set).await? {
        tracing::info!(
            service = set.service,
            migration = migration.number,
            name = migration.name,
            "migrating the database"
        );
        let statements = match tx.backend() {
            Backend::Sqlite => migration_statements(migration.sql),
            Backend::Postgres => sql_text::statements(migration.sql),
        };
        for statement in statements {
            tx.execute_dynamic(statement, &[]).await.map_err(|error| match error {
                DatabaseError::Sql { .. } | DatabaseError::Unique { .. } => {
                    wrong(set, migration, error.to_string())
                }
                other => other,
            })?;
        }
        tx.execute(
            "INSERT INTO schema_migrations (service, number, name, applied_at)
             VALUES ($1, $2, $3, $4)",
            &params![set.service, migration.number, migration.name, tx.now()],
        )
        .await?;
    }
    Ok(())
}

fn wrong(set: &MigrationSet, migration: &Migration, reason: impl Into<String>) -> DatabaseError {
    DatabaseError::Migration {
        service: set.service.to_owned(),
        number: migration.number,
        name: migration.name.to_owned(),
        reason: reason.into(),
    }
}
