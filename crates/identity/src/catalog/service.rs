//! What can be done with the catalogue.

use cloud_types::{Fault, ProjectId};
use database::{BoxFuture, DatabaseError, JournalEntry, Tx};
use serde_json::Value;
use service_kit::{Ctx, Target};

use super::model::{self, CatalogService, Endpoint, Region};
use super::store;
use crate::{Identity, wire};

/// The catalogue of a token.
pub(crate) async fn for_token(tx: &mut Tx, project: Option<&ProjectId>) -> Result<Value, Fault> {
    let services = store::services(tx).await?;
    let endpoints = store::endpoints(tx).await?;
    Ok(model::catalog(&services, &endpoints, project))
}

fn journal(tx: &mut Tx, kind: &'static str, action: &'static str, id: &str, after: Option<Value>) {
    tx.journal(JournalEntry {
        kind,
        id: id.to_owned(),
        project: None,
        action,
        before: None,
        after,
    });
}

/// A kind of object in the catalogue, for what is the same with all three.
pub(crate) trait Entry: Clone + Send + Sync + 'static {
    /// Its word on the wire and in the journal.
    const KIND: &'static str;
    /// The rules for showing one, for listing all, and for changing.
    const RULES: [&'static str; 3];
    fn id(&self) -> &str;
    fn view(&self, ctx: &Ctx) -> Value;
    fn get<'c>(tx: &'c mut Tx, id: &'c str) -> BoxFuture<'c, Result<Option<Self>, DatabaseError>>;
    fn all(tx: &mut Tx) -> BoxFuture<'_, Result<Vec<Self>, DatabaseError>>;
    /// Checks what it refers to and writes it.
    fn put<'c>(&'c self, tx: &'c mut Tx, new: bool) -> BoxFuture<'c, Result<(), Fault>>;
    fn remove<'c>(&'c self, tx: &'c mut Tx) -> BoxFuture<'c, Result<(), Fault>>;
}

impl Entry for Region {
    const KIND: &'static str = "region";
    const RULES: [&'static str; 3] =
        ["identity:get_region", "identity:list_regions", "identity:change_region"];
    fn id(&self) -> &str {
        &self.id
    }
    fn view(&self, ctx: &Ctx) -> Value {
        Region::view(self, ctx)
    }
    fn get<'c>(tx: &'c mut Tx, id: &'c str) -> BoxFuture<'c, Result<Option<Self>, DatabaseError>> {
        Box::pin(store::region(tx, id))
    }
    fn all(tx: &mut Tx) -> BoxFuture<'_, Result<Vec<Self>, DatabaseError>> {
        Box::pin(store::regions(tx))
    }
    fn put<'c>(&'c self, tx: &'c mut Tx, new: bool) -> BoxFuture<'c, Result<(), Fault>> {
        Box::pin(async move {
            if let Some(parent) = &self.parent_region_id
                && store::region(tx, parent).await?.is_none()
            {
                return Err(wire::not_found("region", parent));
            }
            if !new {
                return Ok(store::update_region(tx, self).await?);
            }
            if !store::add_region(tx, self).await? {
                return Err(Fault::conflict(format!(
                    "Conflict occurred attempting to store region - Duplicate ID, {}.",
                    self.id
                )));
            }
            Ok(())
        })
    }
    fn remove<'c>(&'c self, tx: &'c mut Tx) -> BoxFuture<'c, Result<(), Fault>> {
        Box::pin(async move {
            if store::region_is_used(tx, &self.id).await? {
                return Err(Fault::conflict(format!(
                    "Unable to delete region {} because it or its child regions have associated \
                     endpoints.",
                    self.id
                )));
            }
            Ok(store::delete_region(tx, &self.id).await?)
        })
    }
}

impl Entry for CatalogService {
    const KIND: &'static str = "service";
    const RULES: [&'static str; 3] =
        ["identity:get_service", "identity:list_services", "identity:change_service"];
    fn id(&self) -> &str {
        &self.id
    }
    fn view(&self, ctx: &Ctx) -> Value {
        CatalogService::view(self, ctx)
    }
    fn get<'c>(tx: &'c mut Tx, id: &'c str) -> BoxFuture<'c, Result<Option<Self>, DatabaseError>> {
        Box::pin(store::service(tx, id))
    }
    fn all(tx: &mut Tx) -> BoxFuture<'_, Result<Vec<Self>, DatabaseError>> {
        Box::pin(store::services(tx))
    }
    fn put<'c>(&'c self, tx: &'c mut Tx, _new: bool) -> BoxFuture<'c, Result<(), Fault>> {
        Box::pin(async move { Ok(store::put_service(tx, self).await?) })
    }
    fn remove<'c>(&'c self, tx: &'c mut Tx) -> BoxFuture<'c, Result<(), Fault>> {
        Box::pin(async move { Ok(store::delete_service(tx, &self.id).await?) })
    }
}

impl Entry for Endpoint {
    const KIND: &'static str = "endpoint";
    const RULES: [&'static str; 3] =
        ["identity:get_endpoint", "identity:list_endpoints", "identity:change_endpoint"];
    fn id(&self) -> &str {
        &self.id
    }
    fn view(&self, ctx: &Ctx) -> Value {
        Endpoint::view(self, ctx)
    }
    fn get<'c>(tx: &'c mut Tx, id: &'c str) -> BoxFuture<'c, Result<Option<Self>, DatabaseError>> {
        Box::pin(store::endpoint(tx, id))
    }
    fn all(tx: &mut Tx) -> BoxFuture<'_, Result<Vec<Self>, DatabaseError>> {
        Box::pin(store::endpoints(tx))
    }
    fn put<'c>(&'c self, tx: &'c mut Tx, _new: bool) -> BoxFuture<'c, Result<(), Fault>> {
        Box::pin(async move {
            if store::service(tx, &self.service_id).await?.is_none() {
                return Err(wire::not_found("service", &self.service_id));
            }
            if let Some(region) = &self.region_id
                && store::region(tx, region).await?.is_none()
            {
                return Err(wire::not_found("region", region));
            }
            Ok(store::put_endpoint(tx, self).await?)
        })
    }
    fn remove<'c>(&'c self, tx: &'c mut Tx) -> BoxFuture<'c, Result<(), Fault>> {
        Box::pin(async move { Ok(store::delete_endpoint(tx, &self.id).await?) })
    }
}

impl Identity {
    pub(crate) async fn entries<T: Entry>(&self, ctx: &Ctx) -> Result<Vec<T>, Fault> {
        ctx.authorise(T::RULES[1], &Target::none())?;
        self.look(|tx| Box::pin(async move { Ok(T::all(tx).await?) })).await
    }

    pub(crate) async fn entry<T: Entry>(&self, ctx: &Ctx, id: &str) -> Result<T, Fault> {
        ctx.authorise(T::RULES[0], &Target::none())?;
        let id = id.to_owned();
        self.look(move |tx| {
            let id = id.clone();
            Box::pin(async move { existing(tx, &id).await })
        })
        .await
    }

    pub(crate) async fn add_entry<T: Entry>(&self, ctx: &Ctx, entry: T) -> Result<T, Fault> {
        ctx.authorise(T::RULES[2], &Target::none())?;
        let asker = ctx.clone();
        self.change(ctx, move |tx| {
            let (entry, asker) = (entry.clone(), asker.clone());
            Box::pin(async move {
                entry.put(tx, true).await?;
                journal(tx, T::KIND, "create", entry.id(), Some(entry.view(&asker)));
                Ok((entry, Vec::new()))
            })
        })
        .await
    }

    /// Reads the entry, lets `edit` change it, and writes it.
    pub(crate) async fn edit_entry<T: Entry>(
        &self,
        ctx: &Ctx,
        id: &str,
        edit: impl Fn(&mut T) + Send + Sync + 'static,
    ) -> Result<T, Fault> {
        ctx.authorise(T::RULES[2], &Target::none())?;
        let (id, asker) = (id.to_owned(), ctx.clone());
        let edit = std::sync::Arc::new(edit);
        self.change(ctx, move |tx| {
            let (id, edit, asker) = (id.clone(), edit.clone(), asker.clone());
            Box::pin(async move {
                tx.lock(&[database::ObjectLock::new(T::KIND, &id)]).await?;
                let mut entry: T = existing(tx, &id).await?;
                edit(&mut entry);
                entry.put(tx, false).await?;
                journal(tx, T::KIND, "update", &id, Some(entry.view(&asker)));
                Ok((entry, Vec::new()))
            })
        })
        .await
    }

    pub(crate) async fn delete_entry<T: Entry>(&self, ctx: &Ctx, id: &str) -> Result<(), Fault> {
        ctx.authorise(T::RULES[2], &Target::none())?;
        let id = id.to_owned();
        self.change(ctx, move |tx| {
            let id = id.clone();
            Box::pin(async move {
                let entry: T = existing(tx, &id).await?;
                entry.remove(tx).await?;
                journal(tx, T::KIND, "delete", &id, None);
                Ok(((), Vec::new()))
            })
        })
        .await
    }
}

async fn existing<T: Entry>(tx: &mut Tx, id: &str) -> Result<T, Fault> {
    T::get(tx, id).await?.ok_or_else(|| wire::not_found(T::KIND, id))
}
