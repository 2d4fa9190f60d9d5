//! What can be done with mappings. A mapping that a protocol uses may be changed: it holds from
//! the next login on.

use cloud_types::Fault;
use database::{JournalEntry, ObjectLock, Tx};
use serde_json::Value;
use service_kit::{Ctx, Filters, Target};

use super::model::{Mapping, Rules, SchemaVersion};
use super::store;
use crate::{Identity, wire};

fn journal(
    tx: &mut Tx,
    action: &'static str,
    id: &str,
    before: Option<&Mapping>,
    after: Option<&Mapping>,
) {
    tx.journal(JournalEntry {
        kind: "mapping",
        id: id.to_owned(),
        project: None,
        action,
        before: before.map(Mapping::public),
        after: after.map(Mapping::public),
    });
}

/// Checks the rules of a new or changed mapping.
fn checked(id: &str, version: Option<&str>, rules: &Value) -> Result<Mapping, Fault> {
    let version = SchemaVersion::parse(version.unwrap_or("1.0"))?;
    Rules::parse(version, rules)?;
    Ok(Mapping { id: id.to_owned(), version, rules: rules.clone() })
}

impl Identity {
    pub(crate) async fn list_mappings(
        &self,
        ctx: &Ctx,
        filters: &Filters,
    ) -> Result<Vec<Mapping>, Fault> {
        ctx.authorise("identity:list_mappings", &Target::none())?;
        let page = wire::page_request(filters)?;
        self.look(move |tx| {
            let page = page.clone();
            Box::pin(async move { Ok(store::list(tx, &page).await?) })
        })
        .await
    }

    pub(crate) async fn mapping(&self, ctx: &Ctx, id: &str) -> Result<Mapping, Fault> {
        ctx.authorise("identity:get_mapping", &Target::none())?;
        let id = id.to_owned();
        self.look(move |tx| {
            let id = id.clone();
            Box::pin(async move {
                store::get(tx, &id).await?.ok_or_else(|| wire::not_found("mapping", &id))
            })
        })
        .await
    }

    pub(crate) async fn create_mapping(
        &self,
        ctx: &Ctx,
        id: &str,
        version: Option<&str>,
        rules: &Value,
    ) -> Result<Mapping, Fault> {
        ctx.authorise("identity:create_mapping", &Target::none())?;
        let mapping = checked(id, version, rules)?;
        self.change(ctx, move |tx| {
            let mapping = mapping.clone();
            Box::pin(async move {
                if !store::insert(tx, &mapping).await? {
                    return Err(wire::duplicate_id("mapping", &mapping.id));
                }
                journal(tx, "create", &mapping.id, None, Some(&mapping));
                Ok((mapping, Vec::new()))
            })
        })
        .await
    }

    pub(crate) async fn update_mapping(
        &self,
        ctx: &Ctx,
        id: &str,
        version: Option<&str>,
        rules: &Value,
    ) -> Result<Mapping, Fault> {
        ctx.authorise("identity:update_mapping", &Target::none())?;
        let mapping = checked(id, version, rules)?;
        self.change(ctx, move |tx| {
            let mapping = mapping.clone();
            Box::pin(async move {
                tx.lock(&[ObjectLock::new("mapping", &mapping.id)]).await?;
                let before = store::get(tx, &mapping.id)
                    .await?
                    .ok_or_else(|| wire::not_found("mapping", &mapping.id))?;
                store::update(tx, &mapping).await?;
                journal(tx, "update", &mapping.id, Some(&before), Some(&mapping));
                Ok((mapping, Vec::new()))
            })
        })
        .await
    }

    pub(crate) async fn delete_mapping(&self, ctx: &Ctx, id: &str) -> Result<(), Fault> {
        ctx.authorise("identity:delete_mapping", &Target::none())?;
        let id = id.to_owned();
        self.change(ctx, move |tx| {
            let id = id.clone();
            Box::pin(async move {
                if !store::delete(tx, &id).await? {
                    return Err(wire::not_found("mapping", &id));
                }
                journal(tx, "delete", &id, None, None);
                Ok(((), Vec::new()))
            })
        })
        .await
    }
}
