//! Showing and listing servers. A list of any length costs the same few statements: the page, its
//! ports, its tags, and for administrators its user data and hosts.

use std::collections::HashMap;
use std::net::IpAddr;

use cloud_types::{Fault, HostId, ServerId};
use database::{DatabaseError, Tx};
use host_documents::{Host, hosts};
use network::{Network, PortView};
use regex::Regex;
use service_kit::{Ctx, Target};

use super::super::model::Server;
use super::super::store::{self, ActionEvent, ActionFilter, ActionRecord, ListQuery};
use super::{found, missing, permitted, target};
use crate::Compute;

/// A server with what is shown beside it.
#[derive(Clone, Debug)]
pub struct Detail {
    /// The server.
    pub server: Server,
    /// Its ports, NIC by NIC.
    pub ports: Vec<PortView>,
    /// Its tags, sorted.
    pub tags: Vec<String>,
    /// Its user data, for who may see it.
    pub user_data: Option<String>,
    /// Its host, for who may see it.
    pub host: Option<Host>,
    /// Whether the caller may see its host.
    pub shows_host: bool,
}

/// Conditions that are judged outside the database: regular expressions.
#[derive(Clone, Debug, Default)]
pub struct Patterns {
    /// On the name.
    pub name: Option<Regex>,
    /// On the host name.
    pub hostname: Option<Regex>,
    /// On the description.
    pub description: Option<Regex>,
    /// On any IPv4 address.
    pub ip: Option<Regex>,
    /// On any IPv6 address.
    pub ip6: Option<Regex>,
}

impl Patterns {
    fn is_empty(&self) -> bool {
        self.name.is_none()
            && self.hostname.is_none()
            && self.description.is_none()
            && !self.about_addresses()
    }

    fn about_addresses(&self) -> bool {
        self.ip.is_some() || self.ip6.is_some()
    }

    fn matches(&self, server: &Server, ports: &[PortView]) -> bool {
        let text = |pattern: &Option<Regex>, text: &str| {
            pattern.as_ref().is_none_or(|pattern| pattern.is_match(text))
        };
        let address = |pattern: &Option<Regex>, wanted: fn(&IpAddr) -> bool| {
            pattern.as_ref().is_none_or(|pattern| {
                ports
                    .iter()
                    .flat_map(|port| &port.ips)
                    .any(|(_, ip)| wanted(ip) && pattern.is_match(&ip.to_string()))
            })
        };
        text(&self.name, &server.name)
            && text(&self.hostname, &server.hostname)
            && text(&self.description, server.description.as_deref().unwrap_or_default())
            && address(&self.ip, IpAddr::is_ipv4)
            && address(&self.ip6, IpAddr::is_ipv6)
    }
}

/// A request for a page of servers.
#[derive(Clone, Debug, Default)]
pub struct ServerList {
    /// What the database judges; its limit is one more than the page.
    pub query: ListQuery,
    /// What is judged afterwards.
    pub patterns: Patterns,
    /// Whether everything that belongs to a server is wanted.
    pub detail: bool,
}

/// Rows read at a time when some of them will be judged away.
const BATCH: i64 = 500;

impl Compute {
    /// A page of servers. The caller has checked the right to see them.
    ///
    /// # Errors
    /// 400 for a marker that names no server.
    pub async fn list_servers(&self, ctx: &Ctx, list: ServerList) -> Result<Vec<Detail>, Fault> {
        let (network, caller) = (self.core().network.clone(), ctx.clone());
        self.kit()
            .db
            .read(move |tx| {
                let (network, ctx, list) = (network.clone(), caller.clone(), list.clone());
                Box::pin(async move {
                    let servers = select(tx, &network, &list).await?;
                    if list.detail {
                        detail(tx, &network, &ctx, servers).await
                    } else {
                        Ok(servers.into_iter().map(bare).collect())
                    }
                })
            })
            .await
    }

    /// One server with everything that belongs to it.
    ///
    /// # Errors
    /// 404.
    pub async fn show_server(&self, ctx: &Ctx, id: ServerId) -> Result<Detail, Fault> {
        let (network, caller) = (self.core().network.clone(), ctx.clone());
        self.kit()
            .db
            .read(move |tx| {
                let (network, ctx) = (network.clone(), caller.clone());
                Box::pin(async move {
                    let server = found(tx, &ctx, id, "compute:servers:show").await?;
                    let mut shown = detail(tx, &network, &ctx, vec![server]).await?;
                    shown.pop().ok_or_else(|| missing(id))
                })
            })
            .await
    }

    /// What was done to a server. From 2.21 also to one that is gone.
    ///
    /// # Errors
    /// 404, 403, 400 for a marker that names no action.
    pub async fn actions(
        &self,
        ctx: &Ctx,
        id: ServerId,
        filter: ActionFilter,
    ) -> Result<Vec<ActionRecord>, Fault> {
        let caller = ctx.clone();
        self.kit()
            .db
            .read(move |tx| {
                let (ctx, filter) = (caller.clone(), filter.clone());
                Box::pin(async move {
                    with_gone(tx, &ctx, id).await?;
                    if let Some(marker) = &filter.marker
                        && store::action(tx, id, marker).await?.is_none()
                    {
                        return Err(Fault::bad_request(format!(
                            "Marker {} could not be found.",
                            marker.chars().take(64).collect::<String>()
                        )));
                    }
                    Ok(store::actions_of(tx, id, &filter).await?)
                })
            })
            .await
    }

    /// One action of a server, with its events.
    ///
    /// # Errors
    /// 404, 403.
    pub async fn action(
        &self,
        ctx: &Ctx,
        id: ServerId,
        request_id: &str,
    ) -> Result<ActionDetail, Fault> {
        let (caller, request_id) = (ctx.clone(), request_id.to_owned());
        self.kit()
            .db
            .read(move |tx| {
                let (ctx, request_id) = (caller.clone(), request_id.clone());
                Box::pin(async move {
                    let server = with_gone(tx, &ctx, id).await?;
                    let record = store::action(tx, id, &request_id).await?.ok_or_else(|| {
                        Fault::not_found(format!(
                            "Action {} not found",
                            request_id.chars().take(64).collect::<String>()
                        ))
                    })?;
                    let events = store::events_of(tx, id, &request_id).await?;
                    let shows_host = ctx.may("compute:servers:actions:events", &target(&server));
                    Ok(ActionDetail { server, record, events, shows_host })
                })
            })
            .await
    }
}

/// An action with its events.
#[derive(Clone, Debug)]
pub struct ActionDetail {
    /// The server.
    pub server: Server,
    /// The action.
    pub record: ActionRecord,
    /// Its events, newest first.
    pub events: Vec<ActionEvent>,
    /// Whether the caller may see hosts and details.
    pub shows_host: bool,
}

async fn with_gone(tx: &mut Tx, ctx: &Ctx, id: ServerId) -> Result<Server, Fault> {
    let mut server = store::get(tx, id).await?;
    if ctx.at_least(2, 21)
        && let Some(server) = &mut server
    {
        server.deleted_at = None;
    }
    permitted(ctx, id, server, "compute:servers:actions")
}

fn bare(server: Server) -> Detail {
    Detail {
        server,
        ports: Vec::new(),
        tags: Vec::new(),
        user_data: None,
        host: None,
        shows_host: false,
    }
}

/// The page: straight from the database, or batch by batch when some rows are judged away.
async fn select(tx: &mut Tx, network: &Network, list: &ServerList) -> Result<Vec<Server>, Fault> {
    let no_marker = |error: DatabaseError| match (&error, list.query.marker) {
        (DatabaseError::RowCount { .. }, Some(marker)) => {
            Fault::bad_request(format!("marker [{marker}] not found"))
        }
        _ => error.into(),
    };
    if list.patterns.is_empty() {
        return store::list(tx, &list.query).await.map_err(no_marker);
    }
    let wanted = usize::try_from(list.query.limit).unwrap_or(usize::MAX);
    let mut query = ListQuery { limit: BATCH.max(list.query.limit), ..list.query.clone() };
    let mut chosen = Vec::new();
    loop {
        let batch = store::list(tx, &query).await.map_err(no_marker)?;
        let whole = i64::try_from(batch.len()).unwrap_or(i64::MAX) < query.limit;
        query.marker = batch.last().map(|server| server.id);
        let mut ports = HashMap::new();
        if list.patterns.about_addresses() {
            let ids: Vec<ServerId> = batch.iter().map(|server| server.id).collect();
            ports = network.ports_of_servers(tx, &ids).await?;
        }
        for server in batch {
            let ports = ports.get(&server.id).map(Vec::as_slice).unwrap_or_default();
            if list.patterns.matches(&server, ports) {
                chosen.push(server);
            }
        }
        if chosen.len() >= wanted || whole {
            chosen.truncate(wanted);
            return Ok(chosen);
        }
    }
}

async fn detail(
    tx: &mut Tx,
    network: &Network,
    ctx: &Ctx,
    servers: Vec<Server>,
) -> Result<Vec<Detail>, Fault> {
    let ids: Vec<ServerId> = servers.iter().map(|server| server.id).collect();
    let mut ports = network.ports_of_servers(tx, &ids).await?;
    let mut tags = store::tags_of(tx, &ids).await?;
    let shows_host = ctx.may("compute:servers:show:host", &Target::none());
    let (mut user_data, mut known) = (HashMap::new(), HashMap::new());
    if shows_host {
        user_data = store::user_data_of(tx, &ids).await?;
        known = hosts_of(tx, &servers).await?;
    }
    Ok(servers
        .into_iter()
        .map(|server| Detail {
            ports: ports.remove(&server.id).unwrap_or_default(),
            tags: tags.remove(&server.id).unwrap_or_default(),
            user_data: user_data.remove(&server.id),
            host: server.host.as_ref().and_then(|host| known.get(&host.id).cloned()),
            shows_host,
            server,
        })
        .collect())
}

async fn hosts_of(tx: &mut Tx, servers: &[Server]) -> Result<HashMap<HostId, Host>, Fault> {
    if let [server] = servers {
        let Some(host) = &server.host else { return Ok(HashMap::new()) };
        return Ok(hosts::get(tx, &host.id)
            .await?
            .map(|host| (host.id, host))
            .into_iter()
            .collect());
    }
    Ok(hosts::list(tx).await?.into_iter().map(|host| (host.id, host)).collect())
}
