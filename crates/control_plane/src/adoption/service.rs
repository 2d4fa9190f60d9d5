//! Loading what is compared, and doing what was confirmed.

use std::collections::BTreeMap;

use cloud_types::{Fault, HostId, ServerId};
use compute::Compute;
use compute::server::HeldServer;
use database::{Database, DatabaseError, Origin, Tx};
use host_documents::{documents, hosts, inventories};
use host_protocol::{DocumentKind, Held};
use network::Network;

use super::model::{Difference, Remedy, RowServer, Rows, plan};
use crate::replica;

/// Positions beyond everything that was given out before the restore.
const SKIP: u64 = 1_000_000;

/// How a review stands.
pub struct Standing {
    /// What rows and hosts do not agree on.
    pub differences: Vec<Difference>,
    /// Names of hosts that were heard.
    pub heard: Vec<String>,
    /// Names of hosts that were not.
    pub silent: Vec<String>,
}

/// Whether the database was restored, and nobody has ended the review.
///
/// # Errors
/// The database's.
pub async fn is_pending(db: &Database) -> Result<bool, DatabaseError> {
    db.read(|tx| Box::pin(async move { replica::under_review(tx).await })).await
}

/// Begins a review: the database has just been restored. Returns its new lineage.
///
/// # Errors
/// The database's.
pub async fn begin(db: &Database) -> Result<String, DatabaseError> {
    db.transact(&Origin::system("restore"), |tx| {
        Box::pin(async move {
            inventories::clear(tx).await?;
            replica::set_under_review(tx, true).await?;
            Ok::<_, DatabaseError>(())
        })
    })
    .await?;
    db.renew_lineage().await
}

/// What is known now.
///
/// # Errors
/// The database's.
pub async fn standing(db: &Database) -> Result<Standing, Fault> {
    db.read(|tx| {
        Box::pin(async move {
            let (rows, held) = load(tx).await?;
            let name = |id: &String| rows.hosts.get(id).cloned().unwrap_or_else(|| id.clone());
            Ok(Standing {
                differences: plan(&rows, &held),
                heard: held.keys().map(name).collect(),
                silent: rows
                    .hosts
                    .iter()
                    .filter(|(id, _)| !held.contains_key(*id))
                    .map(|(_, name)| name.clone())
                    .collect(),
            })
        })
    })
    .await
}

async fn load(tx: &mut Tx) -> Result<(Rows, BTreeMap<String, Vec<Held>>), Fault> {
    let mut rows = Rows::default();
    for host in hosts::list(tx).await? {
        let mut all = Vec::new();
        for kind in DocumentKind::ALL {
            all.extend(documents::list_of_kind(tx, &host.id, kind).await?);
        }
        rows.documents.insert(host.id.to_string(), all);
        rows.hosts.insert(host.id.to_string(), host.name);
    }
    for (id, name, host) in Compute::placements(tx).await? {
        let under_way = workflow_engine::active_of_owner(tx, "server", &id.to_string()).await?;
        let host = host.map(|host| host.to_string());
        rows.servers
            .insert(id.to_string(), RowServer { name, host, under_way: under_way.is_some() });
    }
    let held = inventories::list(tx).await?;
    Ok((rows, held.into_iter().map(|(host, _, held)| (host.to_string(), held)).collect()))
}

/// Adopts one difference, in a transaction of its own.
///
/// # Errors
/// What the services refuse it with; nothing of it is stored then.
pub async fn adopt(db: &Database, difference: &Difference) -> Result<(), Fault> {
    let difference = difference.clone();
    db.transact(&Origin::system("adopt"), move |tx| {
        let difference = difference.clone();
        Box::pin(async move { apply(tx, &difference).await })
    })
    .await
}

/// Has the sequences of all hosts that were heard go on above everything they know.
async fn skip_ahead(tx: &mut Tx) -> Result<(), Fault> {
    for (host, _, held) in inventories::list(tx).await? {
        let highest = held.iter().map(|one| one.document.generation).max().unwrap_or(0);
        documents::skip_positions(tx, &host, highest + SKIP).await?;
    }
    Ok(())
}

async fn apply(tx: &mut Tx, difference: &Difference) -> Result<(), Fault> {
    skip_ahead(tx).await?;
    let host = match &difference.host {
        None => None,
        Some(id) => {
            let id: HostId =
                id.parse().map_err(|_| Fault::bad_request(format!("{id:?} is no host's id.")))?;
            hosts::get(tx, &id).await?
        }
    };
    match (&difference.remedy, host) {
        (Remedy::Missing, _) => {
            let id = difference.name.trim_start_matches("server/");
            let id: ServerId =
                id.parse().map_err(|_| Fault::bad_request(format!("{id:?} is no server's id.")))?;
            Compute::adopt_missing(tx, id).await
        }
        (Remedy::TakeServer { held, ports }, Some(host)) => {
            for (index, port) in ports.iter().enumerate() {
                if !Network::adopt_port(tx, &host, port, index).await? {
                    documents::rebase(tx, &host.id, port).await?;
                }
            }
            let held = HeldServer { document: held.document.clone(), facts: held.facts.clone() };
            Compute::adopt(tx, &host, &held).await
        }
        (Remedy::SayAgain { held }, Some(host)) => Ok(documents::rebase(tx, &host.id, held).await?),
        (_, None) => Err(Fault::not_found("The host is not known any more.")),
    }
}

/// Ends the review: hosts follow one more lineage, in which everything that was decided is said to
/// them. Workflows that nobody adopted go on where the backup had them.
///
/// # Errors
/// The database's.
pub async fn finish(db: &Database) -> Result<String, Fault> {
    db.transact(&Origin::system("adopt"), |tx| {
        Box::pin(async move {
            skip_ahead(tx).await?;
            inventories::clear(tx).await?;
            Ok::<_, Fault>(())
        })
    })
    .await?;
    // Before the review is over: whoever waits for that opens the database anew.
    let lineage = db.renew_lineage().await?;
    db.transact(&Origin::system("adopt"), |tx| {
        Box::pin(async move { Ok::<_, Fault>(replica::set_under_review(tx, false).await?) })
    })
    .await?;
    Ok(lineage)
}
