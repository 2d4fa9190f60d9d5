//! Joining, finding and switching hosts.

use std::collections::BTreeMap;
use std::time::Duration;

use cloud_types::{Fault, HostId, Timestamp};
use database::{DatabaseError, JournalEntry, ObjectLock, Tx};
use host_protocol::{DocumentKind, HostFacts, HostSpec, Position};
use rand::Rng;
use sha2::{Digest, Sha256};

use super::SESSIONS;
use super::model::{Host, HostState, JOIN_TOKEN_HOURS, MAX_HOST_NUMBER, is_host_name};
use super::store::{self, JoinToken};
use crate::{documents, reports};

/// Makes a one-time join token. Only its SHA-256 is stored; the text is shown once.
pub async fn create_join_token(
    tx: &mut Tx,
    zone: &str,
    cluster: &str,
    l2_domain: &str,
) -> Result<String, Fault> {
    for (what, name) in [("zone", zone), ("cluster", cluster), ("L2 domain", l2_domain)] {
        if !is_host_name(name) {
            return Err(Fault::bad_request(format!(
                "{name:?} cannot name a {what}: use letters, digits, dots and dashes, at most 63."
            )));
        }
    }
    let secret: [u8; 32] = rand::rng().random();
    let text = format!("mj1-{}", hex::encode(secret));
    let token = JoinToken {
        zone: zone.to_owned(),
        cluster: cluster.to_owned(),
        l2_domain: l2_domain.to_owned(),
        expires_at: tx.now().after(Duration::from_secs(JOIN_TOKEN_HOURS * 3600)),
        used_by: None,
        used_key: None,
    };
    store::insert_token(tx, &hash(&text), &token).await?;
    tx.journal(JournalEntry {
        kind: "host_join_token",
        // Enough to tell tokens apart, and no help to guess one.
        id: hash(&text)[..12].to_owned(),
        project: None,
        action: "create",
        before: None,
        after: Some(serde_json::json!({
            "zone": zone, "cluster": cluster, "l2_domain": l2_domain,
        })),
    });
    Ok(text)
}

/// Forgets join tokens that ended before `before`, at most `limit`. Returns how many.
pub async fn forget_tokens(
    tx: &mut Tx,
    before: Timestamp,
    limit: u32,
) -> Result<u64, DatabaseError> {
    store::forget_tokens(tx, before, limit).await
}

fn hash(secret: impl AsRef<[u8]>) -> String {
    hex::encode(Sha256::digest(secret))
}

/// Takes a new host in: uses the token up, gives the host its number, and writes the document by
/// which it knows who it is.
///
/// The answer may get lost. Who holds the key that joined, and asks again while the token lives, is
/// told of the same host again; the caller has checked that the key is held. `key` is the public
/// key, in whatever form is always the same.
///
/// # Errors
/// 400 for a name that cannot be one, 401 for a token that is unknown, used by another key or
/// expired (the three are not told apart), 409 for a name that is taken, also by oneself, or a
/// domain that is full.
pub async fn enrol(tx: &mut Tx, token: &str, name: &str, key: &[u8]) -> Result<Host, Fault> {
    if !is_host_name(name) {
        return Err(Fault::bad_request(format!(
            "{:?} cannot be a host's name: use letters, digits, dots and dashes, at most 63.",
            name.chars().take(80).collect::<String>()
        )));
    }
    let refused = || {
        Fault::unauthorized(
            "The join token is unknown, was used already, or has expired. Ask an operator for a new one (`meridian host token`).",
        )
    };
    let token_hash = hash(token);
    tx.lock(&[ObjectLock::new("host_join_token", &token_hash), ObjectLock::new("hosts", "all")])
        .await?;
    let known = store::token(tx, &token_hash).await?.ok_or_else(refused)?;
    if known.expires_at <= tx.now() {
        return Err(refused());
    }
    let key = hash(key);
    if let Some(host) = known.used_by {
        if known.used_key.as_ref() != Some(&key) {
            return Err(refused());
        }
        let host = store::get(tx, &host).await?.ok_or_else(refused)?;
        if host.name != name {
            return Err(Fault::conflict(format!(
                "This machine has joined as {} by this token. Ask again under that name.",
                host.name
            )));
        }
        return Ok(host);
    }
    if store::get_by_name(tx, name).await?.is_some() {
        return Err(Fault::conflict(format!(
            "There is a host named {name} already. Join under another name."
        )));
    }
    let number = store::next_host_number(tx, &known.l2_domain).await?;
    if number > MAX_HOST_NUMBER {
        return Err(Fault::conflict(format!(
            "L2 domain {} has given out all {MAX_HOST_NUMBER} host numbers. Use another L2 domain.",
            known.l2_domain
        )));
    }
    let host = Host {
        id: HostId::random(),
        name: name.to_owned(),
        host_number: u16::try_from(number).unwrap_or_default(),
        l2_domain: known.l2_domain,
        zone: known.zone,
        cluster: known.cluster,
        state: HostState::Enabled,
        facts: None,
        last_seen: None,
        created_at: tx.now(),
        updated_at: tx.now(),
        generation: 1,
    };
    if store::use_token(tx, &token_hash, host.id, &key).await? != 1 {
        return Err(refused());
    }
    store::insert(tx, &host).await?;
    documents::open(tx, &host.id).await?;
    tx.journal(JournalEntry {
        kind: "host",
        id: host.id.to_string(),
        project: None,
        action: "create",
        before: None,
        after: Some(serde_json::json!({
            "name": host.name, "host_number": host.host_number, "l2_domain": host.l2_domain,
            "zone": host.zone, "cluster": host.cluster,
        })),
    });
    introduce(tx, &host).await?;
    Ok(host)
}

/// Tells a host who it is. It is not told of its peers: what it needs to know of another host stands
/// in the neighbours' documents, and a list of all would be written anew on every host by each that
/// joins.
async fn introduce(tx: &mut Tx, host: &Host) -> Result<(), Fault> {
    let spec = HostSpec {
        name: host.name.clone(),
        host_number: host.host_number,
        l2_domain: host.l2_domain.clone(),
        zone: host.zone.clone(),
        cluster: host.cluster.clone(),
    };
    documents::put(tx, &host.id, DocumentKind::Host, &host.id.to_string(), 0, &spec).await?;
    Ok(())
}

/// A host by its id.
pub async fn get(tx: &mut Tx, id: &HostId) -> Result<Option<Host>, DatabaseError> {
    store::get(tx, id).await
}

/// A host by its name.
pub async fn get_by_name(tx: &mut Tx, name: &str) -> Result<Option<Host>, DatabaseError> {
    store::get_by_name(tx, name).await
}

/// All hosts, by name.
pub async fn list(tx: &mut Tx) -> Result<Vec<Host>, DatabaseError> {
    store::list(tx).await
}

/// A host opens its stream: the number of its session, which ends every earlier one.
///
/// # Errors
/// 403 when there is no such host (any more): its certificate outlived it.
pub async fn connected(tx: &mut Tx, id: &HostId) -> Result<u64, Fault> {
    let session = store::open_session(tx, id).await?.ok_or_else(|| unknown(id))?;
    tx.notify(SESSIONS, format!("{id} {session}"));
    Ok(session)
}

/// Checks that what a host says comes through its newest stream, and not through one that it has
/// given up: a replica that was stopped may hold a message for long. 0 is not checked.
///
/// # Errors
/// 409 when it does not; 403 when there is no such host.
pub async fn check_session(tx: &mut Tx, id: &HostId, session: u64) -> Result<(), Fault> {
    let newest = store::session(tx, id).await?.ok_or_else(|| unknown(id))?;
    if session != 0 && session < newest {
        return Err(Fault::conflict(format!(
            "This comes through stream {session}; the host has opened stream {newest} since. Send \
             it again there."
        )));
    }
    Ok(())
}

fn unknown(id: &HostId) -> Fault {
    Fault::forbidden(format!("There is no host {id} in this region (any more)."))
}

/// A host gave a sign of life. Not journalled.
///
/// # Errors
/// 403 when there is no such host.
pub async fn seen(tx: &mut Tx, id: &HostId) -> Result<(), Fault> {
    if !store::exists(tx, id).await? {
        return Err(unknown(id));
    }
    store::seen(tx, id);
    Ok(())
}

/// Many hosts gave signs of life, each through the stream of a session. Not journalled.
///
/// Answers, of each host, the session that it opened last and the position given out last. One that
/// is missing is gone; one whose session is a later one was not seen by this stream.
pub async fn seen_together(
    tx: &mut Tx,
    streams: &BTreeMap<HostId, u64>,
) -> Result<BTreeMap<HostId, (u64, Position)>, DatabaseError> {
    let hosts: Vec<HostId> = streams.keys().copied().collect();
    let known = store::sequences(tx, &hosts).await?;
    for (host, (newest, _)) in &known {
        if streams.get(host) == Some(newest) {
            store::seen(tx, host);
        }
    }
    Ok(known)
}

/// At most `limit` hosts in the order of their ids, after one; of one L2 domain, if it is named.
pub async fn page(
    tx: &mut Tx,
    after: Option<HostId>,
    l2_domain: Option<&str>,
    limit: u32,
) -> Result<Vec<Host>, DatabaseError> {
    store::page(tx, after, l2_domain, limit).await
}

/// Stores what a host says of itself, when it changed.
pub(crate) async fn set_facts(
    tx: &mut Tx,
    id: &HostId,
    facts: &HostFacts,
) -> Result<(), DatabaseError> {
    let known = store::get(tx, id).await?.and_then(|host| host.facts);
    if known.as_ref() != Some(facts) {
        store::set_facts(tx, id, facts).await?;
    }
    Ok(())
}

/// Lets a host be given new servers, or (with a reason) no more.
///
/// # Errors
/// 404 when there is no such host.
pub async fn set_enabled(
    tx: &mut Tx,
    id: &HostId,
    disabled_reason: Option<&str>,
) -> Result<(), Fault> {
    if store::set_enabled(tx, id, disabled_reason).await? != 1 {
        return Err(Fault::not_found(format!("There is no host {id}.")));
    }
    tx.journal(JournalEntry {
        kind: "host",
        id: id.to_string(),
        project: None,
        action: "update",
        before: None,
        after: Some(serde_json::json!({
            "enabled": disabled_reason.is_none(), "reason": disabled_reason,
        })),
    });
    Ok(())
}

/// Forgets a host on which nothing is left. Its number is not given out again, and the others of
/// its L2 domain learn that it is gone.
///
/// # Errors
/// 404 when there is no such host, 409 while it has documents besides its own.
pub async fn remove(tx: &mut Tx, id: &HostId) -> Result<(), Fault> {
    tx.lock(&[ObjectLock::new("host", id), ObjectLock::new("hosts", "all")]).await?;
    let host = store::get(tx, id)
        .await?
        .ok_or_else(|| Fault::not_found(format!("There is no host {id}.")))?;
    let left = documents::count_besides_host(tx, id).await?;
    if left > 0 {
        return Err(Fault::conflict(format!(
            "Host {} still has {left} documents (servers, ports, networks). Move or delete its \
             servers first.",
            host.name
        )));
    }
    documents::close(tx, id).await?;
    reports::forget_host(tx, id).await?;
    store::delete(tx, id).await?;
    tx.journal(JournalEntry {
        kind: "host",
        id: id.to_string(),
        project: None,
        action: "delete",
        before: Some(serde_json::json!({
            "name": host.name, "host_number": host.host_number, "l2_domain": host.l2_domain,
            "zone": host.zone, "cluster": host.cluster,
        })),
        after: None,
    });
    Ok(())
}
