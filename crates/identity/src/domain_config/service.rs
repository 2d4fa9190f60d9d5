//! What can be done with the configuration of a domain.

use cloud_types::{DomainId, Fault};
use database::{JournalEntry, ObjectLock, Tx};
use serde_json::{Value, json};
use service_kit::{Ctx, Target};

use super::model::{self, Config};
use super::store;
use crate::{Identity, bootstrap, domain, wire};

/// What the journal shows: which options, and no value that is secret.
fn journal(tx: &mut Tx, action: &'static str, domain: &DomainId, before: &Config, after: &Config) {
    let shown = |config: &Config| (!config.is_empty()).then(|| json!(model::readable(config)));
    tx.journal(JournalEntry {
        kind: "domain_config",
        id: domain.to_string(),
        project: None,
        action,
        before: shown(before),
        after: shown(after),
    });
}

fn not_set(domain: &DomainId, group: Option<&str>, option: Option<&str>) -> Fault {
    let what = match (group, option) {
        (Some(group), Some(option)) => format!("option {option} in group {group}"),
        (Some(group), None) => format!("group {group}"),
        (None, _) => "any options".to_owned(),
    };
    Fault::not_found(format!("Could not find {what} in domain configuration for domain {domain}."))
}

async fn locked(tx: &mut Tx, id: &DomainId) -> Result<Config, Fault> {
    tx.lock(&[ObjectLock::new("domain", id)]).await?;
    if domain::store::get(tx, id).await?.is_none() {
        return Err(wire::not_found("domain", id));
    }
    Ok(store::get(tx, id.as_str()).await?)
}

impl Identity {
    /// What a domain has set: all, a group or an option.
    pub(crate) async fn domain_config(
        &self,
        ctx: &Ctx,
        id: &DomainId,
        group: Option<&str>,
        option: Option<&str>,
    ) -> Result<Value, Fault> {
        ctx.authorise("identity:get_domain_config", &Target::none())?;
        model::check_place(group, option)?;
        let wanted = id.clone();
        let config = self
            .look(move |tx| {
                let id = wanted.clone();
                Box::pin(async move {
                    if domain::store::get(tx, &id).await?.is_none() {
                        return Err(wire::not_found("domain", &id));
                    }
                    Ok(store::get(tx, id.as_str()).await?)
                })
            })
            .await?;
        let shown = model::readable(&config);
        model::part(&shown, group, option).ok_or_else(|| not_set(id, group, option))
    }

    /// What holds where a domain says nothing.
    pub(crate) fn default_domain_config(
        &self,
        ctx: &Ctx,
        group: Option<&str>,
        option: Option<&str>,
    ) -> Result<Value, Fault> {
        ctx.authorise("identity:get_domain_config_default", &Target::none())?;
        model::check_place(group, option)?;
        let known = model::defaults();
        Ok(model::part(&known, group, option).unwrap_or(Value::Null))
    }

    /// The rule for passwords, which everybody may read of the default domain.
    pub(crate) fn password_rule(
        &self,
        ctx: &Ctx,
        id: &DomainId,
        option: Option<&str>,
    ) -> Result<Value, Fault> {
        let rule = "identity:get_security_compliance_domain_config";
        ctx.authorise(rule, &Target::none())?;
        if *id != bootstrap::default_domain() {
            return Err(Fault::forbidden(
                "Invalid domain specific configuration: Reading security compliance information \
                 for any domain other than the default domain is not allowed or supported..",
            ));
        }
        let (regex, description) = self.password_regex();
        let options = json!({
            "password_regex": regex,
            "password_regex_description": description,
        });
        match option {
            None => Ok(json!({"security_compliance": options})),
            Some(option) => match options.get(option) {
                Some(value) => Ok(json!({option: value})),
                None => Err(Fault::forbidden(
                    "Invalid domain specific configuration: Reading security compliance values \
                     other than password_regex and password_regex_description is not allowed..",
                )),
            },
        }
    }

    /// Replaces what a domain has set. True when it had set nothing.
    pub(crate) async fn put_domain_config(
        &self,
        ctx: &Ctx,
        id: &DomainId,
        config: Config,
    ) -> Result<(Value, bool), Fault> {
        ctx.authorise("identity:create_domain_config", &Target::none())?;
        let (id, vault) = (id.clone(), self.tokens.vault());
        self.change(ctx, move |tx| {
            let (id, config, vault) = (id.clone(), config.clone(), vault.clone());
            Box::pin(async move {
                let before = locked(tx, &id).await?;
                store::delete(tx, id.as_str(), None, None).await?;
                store::set(tx, &vault, id.as_str(), &config).await?;
                journal(tx, "create", &id, &before, &config);
                let shown = json!(model::readable(&config));
                Ok(((shown, before.is_empty()), Vec::new()))
            })
        })
        .await
    }

    /// Changes what a domain has set; a group or option that is named must be set already.
    pub(crate) async fn update_domain_config(
        &self,
        ctx: &Ctx,
        id: &DomainId,
        change: Config,
        group: Option<String>,
        option: Option<String>,
    ) -> Result<Value, Fault> {
        ctx.authorise("identity:update_domain_config", &Target::none())?;
        let (id, vault) = (id.clone(), self.tokens.vault());
        self.change(ctx, move |tx| {
            let (id, change, vault) = (id.clone(), change.clone(), vault.clone());
            let (group, option) = (group.clone(), option.clone());
            Box::pin(async move {
                let before = locked(tx, &id).await?;
                let (group, option) = (group.as_deref(), option.as_deref());
                if group.is_some() && model::part(&before, group, option).is_none() {
                    return Err(not_set(&id, group, option));
                }
                store::set(tx, &vault, id.as_str(), &change).await?;
                let after = store::get(tx, id.as_str()).await?;
                journal(tx, "update", &id, &before, &after);
                Ok((json!(model::readable(&after)), Vec::new()))
            })
        })
        .await
    }

    /// Unsets all, a group or an option; what is named must be set.
    pub(crate) async fn delete_domain_config(
        &self,
        ctx: &Ctx,
        id: &DomainId,
        group: Option<String>,
        option: Option<String>,
    ) -> Result<(), Fault> {
        ctx.authorise("identity:delete_domain_config", &Target::none())?;
        model::check_place(group.as_deref(), option.as_deref())?;
        let id = id.clone();
        self.change(ctx, move |tx| {
            let (id, group, option) = (id.clone(), group.clone(), option.clone());
            Box::pin(async move {
                let before = locked(tx, &id).await?;
                let (group, option) = (group.as_deref(), option.as_deref());
                if group.is_some() && model::part(&before, group, option).is_none() {
                    return Err(not_set(&id, group, option));
                }
                store::delete(tx, id.as_str(), group, option).await?;
                let after = store::get(tx, id.as_str()).await?;
                journal(tx, "delete", &id, &before, &after);
                Ok(((), Vec::new()))
            })
        })
        .await
    }

    /// The expression that passwords must match, and how it is explained.
    fn password_regex(&self) -> (Option<String>, Option<String>) {
        let settings = &self.rules.settings;
        let said = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        (said(&settings.password_regex), said(&settings.password_regex_description))
    }
}
