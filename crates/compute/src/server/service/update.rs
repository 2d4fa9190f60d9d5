//! Changing what is free text about a server: name, description, metadata, tags.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use cloud_types::{Fault, ServerId};
use database::Tx;
use service_kit::Ctx;

use super::super::model::{DiskConfig, Server, TagChange, VmState};
use super::super::store;
use super::super::workflow::refresh_document;
use super::{check_lock, found, locked};
use crate::Compute;
use crate::quota::model::MAX_METADATA;

/// `PUT /servers/{id}`; what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// A new name.
    pub name: Option<String>,
    /// A new description, or none.
    pub description: Option<Option<String>>,
    /// A new host name, for the metadata service.
    pub hostname: Option<String>,
    /// Disk configuration.
    pub disk_config: Option<DiskConfig>,
    /// Address for people.
    pub access_ipv4: Option<Ipv4Addr>,
    /// The same for IPv6.
    pub access_ipv6: Option<Ipv6Addr>,
}

/// A change of metadata.
#[derive(Clone, Debug)]
pub enum MetadataChange {
    /// These pairs and no others.
    Replace(BTreeMap<String, String>),
    /// These pairs too.
    Merge(BTreeMap<String, String>),
    /// Without this key.
    Remove(String),
}

impl Compute {
    /// Changes a server's free text. The guest learns of it from its metadata service.
    ///
    /// # Errors
    /// 404, 403, 409 when it is locked.
    pub async fn update_server(
        &self,
        ctx: &Ctx,
        id: ServerId,
        update: Update,
    ) -> Result<(), Fault> {
        self.change(ctx, id, "compute:servers:update", move |server| {
            let Update { name, description, hostname, disk_config, access_ipv4, access_ipv6 } =
                update.clone();
            if let Some(name) = name {
                server.name = name;
            }
            if let Some(description) = description {
                server.description = description;
            }
            if let Some(hostname) = hostname {
                server.hostname = hostname;
            }
            server.disk_config = disk_config.unwrap_or(server.disk_config);
            server.access_ipv4 = access_ipv4.or(server.access_ipv4);
            server.access_ipv6 = access_ipv6.or(server.access_ipv6);
            Ok(())
        })
        .await?;
        Ok(())
    }

    /// Reads a server, changes it, stores it, and tells its host.
    async fn change(
        &self,
        ctx: &Ctx,
        id: ServerId,
        rule: &'static str,
        change: impl Fn(&mut Server) -> Result<(), Fault> + Clone + Send + Sync + 'static,
    ) -> Result<Server, Fault> {
        let caller = ctx.clone();
        self.kit()
            .transact(ctx, move |tx| {
                let (ctx, change) = (caller.clone(), change.clone());
                Box::pin(async move {
                    let before = locked(tx, &ctx, id, rule).await?;
                    let mut server = before.clone();
                    change(&mut server)?;
                    store::save(tx, &before, &mut server).await?;
                    refresh_document(tx, &server).await?;
                    Ok(server)
                })
            })
            .await
    }

    /// A server's metadata.
    ///
    /// # Errors
    /// 404, 403.
    pub async fn metadata(
        &self,
        ctx: &Ctx,
        id: ServerId,
    ) -> Result<BTreeMap<String, String>, Fault> {
        let caller = ctx.clone();
        self.kit()
            .db
            .read(move |tx| {
                let ctx = caller.clone();
                Box::pin(async move {
                    let server = found(tx, &ctx, id, "compute:servers:metadata:show").await?;
                    Ok(server.metadata)
                })
            })
            .await
    }

    /// Changes a server's metadata; all of it afterwards.
    ///
    /// # Errors
    /// 404 also for a key that is not there, 403 over the limit, 409 when the server is locked.
    pub async fn change_metadata(
        &self,
        ctx: &Ctx,
        id: ServerId,
        change: MetadataChange,
    ) -> Result<BTreeMap<String, String>, Fault> {
        let caller = ctx.clone();
        let server = self
            .change(ctx, id, "compute:servers:metadata:update", move |server| {
                check_lock(&caller, server)?;
                match change.clone() {
                    MetadataChange::Replace(pairs) => server.metadata = pairs,
                    MetadataChange::Merge(pairs) => server.metadata.extend(pairs),
                    MetadataChange::Remove(key) => {
                        if server.metadata.remove(&key).is_none() {
                            return Err(Fault::not_found("Metadata item was not found"));
                        }
                    }
                }
                if server.metadata.len() > MAX_METADATA {
                    return Err(Fault::forbidden(format!(
                        "Maximum number of metadata items exceeds {MAX_METADATA}"
                    )));
                }
                Ok(())
            })
            .await?;
        Ok(server.metadata)
    }

    /// A server's tags, sorted.
    ///
    /// # Errors
    /// 404, 403.
    pub async fn tags(&self, ctx: &Ctx, id: ServerId) -> Result<Vec<String>, Fault> {
        let caller = ctx.clone();
        self.kit()
            .db
            .read(move |tx| {
                let ctx = caller.clone();
                Box::pin(async move {
                    found(tx, &ctx, id, "compute:servers:tags:show").await?;
                    tags_of(tx, id).await
                })
            })
            .await
    }

    /// Changes a server's tags. Whether anything is new, and all tags afterwards.
    ///
    /// # Errors
    /// 404 also for a tag that is not there, 400 over the limit, 409 when the server is locked or
    /// not yet built.
    pub async fn change_tags(
        &self,
        ctx: &Ctx,
        id: ServerId,
        change: TagChange,
    ) -> Result<(bool, Vec<String>), Fault> {
        let caller = ctx.clone();
        self.kit()
            .transact(ctx, move |tx| {
                let (ctx, change) = (caller.clone(), change.clone());
                Box::pin(async move {
                    let server = locked(tx, &ctx, id, "compute:servers:tags:update").await?;
                    check_lock(&ctx, &server)?;
                    if server.state.vm == VmState::Deleted {
                        return Err(super::missing(id));
                    }
                    let new = apply_tags(tx, id, &change).await?;
                    Ok((new, tags_of(tx, id).await?))
                })
            })
            .await
    }
}

async fn apply_tags(tx: &mut Tx, id: ServerId, change: &TagChange) -> Result<bool, Fault> {
    match change {
        TagChange::Replace(tags) => {
            store::clear_tags(tx, id).await?;
            for tag in tags {
                store::add_tag(tx, id, tag).await?;
            }
            Ok(true)
        }
        TagChange::Add(tag) => {
            let new = store::add_tag(tx, id, tag).await?;
            if tags_of(tx, id).await?.len() > TagChange::MAX {
                return Err(Fault::bad_request(format!(
                    "The number of tags exceeded the per-server limit {}",
                    TagChange::MAX
                )));
            }
            Ok(new)
        }
        TagChange::Remove(tag) => {
            if store::remove_tag(tx, id, tag).await? {
                Ok(false)
            } else {
                Err(Fault::not_found(format!("Server {id} has no tag '{tag}'")))
            }
        }
        TagChange::Clear => {
            store::clear_tags(tx, id).await?;
            Ok(false)
        }
    }
}

async fn tags_of(tx: &mut Tx, id: ServerId) -> Result<Vec<String>, Fault> {
    Ok(store::tags_of(tx, &[id]).await?.remove(&id).unwrap_or_default())
}
