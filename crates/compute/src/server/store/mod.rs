//! The rows of servers. [`listing`] composes lists, [`actions`] keeps what was done to a server.

mod actions;
mod listing;
mod purge;

use std::collections::{BTreeSet, HashMap};

use cloud_types::{HostId, ServerId, UserId};
use database::{DatabaseError, JournalEntry, ObjectLock, Row, Tx, Value, params};
use host_protocol::DesiredPower;

pub use actions::{
    ActionEvent, ActionFilter, ActionRecord, action, actions_of, begin_action, begin_action_as,
    begin_event, events_of, finish_action, finish_event,
};
pub use listing::{Deleted, ListQuery, SORT_KEYS, TagFilter, list};
pub use purge::purge_deleted;

use super::model::{DiskConfig, Fixed, HostRef, LockedBy, Payload, Power, Server, State};

/// The kind of object in locks, journal and notifications.
pub const KIND: &str = "server";

macro_rules! columns {
    () => {
        "id, project_id, user_id, name, hostname, description, vm_state, task_state, power_state, \
         desired_power, progress, host_id, host_name, placement_epoch, zone, requested_zone, \
         reservation_id, launch_index, locked_by, locked_reason, access_ipv4, access_ipv6, \
         disk_config, config_drive, metadata, security_groups, fixed, fault, created_at, updated_at, \
         launched_at, terminated_at, deleted_at, generation"
    };
}
pub(crate) use columns;

fn desired_word(desired: DesiredPower) -> &'static str {
    match desired {
        DesiredPower::Running => "running",
        DesiredPower::Stopped => "stopped",
    }
}

pub(super) fn read(row: &Row) -> Result<Server, DatabaseError> {
    let host = match (row.opt_parse::<HostId>("host_id")?, row.opt_text("host_name")?) {
        (Some(id), Some(name)) => Some(HostRef { id, name }),
        _ => None,
    };
    Ok(Server {
        id: row.parse("id")?,
        project: row.parse("project_id")?,
        user: row.parse::<UserId>("user_id")?,
        name: row.text("name")?,
        hostname: row.text("hostname")?,
        description: row.opt_text("description")?,
        state: State { vm: row.parse("vm_state")?, task: row.opt_parse("task_state")? },
        power: Power::from_code(row.int("power_state")?),
        desired: match row.opt_str("desired_power")? {
            Some("stopped") => DesiredPower::Stopped,
            _ => DesiredPower::Running,
        },
        progress: u8::try_from(row.int("progress")?).unwrap_or(0),
        host,
        epoch: row.u64("placement_epoch")?,
        zone: row.text("zone")?,
        requested_zone: row.opt_text("requested_zone")?,
        reservation_id: row.text("reservation_id")?,
        launch_index: row.u32("launch_index")?,
        locked_by: row.opt_str("locked_by")?.and_then(LockedBy::parse),
        locked_reason: row.opt_text("locked_reason")?,
        access_ipv4: row.opt_parse("access_ipv4")?,
        access_ipv6: row.opt_parse("access_ipv6")?,
        disk_config: row.opt_str("disk_config")?.and_then(DiskConfig::parse).unwrap_or_default(),
        config_drive: row.bool("config_drive")?,
        metadata: row.json("metadata")?,
        security_groups: row.json("security_groups")?,
        fixed: row.json("fixed")?,
        fault: row.opt_json("fault")?,
        created_at: row.timestamp("created_at")?,
        updated_at: row.timestamp("updated_at")?,
        launched_at: row.opt_timestamp("launched_at")?,
        terminated_at: row.opt_timestamp("terminated_at")?,
        deleted_at: row.opt_timestamp("deleted_at")?,
        generation: row.int("generation")?,
    })
}

/// JSON of our own types as text; they serialise always.
fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}

/// Stores a new server with its large parts and tags, and journals it.
pub async fn insert(
    tx: &mut Tx,
    server: &mut Server,
    payload: &Payload,
    tags: &BTreeSet<String>,
) -> Result<(), DatabaseError> {
    server.generation = 1;
    tx.execute(
        "INSERT INTO servers (id, project_id, user_id, name, hostname, description, vm_state,
             task_state, power_state, status, desired_power, progress, host_id, host_name,
             placement_epoch, zone, requested_zone, flavor_id, image_id, key_name, reservation_id,
             launch_index, locked_by, locked_reason, access_ipv4, access_ipv6, disk_config,
             config_drive, metadata, security_groups, fixed, fault, created_at, updated_at,
             launched_at, terminated_at, deleted_at, generation)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,
             $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35,
             $36, $37, $38)",
        &params![
            server.id,
            server.project,
            server.user,
            server.name,
            server.hostname,
            server.description,
            server.state.vm.as_str(),
            server.state.task.map(|task| task.as_str().to_owned()),
            server.power.code(),
            server.state.status(),
            desired_word(server.desired),
            server.progress,
            server.host.as_ref().map(|host| host.id),
            server.host.as_ref().map(|host| host.name.clone()),
            server.epoch,
            server.zone,
            server.requested_zone,
            server.fixed.flavor.id,
            server.fixed.image.as_ref().map(|image| image.id),
            server.key_name().map(str::to_owned),
            server.reservation_id,
            server.launch_index,
            server.locked_by.map(|by| by.as_str().to_owned()),
            server.locked_reason,
            server.access_ipv4.map(|ip| ip.to_string()),
            server.access_ipv6.map(|ip| ip.to_string()),
            server.disk_config.as_str(),
            server.config_drive,
            json(&server.metadata),
            json(&server.security_groups),
            json(&server.fixed),
            server.fault.as_ref().map(json),
            server.created_at,
            server.updated_at,
            server.launched_at,
            server.terminated_at,
            server.deleted_at,
            server.generation
        ],
    )
    .await?;
    if *payload != Payload::default() {
        tx.execute(
            "INSERT INTO server_payloads (server_id, user_data, personality) VALUES ($1, $2, $3)",
            &params![server.id, payload.user_data, json(&payload.personality)],
        )
        .await?;
    }
    for tag in tags {
        add_tag(tx, server.id, tag).await?;
    }
    tx.journal(JournalEntry {
        kind: KIND,
        id: server.id.to_string(),
        project: Some(server.project.clone()),
        action: "create",
        before: None,
        after: Some(server.journal_view()),
    });
    Ok(())
}

/// The server, deleted ones included.
pub async fn get(tx: &mut Tx, id: ServerId) -> Result<Option<Server>, DatabaseError> {
    tx.query_opt(concat!("SELECT ", columns!(), " FROM servers WHERE id = $1"), &params![id])
        .await?
        .map(|row| read(&row))
        .transpose()
}

/// The server, after queueing behind whoever changes it.
pub async fn get_locked(tx: &mut Tx, id: ServerId) -> Result<Option<Server>, DatabaseError> {
    tx.lock(&[ObjectLock::new(KIND, id)]).await?;
    get(tx, id).await
}

/// Stores what changed since `before` was read, if anything did, and journals it.
pub async fn save(tx: &mut Tx, before: &Server, server: &mut Server) -> Result<(), DatabaseError> {
    if before == server {
        return Ok(());
    }
    server.updated_at = tx.now();
    let changed = tx
        .execute(
            "UPDATE servers SET name = $1, hostname = $2, description = $3, vm_state = $4,
                 task_state = $5, power_state = $6, status = $7, desired_power = $8, progress = $9,
                 host_id = $10, host_name = $11, placement_epoch = $12, zone = $13,
                 locked_by = $14, locked_reason = $15, access_ipv4 = $16, access_ipv6 = $17,
                 disk_config = $18, metadata = $19, fault = $20, updated_at = $21,
                 launched_at = $22, terminated_at = $23, deleted_at = $24, requested_zone = $25,
                 generation = generation + 1
             WHERE id = $26 AND generation = $27",
            &params![
                server.name,
                server.hostname,
                server.description,
                server.state.vm.as_str(),
                server.state.task.map(|task| task.as_str().to_owned()),
                server.power.code(),
                server.state.status(),
                desired_word(server.desired),
                server.progress,
                server.host.as_ref().map(|host| host.id),
                server.host.as_ref().map(|host| host.name.clone()),
                server.epoch,
                server.zone,
                server.locked_by.map(|by| by.as_str().to_owned()),
                server.locked_reason,
                server.access_ipv4.map(|ip| ip.to_string()),
                server.access_ipv6.map(|ip| ip.to_string()),
                server.disk_config.as_str(),
                json(&server.metadata),
                server.fault.as_ref().map(json),
                server.updated_at,
                server.launched_at,
                server.terminated_at,
                server.deleted_at,
                server.requested_zone,
                server.id,
                server.generation
            ],
        )
        .await?;
    tx.expect_one(changed, KIND, server.id)?;
    server.generation += 1;
    let gone = server.deleted_at.is_some() && before.deleted_at.is_none();
    let (was, is) = (before.journal_view(), server.journal_view());
    // With its deletion a server's story ends, though its row may still be tidied.
    if gone || (server.deleted_at.is_none() && was != is) {
        tx.journal(JournalEntry {
            kind: KIND,
            id: server.id.to_string(),
            project: Some(server.project.clone()),
            action: if gone { "delete" } else { "update" },
            before: Some(was),
            after: (!gone).then_some(is),
        });
    }
    Ok(())
}

/// Every server that is not deleted, with its name and its host, by id.
pub async fn placements(
    tx: &mut Tx,
) -> Result<Vec<(ServerId, String, Option<HostId>)>, DatabaseError> {
    let rows = tx
        .query("SELECT id, name, host_id FROM servers WHERE deleted_at IS NULL ORDER BY id", &[])
        .await?;
    rows.iter()
        .map(|row| Ok((row.parse("id")?, row.text("name")?, row.opt_parse("host_id")?)))
        .collect()
}

/// Somebody who made a server in the project.
pub async fn user_of_project(tx: &mut Tx, project: &str) -> Result<Option<UserId>, DatabaseError> {
    let row = tx
        .query_opt(
            "SELECT user_id FROM servers WHERE project_id = $1 ORDER BY created_at, id LIMIT 1",
            &params![project],
        )
        .await?;
    row.map(|row| row.parse("user_id")).transpose()
}

/// Replaces what otherwise never changes: after a restore, by what the host has.
pub async fn set_fixed(tx: &mut Tx, id: ServerId, fixed: &Fixed) -> Result<(), DatabaseError> {
    tx.execute("UPDATE servers SET fixed = $2 WHERE id = $1", &params![id, json(fixed)]).await?;
    Ok(())
}

/// The large parts of a server.
pub async fn payload(tx: &mut Tx, id: ServerId) -> Result<Payload, DatabaseError> {
    let row = tx
        .query_opt(
            "SELECT user_data, personality FROM server_payloads WHERE server_id = $1",
            &params![id],
        )
        .await?;
    Ok(match row {
        None => Payload::default(),
        Some(row) => {
            Payload { user_data: row.opt_text("user_data")?, personality: row.json("personality")? }
        }
    })
}

/// Forgets the large parts, which may hold secrets, of a server that is gone.
pub async fn forget_payload(tx: &mut Tx, id: ServerId) -> Result<(), DatabaseError> {
    tx.execute("DELETE FROM server_payloads WHERE server_id = $1", &params![id]).await?;
    Ok(())
}

/// Servers on the host that were made with a NIC on the port.
pub async fn with_nic(
    tx: &mut Tx,
    host: &HostId,
    port: &str,
) -> Result<Vec<ServerId>, DatabaseError> {
    // Identifiers hold nothing that means something to LIKE, and stand in JSON between quotes.
    let pattern = format!("%\"{port}\"%");
    let rows = tx
        .query(
            "SELECT id FROM servers WHERE host_id = $1 AND deleted_at IS NULL AND fixed LIKE $2 \
             ORDER BY id",
            &params![host, pattern],
        )
        .await?;
    rows.iter().map(|row| row.parse("id")).collect()
}

/// `$1, $2, …` for `ids`, from parameter `first` on.
pub(super) fn placeholders(first: usize, count: usize) -> String {
    (first..first + count).map(|number| format!("${number}")).collect::<Vec<_>>().join(", ")
}

/// User data of many servers.
pub async fn user_data_of(
    tx: &mut Tx,
    ids: &[ServerId],
) -> Result<HashMap<ServerId, String>, DatabaseError> {
    let mut found = HashMap::new();
    for part in ids.chunks(500) {
        let sql = format!(
            "SELECT server_id, user_data FROM server_payloads WHERE user_data IS NOT NULL AND server_id IN ({})",
            placeholders(1, part.len())
        );
        let ids: Vec<Value> = part.iter().map(Value::from).collect();
        for row in tx.query_dynamic(sql, &ids).await? {
            found.insert(row.parse("server_id")?, row.text("user_data")?);
        }
    }
    Ok(found)
}

/// Tags of many servers, sorted.
pub async fn tags_of(
    tx: &mut Tx,
    ids: &[ServerId],
) -> Result<HashMap<ServerId, Vec<String>>, DatabaseError> {
    let mut found: HashMap<ServerId, Vec<String>> = HashMap::new();
    for part in ids.chunks(500) {
        let sql = format!(
            "SELECT server_id, tag FROM server_tags WHERE server_id IN ({}) ORDER BY tag",
            placeholders(1, part.len())
        );
        let ids: Vec<Value> = part.iter().map(Value::from).collect();
        for row in tx.query_dynamic(sql, &ids).await? {
            found.entry(row.parse("server_id")?).or_default().push(row.text("tag")?);
        }
    }
    Ok(found)
}

/// Adds a tag; whether it was new.
pub async fn add_tag(tx: &mut Tx, id: ServerId, tag: &str) -> Result<bool, DatabaseError> {
    let added = tx
        .execute(
            "INSERT INTO server_tags (server_id, tag) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            &params![id, tag],
        )
        .await?;
    Ok(added == 1)
}

/// Takes a tag away; whether it was there.
pub async fn remove_tag(tx: &mut Tx, id: ServerId, tag: &str) -> Result<bool, DatabaseError> {
    let removed = tx
        .execute("DELETE FROM server_tags WHERE server_id = $1 AND tag = $2", &params![id, tag])
        .await?;
    Ok(removed == 1)
}

/// Takes all tags away.
pub async fn clear_tags(tx: &mut Tx, id: ServerId) -> Result<(), DatabaseError> {
    tx.execute("DELETE FROM server_tags WHERE server_id = $1", &params![id]).await?;
    Ok(())
}

/// Servers that are on hosts, by host: id and name.
pub async fn by_host(
    tx: &mut Tx,
) -> Result<HashMap<HostId, Vec<(ServerId, String)>>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT host_id, id, name FROM servers
             WHERE host_id IS NOT NULL AND deleted_at IS NULL ORDER BY created_at, id",
            &[],
        )
        .await?;
    let mut found: HashMap<HostId, Vec<(ServerId, String)>> = HashMap::new();
    for row in rows {
        found.entry(row.parse("host_id")?).or_default().push((row.parse("id")?, row.text("name")?));
    }
    Ok(found)
}
