//! What can be done with service providers.

use cloud_types::Fault;
use database::{JournalEntry, ObjectLock, Tx};
use service_kit::{Ctx, Filters, Target};

use super::model::{RELAY_STATE_PREFIX, ServiceProvider};
use super::store;
use crate::{Identity, wire};

/// A new service provider, or what changes of one.
#[derive(Clone, Default)]
pub(crate) struct ServiceProviderChange {
    pub auth_url: Option<String>,
    pub sp_url: Option<String>,
    pub description: Option<Option<String>>,
    pub enabled: Option<bool>,
    pub relay_state_prefix: Option<String>,
}

fn journal(
    tx: &mut Tx,
    action: &'static str,
    id: &str,
    before: Option<&ServiceProvider>,
    after: Option<&ServiceProvider>,
) {
    tx.journal(JournalEntry {
        kind: "service_provider",
        id: id.to_owned(),
        project: None,
        action,
        before: before.map(ServiceProvider::public),
        after: after.map(ServiceProvider::public),
    });
}

fn missing(id: &str) -> Fault {
    wire::not_found("service provider", id)
}

impl Identity {
    pub(crate) async fn list_service_providers(
        &self,
        ctx: &Ctx,
        filters: Filters,
    ) -> Result<Vec<ServiceProvider>, Fault> {
        ctx.authorise("identity:list_service_providers", &Target::none())?;
        let enabled = filters.flag("enabled")?;
        let page = wire::page_request(&filters)?;
        self.look(move |tx| {
            let (filters, page) = (filters.clone(), page.clone());
            Box::pin(async move { Ok(store::list(tx, enabled, &filters, &page).await?) })
        })
        .await
    }

    pub(crate) async fn service_provider(
        &self,
        ctx: &Ctx,
        id: &str,
    ) -> Result<ServiceProvider, Fault> {
        ctx.authorise("identity:get_service_provider", &Target::none())?;
        let id = id.to_owned();
        self.look(move |tx| {
            let id = id.clone();
            Box::pin(async move { store::get(tx, &id).await?.ok_or_else(|| missing(&id)) })
        })
        .await
    }

    pub(crate) async fn create_service_provider(
        &self,
        ctx: &Ctx,
        id: &str,
        change: ServiceProviderChange,
    ) -> Result<ServiceProvider, Fault> {
        ctx.authorise("identity:create_service_provider", &Target::none())?;
        let provider = ServiceProvider {
            id: id.to_owned(),
            auth_url: change.auth_url.unwrap_or_default(),
            sp_url: change.sp_url.unwrap_or_default(),
            description: change.description.flatten(),
            enabled: change.enabled.unwrap_or(false),
            relay_state_prefix: change
                .relay_state_prefix
                .unwrap_or_else(|| RELAY_STATE_PREFIX.to_owned()),
        };
        self.change(ctx, move |tx| {
            let provider = provider.clone();
            Box::pin(async move {
                if !store::insert(tx, &provider).await? {
                    return Err(wire::duplicate_id("service_provider", &provider.id));
                }
                journal(tx, "create", &provider.id, None, Some(&provider));
                Ok((provider, Vec::new()))
            })
        })
        .await
    }

    pub(crate) async fn update_service_provider(
        &self,
        ctx: &Ctx,
        id: &str,
        change: ServiceProviderChange,
    ) -> Result<ServiceProvider, Fault> {
        ctx.authorise("identity:update_service_provider", &Target::none())?;
        let id = id.to_owned();
        self.change(ctx, move |tx| {
            let (id, change) = (id.clone(), change.clone());
            Box::pin(async move {
                tx.lock(&[ObjectLock::new("service_provider", &id)]).await?;
                let before = store::get(tx, &id).await?.ok_or_else(|| missing(&id))?;
                let mut provider = before.clone();
                provider.auth_url = change.auth_url.unwrap_or(provider.auth_url);
                provider.sp_url = change.sp_url.unwrap_or(provider.sp_url);
                provider.enabled = change.enabled.unwrap_or(provider.enabled);
                provider.description = change.description.unwrap_or(provider.description);
                provider.relay_state_prefix =
                    change.relay_state_prefix.unwrap_or(provider.relay_state_prefix);
                store::update(tx, &provider).await?;
                journal(tx, "update", &id, Some(&before), Some(&provider));
                Ok((provider, Vec::new()))
            })
        })
        .await
    }

    pub(crate) async fn delete_service_provider(&self, ctx: &Ctx, id: &str) -> Result<(), Fault> {
        ctx.authorise("identity:delete_service_provider", &Target::none())?;
        let id = id.to_owned();
        self.change(ctx, move |tx| {
            let id = id.clone();
            Box::pin(async move {
                let before = store::get(tx, &id).await?.ok_or_else(|| missing(&id))?;
                store::delete(tx, &id).await?;
                journal(tx, "delete", &id, Some(&before), None);
                Ok(((), Vec::new()))
            })
        })
        .await
    }
}
