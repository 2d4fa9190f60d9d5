//! A whole database from SQLite to PostgreSQL, and online copies of a SQLite file.
//!
//! ```text
//!   the file ──fence──▶ moving ──every table copied, counted and summed──▶ moved
//!                         │  ▲ again after a failure: tables that are done stay done
//!                         └──┴─ abandon ──▶ free
//! ```
//! A fenced file is opened by nobody but this module, so that no control plane starts on it by
//! mistake. The lineage stays: hosts go on where they are. The era of the journal rises, because
//! transactions are counted anew.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::time::Duration;

use futures::TryStreamExt;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, OptionalExtension};
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use crate::postgres::{Cell, Connect, Param};
use crate::{DatabaseError, Value};

/// Rows in one transaction of the copy.
const BATCH: usize = 500;
/// Tables of the layer itself that are not copied row by row.
const OWN: [&str; 3] = ["schema_migrations", "database_lineage", "database_fence"];
/// How long it is waited for others to close the file.
const PATIENCE: Duration = Duration::from_secs(3);

/// What was copied of a table, or found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableSum {
    /// Rows.
    pub rows: u64,
    /// A sum over the rows' contents that does not depend on their order.
    pub sum: u128,
}

impl TableSum {
    fn add(&mut self, row: &[Value]) {
        let half = |salt: u8| {
            let mut hash = DefaultHasher::new();
            salt.hash(&mut hash);
            for value in row {
                match value {
                    Value::Null => 0_u8.hash(&mut hash),
                    Value::Int(number) => (1_u8, number).hash(&mut hash),
                    Value::Real(number) => (2_u8, number.to_bits()).hash(&mut hash),
                    Value::Text(text) => (3_u8, text).hash(&mut hash),
                    Value::Bytes(bytes) => (4_u8, bytes).hash(&mut hash),
                }
            }
            u128::from(hash.finish())
        };
        self.rows += 1;
        self.sum = self.sum.wrapping_add((half(0) << 64) | half(1));
    }
}

/// What a move did.
#[derive(Clone, Debug, Default)]
pub struct Moved {
    /// Every table with its rows.
    pub tables: BTreeMap<String, TableSum>,
    /// Tables that an earlier attempt had copied.
    pub resumed: usize,
}

fn sqlite(what: &str) -> impl Fn(rusqlite::Error) -> DatabaseError + '_ {
    move |error| crate::sqlite::classify(&error, what)
}

fn postgres(what: &str) -> impl Fn(tokio_postgres::Error) -> DatabaseError + '_ {
    move |error| crate::postgres::classify(&error, what)
}

/// Copies a SQLite database to another file while it is in use. The copy is whole: it is checked,
/// synced, and has its name only then.
///
/// # Errors
/// When the file cannot be read, the other not be written, or the copy is not sound.
pub fn backup(from: &Path, to: &Path) -> Result<(), DatabaseError> {
    let io = |error: std::io::Error| DatabaseError::Io(format!("{}: {error}", to.display()));
    if to.exists() {
        return Err(DatabaseError::Misuse(format!("{} is there already", to.display())));
    }
    let mut draft = to.as_os_str().to_owned();
    draft.push(".partial");
    let draft = Path::new(&draft);
    for ending in ["", "-journal", "-wal", "-shm"] {
        let mut name = draft.as_os_str().to_owned();
        name.push(ending);
        match std::fs::remove_file(&name) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(error)),
            _ => {}
        }
    }
    {
        let source = Connection::open_with_flags(from, OpenFlags::SQLITE_OPEN_READ_ONLY)
            .map_err(sqlite("open"))?;
        source.busy_timeout(PATIENCE).map_err(sqlite("busy_timeout"))?;
        crate::sqlite::private(draft).map_err(io)?;
        let mut copy = Connection::open(draft).map_err(sqlite("open"))?;
        {
            // In one step, on one snapshot: writers go on meanwhile, and are not in the copy.
            let backup =
                rusqlite::backup::Backup::new(&source, &mut copy).map_err(sqlite("backup"))?;
            let begun = std::time::Instant::now();
            while backup.step(-1).map_err(sqlite("backup"))? != rusqlite::backup::StepResult::Done {
                if begun.elapsed() > PATIENCE {
                    return Err(DatabaseError::Locked(from.display().to_string()));
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        sound(&copy)?;
        // One file, without a log beside it.
        copy.pragma_update(None, "journal_mode", "delete").map_err(sqlite("journal_mode"))?;
    }
    std::fs::File::open(draft).and_then(|file| file.sync_all()).map_err(io)?;
    std::fs::rename(draft, to).map_err(io)?;
    let directory = to.parent().filter(|path| !path.as_os_str().is_empty());
    std::fs::File::open(directory.unwrap_or(Path::new(".")))
        .and_then(|directory| directory.sync_all())
        .map_err(io)
}

fn sound(connection: &Connection) -> Result<(), DatabaseError> {
    let check: String = connection
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .map_err(sqlite("integrity_check"))?;
    if check == "ok" { Ok(()) } else { Err(DatabaseError::Corrupt(check)) }
}

/// Checks that a file is a sound database of this kind, without changing it.
///
/// # Errors
/// When it is not.
pub fn check(file: &Path) -> Result<(), DatabaseError> {
    let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .map_err(sqlite("open"))?;
    sound(&connection)?;
    let lineage = connection
        .query_row("SELECT lineage FROM database_lineage", [], |row| row.get::<_, String>(0))
        .map_err(|_| DatabaseError::Corrupt("it is no database of a cloud".to_owned()))?;
    tracing::info!(file = %file.display(), %lineage, "a sound database");
    Ok(())
}

/// Opens a SQLite file for oneself alone.
///
/// # Errors
/// [`DatabaseError::Locked`] while another process has it open.
pub fn sole(file: &Path) -> Result<Connection, DatabaseError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
    let connection = Connection::open_with_flags(file, flags).map_err(sqlite("open"))?;
    connection.busy_timeout(PATIENCE).map_err(sqlite("busy_timeout"))?;
    connection.pragma_update(None, "synchronous", "full").map_err(sqlite("synchronous"))?;
    // Leaving the write-ahead log takes that nobody else has the file open.
    let mode: Result<String, _> =
        connection.query_row("PRAGMA journal_mode = delete", [], |row| row.get(0));
    match mode.as_deref() {
        Ok("delete") => Ok(connection),
        _ => Err(DatabaseError::Locked(format!(
            "{} is open in another process: end the control plane first (guests go on)",
            file.display()
        ))),
    }
}

/// Where a fenced file's rows went, or go.
pub(crate) fn fence(connection: &Connection) -> Result<Option<String>, DatabaseError> {
    let there = connection
        .query_row("SELECT 1 FROM sqlite_schema WHERE name = 'database_fence'", [], |_| Ok(()))
        .optional()
        .map_err(sqlite("sqlite_schema"))?;
    if there.is_none() {
        return Ok(None);
    }
    connection
        .query_row("SELECT state || ' to ' || target FROM database_fence", [], |row| row.get(0))
        .optional()
        .map_err(sqlite("database_fence"))
}

fn set_fence(connection: &Connection, state: &str, target: &str) -> Result<(), DatabaseError> {
    connection
        .execute_batch(
            "CREATE TABLE IF NOT EXISTS database_fence (state TEXT NOT NULL, target TEXT NOT NULL);
             DELETE FROM database_fence",
        )
        .and_then(|()| {
            connection.execute("INSERT INTO database_fence VALUES (?1, ?2)", [state, target])
        })
        .map(drop)
        .map_err(sqlite("database_fence"))
}

/// Gives a file free whose move was not finished.
///
/// # Errors
/// When its rows have been moved: they live on elsewhere.
pub fn abandon(file: &Path) -> Result<(), DatabaseError> {
    let connection = sole(file)?;
    match fence(&connection)? {
        Some(fence) if fence.starts_with("moved") => Err(DatabaseError::Misuse(format!(
            "the rows of {} were {fence}, and have changed there since",
            file.display()
        ))),
        _ => connection
            .execute_batch("DROP TABLE IF EXISTS database_fence")
            .map_err(sqlite("database_fence")),
    }
}

/// Moves every row of a SQLite file into a PostgreSQL database whose schema is of this release
/// and which holds no other cloud. May be repeated after a failure.
///
/// # Errors
/// When the file is in use, the schemas differ, or a table is not the same after the copy.
pub async fn move_to_postgres(file: &Path, url: &str) -> Result<Moved, DatabaseError> {
    let connection = sole(file)?;
    sound(&connection)?;
    let connect = Connect::parse(url)?;
    if let Some(fence) = fence(&connection)?
        && fence.starts_with("moved")
    {
        return Err(DatabaseError::Misuse(format!("{} was {fence} before", file.display())));
    }
    set_fence(&connection, "moving", connect.shown())?;
    let session = connect.session().await?;
    let client = session.client();
    client
        .batch_execute("SET statement_timeout = 0; SET lock_timeout = '60s'")
        .await
        .map_err(postgres("SET"))?;
    same_schema(&connection, client).await?;
    let source = begin(&connection, client).await?;

    let mut moved = Moved::default();
    for table in tables(&connection)? {
        let wanted = sum_sqlite(&connection, &table)?;
        let names = columns(&connection, &table)?;
        if source.finished || done(client, &table).await? {
            moved.resumed += 1;
        } else {
            copy(&connection, client, &table, &names).await?;
            let found = sum_postgres(client, &table, &names).await?;
            if found != wanted {
                return Err(DatabaseError::Corrupt(format!(
                    "{table} has {} rows in the file and {} in PostgreSQL, or their contents \
                     differ; the file is unchanged",
                    wanted.rows, found.rows
                )));
            }
            mark_done(client, &table, &source.lineage).await?;
        }
        moved.tables.insert(table, wanted);
    }
    if !source.finished {
        finish(&connection, client, &source).await?;
    }
    set_fence(&connection, "moved", connect.shown())?;
    Ok(moved)
}

fn tables(connection: &Connection) -> Result<Vec<String>, DatabaseError> {
    let mut statement = connection
        .prepare(
            "SELECT name FROM sqlite_schema
             WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name",
        )
        .map_err(sqlite("sqlite_schema"))?;
    let names = statement.query_map([], |row| row.get(0)).map_err(sqlite("sqlite_schema"))?;
    let names: Vec<String> = names.collect::<Result<_, _>>().map_err(sqlite("sqlite_schema"))?;
    Ok(names.into_iter().filter(|name| !OWN.contains(&name.as_str())).collect())
}

fn columns(connection: &Connection, table: &str) -> Result<Vec<String>, DatabaseError> {
    let mut statement =
        connection.prepare(&format!("PRAGMA table_info({table})")).map_err(sqlite("table_info"))?;
    let names = statement.query_map([], |row| row.get(1)).map_err(sqlite("table_info"))?;
    names.collect::<Result<_, _>>().map_err(sqlite("table_info"))
}

/// Both sides must be at the same migrations.
async fn same_schema(connection: &Connection, client: &Client) -> Result<(), DatabaseError> {
    const MIGRATIONS: &str =
        "SELECT service, number, name FROM schema_migrations ORDER BY service, number";
    let mut statement = connection.prepare(MIGRATIONS).map_err(sqlite(MIGRATIONS))?;
    let here = statement
        .query_map([], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get::<_, String>(2)?))
        })
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(sqlite(MIGRATIONS))?;
    let there = client.query(MIGRATIONS, &[]).await.map_err(postgres(MIGRATIONS))?;
    let there: Vec<(String, i64, String)> =
        there.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    let sorted = |mut all: Vec<(String, i64, String)>| {
        all.sort();
        all
    };
    if sorted(here) == sorted(there) {
        return Ok(());
    }
    Err(DatabaseError::Misuse(
        "the file and PostgreSQL are not at the same migrations: start this release once on the \
         file, and give an empty database"
            .to_owned(),
    ))
}

/// What moves.
struct Source {
    lineage: String,
    era: i64,
    /// An earlier attempt came to its end, and could not say so in the file.
    finished: bool,
}

/// Checks that the target is empty or an earlier attempt's; returns what moves.
async fn begin(connection: &Connection, client: &Client) -> Result<Source, DatabaseError> {
    let (lineage, era): (String, i64) = connection
        .query_row("SELECT lineage, era FROM database_lineage", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .map_err(sqlite("database_lineage"))?;
    let there = client
        .query_one("SELECT lineage FROM database_lineage WHERE only_row = 1", &[])
        .await
        .map_err(postgres("database_lineage"))?;
    if there.get::<_, String>(0) == lineage {
        return Ok(Source { lineage, era, finished: true });
    }
    client
        .batch_execute(
            "CREATE TABLE IF NOT EXISTS database_move (
                 table_name TEXT PRIMARY KEY, lineage TEXT NOT NULL)",
        )
        .await
        .map_err(postgres("database_move"))?;
    let marks = client
        .query("SELECT DISTINCT lineage FROM database_move", &[])
        .await
        .map_err(postgres("database_move"))?;
    let rows = client
        .query_one("SELECT COUNT(*) FROM journal", &[])
        .await
        .map_err(postgres("journal"))?
        .get::<_, i64>(0);
    let others = marks.iter().any(|row| row.get::<_, String>(0) != lineage);
    if others || (marks.is_empty() && rows > 0) {
        return Err(DatabaseError::Misuse(
            "the PostgreSQL database holds another cloud's rows: give an empty one".to_owned(),
        ));
    }
    // From now on it is this move's.
    mark_done(client, "", &lineage).await?;
    Ok(Source { lineage, era, finished: false })
}

async fn done(client: &Client, table: &str) -> Result<bool, DatabaseError> {
    let row = client
        .query_opt("SELECT 1 FROM database_move WHERE table_name = $1", &[&table])
        .await
        .map_err(postgres("database_move"))?;
    Ok(row.is_some())
}

async fn mark_done(client: &Client, table: &str, lineage: &str) -> Result<(), DatabaseError> {
    client
        .execute(
            "INSERT INTO database_move (table_name, lineage) VALUES ($1, $2)
             ON CONFLICT (table_name) DO NOTHING",
            &[&table, &lineage],
        )
        .await
        .map(drop)
        .map_err(postgres("database_move"))
}

fn read(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Int(number),
        ValueRef::Real(number) => Value::Real(number),
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Value::Bytes(bytes.to_vec()),
    }
}

/// Calls `each` with the rows of a table, some at a time.
fn scan(
    connection: &Connection,
    table: &str,
    from: i64,
    limit: usize,
) -> Result<(Vec<Vec<Value>>, i64), DatabaseError> {
    let names = columns(connection, table)?.join(", ");
    let sql =
        format!("SELECT rowid, {names} FROM {table} WHERE rowid > ?1 ORDER BY rowid LIMIT {limit}");
    let mut statement = connection.prepare_cached(&sql).map_err(sqlite(&sql))?;
    let width = statement.column_count();
    let (mut rows, mut last) = (Vec::new(), from);
    let mut found = statement.query([from]).map_err(sqlite(&sql))?;
    while let Some(row) = found.next().map_err(sqlite(&sql))? {
        last = row.get(0).map_err(sqlite(&sql))?;
        let mut values = Vec::with_capacity(width - 1);
        for index in 1..width {
            values.push(read(row.get_ref(index).map_err(sqlite(&sql))?));
        }
        rows.push(values);
    }
    Ok((rows, last))
}

fn sum_sqlite(connection: &Connection, table: &str) -> Result<TableSum, DatabaseError> {
    let (mut sum, mut from) = (TableSum::default(), i64::MIN);
    loop {
        let (rows, last) = scan(connection, table, from, BATCH)?;
        rows.iter().for_each(|row| sum.add(row));
        if rows.len() < BATCH {
            return Ok(sum);
        }
        from = last;
    }
}

async fn sum_postgres(
    client: &Client,
    table: &str,
    names: &[String],
) -> Result<TableSum, DatabaseError> {
    let sql = format!("SELECT {} FROM {table}", names.join(", "));
    let none: [&(dyn ToSql + Sync); 0] = [];
    let rows = client.query_raw(sql.as_str(), none).await.map_err(postgres(&sql))?;
    let mut rows = std::pin::pin!(rows);
    let mut sum = TableSum::default();
    while let Some(row) = rows.try_next().await.map_err(postgres(&sql))? {
        let mut values = Vec::with_capacity(row.len());
        for index in 0..row.len() {
            let cell: Cell = row.try_get(index).map_err(postgres(&sql))?;
            values.push(cell.0);
        }
        sum.add(&values);
    }
    Ok(sum)
}

/// Copies a table anew, whatever an earlier attempt left of it.
async fn copy(
    connection: &Connection,
    client: &Client,
    table: &str,
    names: &[String],
) -> Result<(), DatabaseError> {
    client.batch_execute(&format!("DELETE FROM {table}")).await.map_err(postgres(table))?;
    let places: Vec<String> = (1..=names.len()).map(|at| format!("${at}")).collect();
    let sql = format!(
        "INSERT INTO {table} ({}) OVERRIDING SYSTEM VALUE VALUES ({})",
        names.join(", "),
        places.join(", ")
    );
    let statement = client.prepare(&sql).await.map_err(postgres(&sql))?;
    let mut from = i64::MIN;
    loop {
        let (rows, last) = scan(connection, table, from, BATCH)?;
        client.batch_execute("BEGIN").await.map_err(postgres("BEGIN"))?;
        for row in &rows {
            let params: Vec<Param<'_>> = row.iter().map(Param).collect();
            let params: Vec<&(dyn ToSql + Sync)> =
                params.iter().map(|param| param as &(dyn ToSql + Sync)).collect();
            if let Err(error) = client.execute(&statement, &params).await {
                let error = crate::postgres::classify(&error, &sql);
                client.batch_execute("ROLLBACK").await.map_err(postgres("ROLLBACK"))?;
                return Err(error);
            }
        }
        client.batch_execute("COMMIT").await.map_err(postgres("COMMIT"))?;
        if rows.len() < BATCH {
            return Ok(());
        }
        from = last;
    }
}

/// The lineage goes along, the journal's numbers go on, and the marks of the move go.
async fn finish(
    connection: &Connection,
    client: &Client,
    source: &Source,
) -> Result<(), DatabaseError> {
    let next: i64 = connection
        .query_row(
            "SELECT COALESCE(MAX(seq), 0) FROM sqlite_sequence WHERE name = 'journal'",
            [],
            |row| row.get(0),
        )
        .map_err(sqlite("sqlite_sequence"))?;
    client.batch_execute("BEGIN").await.map_err(postgres("BEGIN"))?;
    let renumber =
        "SELECT setval(pg_get_serial_sequence('journal', 'sequence'), $1, true)::text AS next";
    client.query_one(renumber, &[&next.max(1)]).await.map_err(postgres(renumber))?;
    client
        .execute(
            "UPDATE database_lineage SET lineage = $1, era = $2 WHERE only_row = 1",
            &[&source.lineage, &(source.era + 1)],
        )
        .await
        .map_err(postgres("database_lineage"))?;
    client.batch_execute("DROP TABLE database_move").await.map_err(postgres("database_move"))?;
    client.batch_execute("COMMIT").await.map_err(postgres("COMMIT"))
}
