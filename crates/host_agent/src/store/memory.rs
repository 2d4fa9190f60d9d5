//! What the agent remembers of servers, operations and conntrack zones.

use std::collections::BTreeSet;

use host_protocol::OperationDirection;
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{DocumentStore, Result, StoreError, from_sql, now_micros, relaxed, to_sql};

/// What is known of a server across restarts of the agent and of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerMemory {
    /// Counts the starts; raised, durably, before each.
    pub incarnation: u64,
    /// The generation that was in force when the guest switched itself off: it is not started
    /// again for the same generation.
    pub powered_off_generation: Option<u64>,
}

/// What became of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationOutcome {
    /// Accepted, under way.
    Pending,
    /// Done.
    Done,
    /// It failed; why.
    Failed(String),
}

/// What was done for one `workflow/step`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationMemory {
    /// The last direction that was accepted. After an undo, no forward is.
    pub direction: OperationDirection,
    /// How far it is.
    pub outcome: OperationOutcome,
    /// The server's incarnation when it was accepted: a reboot is done when a later one runs,
    /// also when the agent was killed half-way.
    pub from_incarnation: u64,
}

impl DocumentStore {
    /// What is remembered of a server; the default when nothing is.
    pub async fn server_memory(&self, server_id: &str) -> Result<ServerMemory> {
        let id = server_id.to_owned();
        self.run(move |connection| {
            Ok(read_json(connection, "SELECT memory FROM servers WHERE id = ?1", &id)?
                .unwrap_or_default())
        })
        .await
    }

    /// Remembers, durably. The server must have its slot.
    pub async fn set_server_memory(&self, server_id: &str, memory: ServerMemory) -> Result<()> {
        let id = server_id.to_owned();
        self.run(move |connection| {
            connection
                .prepare_cached("UPDATE servers SET memory = ?2 WHERE id = ?1")?
                .execute(params![id, to_json(&memory)?])?;
            Ok(())
        })
        .await
    }

    /// The server's slot among the host's user ids, given out on first use and kept until
    /// [`DocumentStore::forget_server`]. `wanted` is taken when it is free: files of a server
    /// that the store has lost belong to a user already.
    pub async fn server_slot(
        &self,
        server_id: &str,
        slots: u32,
        wanted: Option<u32>,
    ) -> Result<u32> {
        let id = server_id.to_owned();
        self.run(move |connection| {
            let transaction = connection.transaction()?;
            let stored: Option<u32> = transaction
                .prepare_cached("SELECT slot FROM servers WHERE id = ?1")?
                .query_row([&id], |row| row.get(0))
                .optional()?;
            if let Some(slot) = stored {
                return Ok(slot);
            }
            let slot = match wanted {
                Some(slot) if !taken(&transaction, slot)? => slot,
                _ => lowest_free(&transaction, "SELECT slot FROM servers ORDER BY slot", 0, slots)?
                    .ok_or_else(|| {
                        StoreError::Exhausted(format!(
                            "all {slots} user ids of this host are taken"
                        ))
                    })?,
            };
            transaction.execute(
                "INSERT INTO servers (id, slot, memory) VALUES (?1, ?2, '{}')",
                params![id, slot],
            )?;
            transaction.commit()?;
            Ok(slot)
        })
        .await
    }

    /// Forgets a server whose tombstone has been carried out.
    pub async fn forget_server(&self, server_id: &str) -> Result<()> {
        let id = server_id.to_owned();
        self.run(move |connection| {
            connection.execute("DELETE FROM servers WHERE id = ?1", [id])?;
            Ok(())
        })
        .await
    }

    /// The highest worker epoch seen for a workflow.
    pub async fn workflow_epoch(&self, workflow: &str) -> Result<u64> {
        let workflow = workflow.to_owned();
        self.run(move |connection| {
            let epoch: Option<i64> = connection
                .query_row("SELECT epoch FROM workflows WHERE workflow = ?1", [workflow], |row| {
                    row.get(0)
                })
                .optional()?;
            Ok(epoch.map_or(0, from_sql))
        })
        .await
    }

    /// What was done for an operation.
    pub async fn operation(&self, id: &str) -> Result<Option<OperationMemory>> {
        let id = id.to_owned();
        self.run(move |connection| {
            read_json(connection, "SELECT memory FROM operations WHERE id = ?1", &id)
        })
        .await
    }

    /// Everything that is remembered of operations, by id; also from outside the agent.
    #[cfg(feature = "simulated")]
    pub fn operations(&self) -> Result<std::collections::BTreeMap<String, OperationMemory>> {
        let connection = self.connection.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut statement = connection.prepare_cached("SELECT id, memory FROM operations")?;
        let rows = statement
            .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        rows.into_iter()
            .map(|(id, text)| {
                let memory = serde_json::from_str(&text).map_err(|error| {
                    StoreError::Unreadable { place: id.clone(), message: error.to_string() }
                })?;
                Ok((id, memory))
            })
            .collect()
    }

    /// Remembers an operation, and its workflow's epoch, durably.
    pub async fn set_operation(
        &self,
        id: &str,
        workflow: &str,
        worker_epoch: u64,
        memory: OperationMemory,
    ) -> Result<()> {
        let (id, workflow) = (id.to_owned(), workflow.to_owned());
        self.run(move |connection| {
            let transaction = connection.transaction()?;
            transaction.execute(
                "INSERT INTO workflows (workflow, epoch, seen_at) VALUES (?1, ?2, ?3)
                 ON CONFLICT (workflow) DO UPDATE SET epoch = max(epoch, ?2), seen_at = ?3",
                params![workflow, to_sql(worker_epoch), now_micros()],
            )?;
            transaction.execute(
                "INSERT INTO operations (id, memory, seen_at) VALUES (?1, ?2, ?3)
                 ON CONFLICT (id) DO UPDATE SET memory = ?2, seen_at = ?3",
                params![id, to_json(&memory)?, now_micros()],
            )?;
            transaction.commit()?;
            Ok(())
        })
        .await
    }

    /// Conntrack zones of these ports, given out on first use. Zones of ports that are not named
    /// stay taken until [`DocumentStore::free_zone`].
    ///
    /// Not synced: connections and their zones end with the power too.
    pub async fn zones(&self, ports: Vec<String>) -> Result<Vec<(String, u16)>> {
        self.run(move |connection| {
            let mut zones = Vec::with_capacity(ports.len());
            let mut new = Vec::new();
            for port in ports {
                let stored: Option<u16> = connection
                    .prepare_cached("SELECT zone FROM zones WHERE port = ?1")?
                    .query_row([&port], |row| row.get(0))
                    .optional()?;
                match stored {
                    Some(zone) => zones.push((port, zone)),
                    None => new.push(port),
                }
            }
            if new.is_empty() {
                return Ok(zones);
            }
            relaxed(connection, |transaction| {
                for port in new {
                    let query = "SELECT zone FROM zones ORDER BY zone";
                    let zone = lowest_free(transaction, query, 1, u32::from(u16::MAX))?
                        .and_then(|zone| u16::try_from(zone).ok())
                        .ok_or_else(|| {
                            StoreError::Exhausted("all conntrack zones are taken".to_owned())
                        })?;
                    transaction.execute(
                        "INSERT INTO zones (port, zone) VALUES (?1, ?2)",
                        params![port, zone],
                    )?;
                    zones.push((port, zone));
                }
                Ok(zones)
            })
        })
        .await
    }

    /// The zone of a port that is going, if it has one.
    pub async fn zone_of(&self, port: &str) -> Result<Option<u16>> {
        let port = port.to_owned();
        self.run(move |connection| {
            Ok(connection
                .query_row("SELECT zone FROM zones WHERE port = ?1", [port], |row| row.get(0))
                .optional()?)
        })
        .await
    }

    /// Frees the zone of a port that is gone, after it was flushed.
    pub async fn free_zone(&self, port: &str) -> Result<()> {
        let port = port.to_owned();
        self.run(move |connection| {
            connection.execute("DELETE FROM zones WHERE port = ?1", [port])?;
            Ok(())
        })
        .await
    }
}

fn taken(connection: &Connection, slot: u32) -> Result<bool> {
    Ok(connection
        .query_row("SELECT 1 FROM servers WHERE slot = ?1", [slot], |_| Ok(()))
        .optional()?
        .is_some())
}

/// The lowest number from `first` to `last - 1` that the ordered query does not yield.
fn lowest_free(connection: &Connection, query: &str, first: u32, last: u32) -> Result<Option<u32>> {
    let mut statement = connection.prepare_cached(query)?;
    let used: BTreeSet<u32> =
        statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    Ok((first..last).find(|number| !used.contains(number)))
}

fn read_json<T: DeserializeOwned>(
    connection: &Connection,
    query: &str,
    id: &str,
) -> Result<Option<T>> {
    let text: Option<String> =
        connection.prepare_cached(query)?.query_row([id], |row| row.get(0)).optional()?;
    text.map(|text| {
        serde_json::from_str(&text).map_err(|error| StoreError::Unreadable {
            place: id.to_owned(),
            message: error.to_string(),
        })
    })
    .transpose()
}

fn to_json<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| StoreError::Unreadable {
        place: "memory".to_owned(),
        message: error.to_string(),
    })
}
