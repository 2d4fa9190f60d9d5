//! Reading hosts for operators, and for the parts of compute that place servers.

use std::collections::HashMap;

use cloud_types::{Fault, HostId, ServerId};
use database::{DatabaseError, Tx};
use host_documents::{Host, hosts};
use service_kit::{Ctx, Kit, Target};

use super::model;
use super::store::{self, Usage};
use crate::scheduler::HostView;
use crate::server;

/// All hosts, by name, with what is claimed on each.
pub async fn hosts_with_usage(tx: &mut Tx) -> Result<Vec<(Host, Usage)>, DatabaseError> {
    let usage = store::usage(tx).await?;
    Ok(hosts::list(tx)
        .await?
        .into_iter()
        .map(|host| {
            let usage = usage.get(&host.id).copied().unwrap_or_default();
            (host, usage)
        })
        .collect())
}

/// All hosts as the scheduler sees them.
pub async fn views(tx: &mut Tx) -> Result<Vec<HostView>, DatabaseError> {
    let now = tx.now();
    Ok(hosts_with_usage(tx)
        .await?
        .iter()
        .map(|(host, usage)| model::for_scheduler(host, *usage, now))
        .collect())
}

/// Some hosts as the scheduler sees them: up to `count`, from the first id at or after `from` on,
/// and round from the beginning; of one L2 domain, if it is named. All of them when there are no
/// more.
pub async fn some_views(
    tx: &mut Tx,
    from: HostId,
    l2_domain: Option<&str>,
    count: u32,
) -> Result<Vec<HostView>, DatabaseError> {
    let now = tx.now();
    let mut some = hosts::page(tx, Some(from), l2_domain, count).await?;
    let missing = count.saturating_sub(u32::try_from(some.len()).unwrap_or(count));
    if missing > 0 {
        let round = hosts::page(tx, None, l2_domain, missing).await?;
        some.extend(round.into_iter().filter(|host| host.id <= from));
    }
    let ids: Vec<HostId> = some.iter().map(|host| host.id).collect();
    let usage = store::usage_of(tx, &ids).await?;
    Ok(some
        .iter()
        .map(|host| {
            model::for_scheduler(host, usage.get(&host.id).copied().unwrap_or_default(), now)
        })
        .collect())
}

/// What the operators' lists are made of.
pub struct Overview {
    /// Hosts by name, with what is claimed on each.
    pub hosts: Vec<(Host, Usage)>,
    /// Servers on each, when asked for.
    pub servers: HashMap<HostId, Vec<(ServerId, String)>>,
}

/// Reads all hosts under a rule.
///
/// # Errors
/// 403.
pub async fn overview(
    kit: &Kit,
    ctx: &Ctx,
    rule: &str,
    with_servers: bool,
) -> Result<Overview, Fault> {
    ctx.authorise(rule, &Target::none())?;
    kit.db
        .read(move |tx| {
            Box::pin(async move {
                let hosts = hosts_with_usage(tx).await?;
                let servers =
                    if with_servers { server::servers_by_host(tx).await? } else { HashMap::new() };
                Ok::<_, Fault>(Overview { hosts, servers })
            })
        })
        .await
}

/// Lets a host be given new servers, or no more.
///
/// # Errors
/// 403, 404 when no host has the name or id.
pub async fn set_enabled(
    kit: &Kit,
    ctx: &Ctx,
    host: &str,
    disabled_reason: Option<String>,
) -> Result<(Host, Usage), Fault> {
    ctx.authorise("compute:services:update", &Target::none())?;
    let host = host.to_owned();
    kit.transact(ctx, move |tx| {
        let (host, reason) = (host.clone(), disabled_reason.clone());
        Box::pin(async move {
            let found = hosts_with_usage(tx)
                .await?
                .into_iter()
                .find(|(known, _)| known.name == host || known.id.to_string() == host);
            let Some((known, usage)) = found else {
                return Err(Fault::not_found(format!(
                    "Host '{}' is not mapped to any cell",
                    host.chars().take(64).collect::<String>()
                )));
            };
            hosts::set_enabled(tx, &known.id, reason.as_deref()).await?;
            let known = hosts::get(tx, &known.id).await?.unwrap_or(known);
            Ok((known, usage))
        })
    })
    .await
}
