//! What can be done with policies and their associations.

use cloud_types::Fault;
use database::{BoxFuture, DatabaseError, JournalEntry, Tx};
use serde_json::{Value, json};
use service_kit::{Ctx, Target};

use super::model::{self, Follower, PolicyDocument};
use super::store;
use crate::catalog::model::{CatalogService, Endpoint, Region};
use crate::catalog::service::{Entry, Removed, Rules, existing};
use crate::{Identity, catalog};

impl Entry for PolicyDocument {
    const KIND: &'static str = "policy";
    const PLURAL: &'static str = "policies";
    const FILTERS: &'static [&'static str] = &["type"];
    const RULES: Rules = Rules {
        get: "identity:get_policy",
        list: "identity:list_policies",
        create: "identity:create_policy",
        update: "identity:update_policy",
        delete: "identity:delete_policy",
    };
    fn id(&self) -> &str {
        &self.id
    }
    fn view(&self, ctx: &Ctx) -> Value {
        PolicyDocument::view(self, ctx)
    }
    fn get<'c>(tx: &'c mut Tx, id: &'c str) -> BoxFuture<'c, Result<Option<Self>, DatabaseError>> {
        Box::pin(store::get(tx, id))
    }
    fn all(tx: &mut Tx) -> BoxFuture<'_, Result<Vec<Self>, DatabaseError>> {
        Box::pin(store::all(tx))
    }
    fn put<'c>(&'c self, tx: &'c mut Tx, _new: bool) -> BoxFuture<'c, Result<(), Fault>> {
        Box::pin(async move { Ok(store::put(tx, self).await?) })
    }
    fn remove<'c>(&'c self, tx: &'c mut Tx) -> BoxFuture<'c, Removed> {
        Box::pin(async move {
            store::delete(tx, &self.id).await?;
            Ok(Vec::new())
        })
    }
}

/// The policy and what is to follow it must exist.
async fn check_both(tx: &mut Tx, policy: &str, follower: &Follower) -> Result<(), Fault> {
    existing::<PolicyDocument>(tx, policy).await?;
    match follower {
        Follower::Endpoint(id) => {
            existing::<Endpoint>(tx, id).await?;
        }
        Follower::Service(id) => {
            existing::<CatalogService>(tx, id).await?;
        }
        Follower::ServiceInRegion { service, region } => {
            existing::<CatalogService>(tx, service).await?;
            existing::<Region>(tx, region).await?;
        }
    }
    Ok(())
}

fn not_associated(policy: &str) -> Fault {
    Fault::not_found(format!("Could not find policy association for the policy {policy}."))
}

fn journal(tx: &mut Tx, action: &'static str, policy: &str, follower: &Follower) {
    let shown = Some(json!({"follower": format!("{follower:?}")}));
    let (before, after) = if action == "create" { (None, shown) } else { (shown, None) };
    tx.journal(JournalEntry {
        kind: "policy_association",
        id: policy.to_owned(),
        project: None,
        action,
        before,
        after,
    });
}

impl Identity {
    pub(crate) async fn associate_policy(
        &self,
        ctx: &Ctx,
        rule: &str,
        policy: &str,
        follower: Follower,
    ) -> Result<(), Fault> {
        ctx.authorise(rule, &Target::none())?;
        let policy = policy.to_owned();
        self.change(ctx, move |tx| {
            let (policy, follower) = (policy.clone(), follower.clone());
            Box::pin(async move {
                check_both(tx, &policy, &follower).await?;
                store::associate(tx, &policy, &follower).await?;
                journal(tx, "create", &policy, &follower);
                Ok(((), Vec::new()))
            })
        })
        .await
    }

    pub(crate) async fn check_association(
        &self,
        ctx: &Ctx,
        rule: &str,
        policy: &str,
        follower: Follower,
    ) -> Result<(), Fault> {
        ctx.authorise(rule, &Target::none())?;
        let policy = policy.to_owned();
        self.look(move |tx| {
            let (policy, follower) = (policy.clone(), follower.clone());
            Box::pin(async move {
                check_both(tx, &policy, &follower).await?;
                let known = store::associations(tx).await?;
                let found = known.iter().any(|association| {
                    association.policy_id == policy && association.follower == follower
                });
                if found { Ok(()) } else { Err(not_associated(&policy)) }
            })
        })
        .await
    }

    pub(crate) async fn dissociate_policy(
        &self,
        ctx: &Ctx,
        rule: &str,
        policy: &str,
        follower: Follower,
    ) -> Result<(), Fault> {
        ctx.authorise(rule, &Target::none())?;
        let policy = policy.to_owned();
        self.change(ctx, move |tx| {
            let (policy, follower) = (policy.clone(), follower.clone());
            Box::pin(async move {
                check_both(tx, &policy, &follower).await?;
                if !store::dissociate(tx, &policy, &follower).await? {
                    return Err(not_associated(&policy));
                }
                journal(tx, "delete", &policy, &follower);
                Ok(((), Vec::new()))
            })
        })
        .await
    }

    /// The endpoints that an association of the policy is about.
    pub(crate) async fn endpoints_for_policy(
        &self,
        ctx: &Ctx,
        policy: &str,
    ) -> Result<Vec<Endpoint>, Fault> {
        ctx.authorise("identity:list_endpoints_for_policy", &Target::none())?;
        let policy = policy.to_owned();
        self.look(move |tx| {
            let policy = policy.clone();
            Box::pin(async move {
                existing::<PolicyDocument>(tx, &policy).await?;
                let (known, regions) =
                    (store::associations(tx).await?, catalog::store::regions(tx).await?);
                let mut endpoints = catalog::store::endpoints(tx).await?;
                endpoints.retain(|endpoint| {
                    known.iter().any(|association| {
                        association.policy_id == policy
                            && model::concerns(association, endpoint, &regions)
                    })
                });
                Ok(endpoints)
            })
        })
        .await
    }

    /// The policy that an endpoint follows.
    pub(crate) async fn policy_for_endpoint(
        &self,
        ctx: &Ctx,
        endpoint: &str,
    ) -> Result<PolicyDocument, Fault> {
        ctx.authorise("identity:get_policy_for_endpoint", &Target::none())?;
        let endpoint = endpoint.to_owned();
        self.look(move |tx| {
            let endpoint = endpoint.clone();
            Box::pin(async move {
                let found = existing::<Endpoint>(tx, &endpoint).await?;
                let (known, regions) =
                    (store::associations(tx).await?, catalog::store::regions(tx).await?);
                match model::policy_for(&found, &known, &regions) {
                    Some(policy) => existing::<PolicyDocument>(tx, policy).await,
                    None => Err(Fault::not_found(format!(
                        "No policy is associated with endpoint {endpoint}."
                    ))),
                }
            })
        })
        .await
    }
}
