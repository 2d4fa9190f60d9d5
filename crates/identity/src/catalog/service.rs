//! What can be done with the catalogue.

use cloud_types::{Fault, ProjectId};
use database::{BoxFuture, DatabaseError, JournalEntry, Tx};
use serde_json::Value;
use service_kit::{Ctx, Target};

use super::model::{self, CatalogService, Endpoint, Region};
use super::store;
use crate::token::Revocation;
use crate::{Identity, endpoint_filter, limit, policy, wire};

/// The catalogue of a token: for a project that has endpoints of its own, those; else all.
pub(crate) async fn for_token(tx: &mut Tx, project: Option<&ProjectId>) -> Result<Value, Fault> {
    let services = store::services(tx).await?;
    let mut endpoints = store::endpoints(tx).await?;
    if let Some(project) = project {
        let filter = endpoint_filter::store::of_project(tx, project.as_str()).await?;
        let own: Vec<Endpoint> =
            endpoints.iter().filter(|endpoint| filter.includes(endpoint)).cloned().collect();
        if !own.is_empty() {
            endpoints = own;
        }
    }
    Ok(model::catalog(&services, &endpoints, project))
}

fn journal(
    tx: &mut Tx,
    kind: &'static str,
    action: &'static str,
    id: &str,
    (before, after): (Option<Value>, Option<Value>),
) {
    tx.journal(JournalEntry { kind, id: id.to_owned(), project: None, action, before, after });
}

/// What else names an endpoint goes with it.
async fn forget_endpoint(tx: &mut Tx, id: &str) -> Result<(), DatabaseError> {
    policy::store::forget(tx, id).await?;
    endpoint_filter::store::forget_endpoint(tx, id).await
}

/// The rules of a kind of object.
pub(crate) struct Rules {
    pub get: &'static str,
    pub list: &'static str,
    pub create: &'static str,
    pub update: &'static str,
    pub delete: &'static str,
}

/// What removing an entry ends.
pub(crate) type Removed = Result<Vec<Revocation>, Fault>;

/// A simple kind of object that belongs to the cloud as a whole, for what is the same with all of
/// them: regions, services, endpoints, and what is kept about those.
pub(crate) trait Entry: Clone + Send + Sync + 'static {
    /// Its word on the wire and in the journal.
    const KIND: &'static str;
    /// The same in the plural, as the lists are called.
    const PLURAL: &'static str;
    /// What stands before the collection in the path, of extensions: `/OS-EP-FILTER`.
    const PREFIX: &'static str = "";
    /// Attributes that a list can be filtered by.
    const FILTERS: &'static [&'static str];
    /// Who may do what.
    const RULES: Rules;
    fn id(&self) -> &str;
    fn view(&self, ctx: &Ctx) -> Value;
    fn get<'c>(tx: &'c mut Tx, id: &'c str) -> BoxFuture<'c, Result<Option<Self>, DatabaseError>>;
    fn all(tx: &mut Tx) -> BoxFuture<'_, Result<Vec<Self>, DatabaseError>>;
    /// Checks what it refers to and writes it.
    fn put<'c>(&'c self, tx: &'c mut Tx, new: bool) -> BoxFuture<'c, Result<(), Fault>>;
    fn remove<'c>(&'c self, tx: &'c mut Tx) -> BoxFuture<'c, Removed>;
}

impl Entry for Region {
    const KIND: &'static str = "region";
    const PLURAL: &'static str = "regions";
    const FILTERS: &'static [&'static str] = &["parent_region_id"];
    const RULES: Rules = Rules {
        get: "identity:get_region",
        list: "identity:list_regions",
        create: "identity:create_region",
        update: "identity:update_region",
        delete: "identity:delete_region",
    };
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
            if let Some(parent) = &self.parent_region_id
                && store::is_at_or_above(tx, &self.id, parent).await?
            {
                return Err(Fault::bad_request(format!(
                    "The specified parent region {parent} would create a circular region hierarchy."
                )));
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
    fn remove<'c>(&'c self, tx: &'c mut Tx) -> BoxFuture<'c, Removed> {
        Box::pin(async move {
            if store::region_is_used(tx, &self.id).await? {
                return Err(Fault::conflict(format!(
                    "Unable to delete region {} because it or its child regions have associated \
                     endpoints.",
                    self.id
                )));
            }
            if limit::store::any_registered_for(tx, &self.id).await? {
                return Err(Fault::conflict(format!(
                    "The region {} has registered limits. Delete them first.",
                    self.id
                )));
            }
            policy::store::forget(tx, &self.id).await?;
            store::delete_region(tx, &self.id).await?;
            Ok(Vec::new())
        })
    }
}

impl Entry for CatalogService {
    const KIND: &'static str = "service";
    const PLURAL: &'static str = "services";
    const FILTERS: &'static [&'static str] = &["type", "name"];
    const RULES: Rules = Rules {
        get: "identity:get_service",
        list: "identity:list_services",
        create: "identity:create_service",
        update: "identity:update_service",
        delete: "identity:delete_service",
    };
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
    fn remove<'c>(&'c self, tx: &'c mut Tx) -> BoxFuture<'c, Removed> {
        Box::pin(async move {
            if limit::store::any_registered_for(tx, &self.id).await? {
                return Err(Fault::conflict(format!(
                    "The service {} has registered limits. Delete them first.",
                    self.id
                )));
            }
            for endpoint in store::endpoints(tx).await? {
                if endpoint.service_id == self.id {
                    forget_endpoint(tx, &endpoint.id).await?;
                }
            }
            policy::store::forget(tx, &self.id).await?;
            store::delete_service(tx, &self.id).await?;
            Ok(Vec::new())
        })
    }
}

impl Entry for Endpoint {
    const KIND: &'static str = "endpoint";
    const PLURAL: &'static str = "endpoints";
    const FILTERS: &'static [&'static str] = &["interface", "service_id", "region_id"];
    const RULES: Rules = Rules {
        get: "identity:get_endpoint",
        list: "identity:list_endpoints",
        create: "identity:create_endpoint",
        update: "identity:update_endpoint",
        delete: "identity:delete_endpoint",
    };
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
                if !self.makes_region {
                    return Err(wire::not_found("region", region));
                }
                let new = Region {
                    id: region.clone(),
                    description: String::new(),
                    parent_region_id: None,
                };
                store::add_region(tx, &new).await?;
                journal(tx, "region", "create", region, (None, None));
            }
            Ok(store::put_endpoint(tx, self).await?)
        })
    }
    fn remove<'c>(&'c self, tx: &'c mut Tx) -> BoxFuture<'c, Removed> {
        Box::pin(async move {
            forget_endpoint(tx, &self.id).await?;
            store::delete_endpoint(tx, &self.id).await?;
            Ok(Vec::new())
        })
    }
}

impl Identity {
    pub(crate) async fn entries<T: Entry>(&self, ctx: &Ctx) -> Result<Vec<T>, Fault> {
        ctx.authorise(T::RULES.list, &Target::none())?;
        self.look(|tx| Box::pin(async move { Ok(T::all(tx).await?) })).await
    }

    pub(crate) async fn entry<T: Entry>(&self, ctx: &Ctx, id: &str) -> Result<T, Fault> {
        ctx.authorise(T::RULES.get, &Target::none())?;
        let id = id.to_owned();
        self.look(move |tx| {
            let id = id.clone();
            Box::pin(async move { existing(tx, &id).await })
        })
        .await
    }

    pub(crate) async fn add_entry<T: Entry>(&self, ctx: &Ctx, entry: T) -> Result<T, Fault> {
        ctx.authorise(T::RULES.create, &Target::none())?;
        let asker = ctx.clone();
        self.change(ctx, move |tx| {
            let (entry, asker) = (entry.clone(), asker.clone());
            Box::pin(async move {
                entry.put(tx, true).await?;
                let made = Some(entry.view(&asker));
                journal(tx, T::KIND, "create", entry.id(), (None, made));
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
        edit: impl Fn(&mut T) -> Result<(), Fault> + Send + Sync + 'static,
    ) -> Result<T, Fault> {
        ctx.authorise(T::RULES.update, &Target::none())?;
        let (id, asker) = (id.to_owned(), ctx.clone());
        let edit = std::sync::Arc::new(edit);
        self.change(ctx, move |tx| {
            let (id, edit, asker) = (id.clone(), edit.clone(), asker.clone());
            Box::pin(async move {
                tx.lock(&[database::ObjectLock::new(T::KIND, &id)]).await?;
                let mut entry: T = existing(tx, &id).await?;
                let before = Some(entry.view(&asker));
                edit(&mut entry)?;
                entry.put(tx, false).await?;
                journal(tx, T::KIND, "update", &id, (before, Some(entry.view(&asker))));
                Ok((entry, Vec::new()))
            })
        })
        .await
    }

    pub(crate) async fn delete_entry<T: Entry>(&self, ctx: &Ctx, id: &str) -> Result<(), Fault> {
        ctx.authorise(T::RULES.delete, &Target::none())?;
        let (id, asker) = (id.to_owned(), ctx.clone());
        self.change(ctx, move |tx| {
            let (id, asker) = (id.clone(), asker.clone());
            Box::pin(async move {
                let entry: T = existing(tx, &id).await?;
                let ended = entry.remove(tx).await?;
                journal(tx, T::KIND, "delete", &id, (Some(entry.view(&asker)), None));
                Ok(((), ended))
            })
        })
        .await
    }
}

/// The entry, or 404.
pub(crate) async fn existing<T: Entry>(tx: &mut Tx, id: &str) -> Result<T, Fault> {
    T::get(tx, id).await?.ok_or_else(|| wire::not_found(T::KIND, id))
}
