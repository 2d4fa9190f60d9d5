//! `/v3/users/{id}/application_credentials` and `/v3/users/{id}/access_rules`.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cloud_types::{Fault, Timestamp, UserId};
use serde::Deserialize;
use serde_json::{Value, json};
use service_kit::{
    Access, ApiResult, Created, Ctx, Filters, Json, Method, Path, Routes, Service, StatusCode,
    StrictJson, from_value,
};
use zeroize::Zeroizing;

use super::model::access_rule;
use super::service::{NewCredential, Shown, WantedRule};
use crate::fields::{Fields, NAME_LONG, Patch};
use crate::password::MAX_PASSWORD;
use crate::token::service::RoleName;
use crate::{Identity, wire};

pub(crate) fn routes() -> Routes<Identity> {
    const ALL: &str = "/v3/users/{user_id}/application_credentials";
    const ONE: &str = "/v3/users/{user_id}/application_credentials/{application_credential_id}";
    const RULES: &str = "/v3/users/{user_id}/access_rules";
    const RULE: &str = "/v3/users/{user_id}/access_rules/{access_rule_id}";
    let rule = Access::Rule;
    Routes::new(Service::Identity)
        .route(Method::GET, ALL, rule("identity:list_application_credentials"), list)
        .route(Method::POST, ALL, rule("identity:create_application_credential"), create)
        .route(Method::GET, ONE, rule("identity:get_application_credential"), show)
        .route(Method::DELETE, ONE, rule("identity:delete_application_credential"), delete)
        .route(Method::GET, RULES, rule("identity:list_access_rules"), list_rules)
        .route(Method::GET, RULE, rule("identity:get_access_rule"), show_rule)
        .route(Method::DELETE, RULE, rule("identity:delete_access_rule"), delete_rule)
}

fn view(ctx: &Ctx, shown: &Shown) -> Value {
    let mut view = shown.credential.view(ctx, &shown.roles);
    if let Some(secret) = &shown.secret {
        view["secret"] = json!(**secret);
    }
    view
}

async fn list(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(owner): Path<String>,
    filters: Filters,
) -> ApiResult<Response> {
    let page = wire::page_request(&filters)?;
    let owner: UserId = wire::id("user", &owner)?;
    let found = identity.application_credentials(&ctx, &owner, filters.clone()).await?;
    let rows = found.iter().map(|shown| view(&ctx, shown)).collect();
    let path = format!("/users/{owner}/application_credentials");
    let name = "application_credentials";
    Ok(wire::list(&ctx, &path, name, &filters, &page, rows).into_response())
}

async fn show(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path((owner, id)): Path<(String, String)>,
) -> ApiResult<Json<Value>> {
    let owner: UserId = wire::id("user", &owner)?;
    let shown = identity.application_credential(&ctx, &owner, &id).await?;
    Ok(Json(json!({"application_credential": view(&ctx, &shown)})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RulePart {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    service: Option<String>,
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    path: Option<String>,
}

fn wanted_rule(part: RulePart) -> Result<WantedRule, Fault> {
    match part {
        RulePart { id, service: Some(service), method: Some(method), path: Some(path) } => {
            Ok(WantedRule::Spelled(id, access_rule(&service, &method, &path)?))
        }
        RulePart { id: Some(id), service: None, method: None, path: None } => {
            Ok(WantedRule::Known(id))
        }
        _ => Err(Fault::bad_request(
            "Invalid input for field 'access_rules': an access rule has a service, a method and a \
             path, or the id of one that there is.",
        )),
    }
}

/// A moment in the future, as upstream reads it.
pub(crate) fn expiry(fields: &mut Fields) -> Result<Option<Timestamp>, Fault> {
    match fields.text("expires_at", NAME_LONG)? {
        Patch::Absent | Patch::Null => Ok(None),
        Patch::Set(text) => match Timestamp::parse(&text) {
            Some(moment) => Ok(Some(moment)),
            None => Err(Fault::bad_request(
                "Invalid input for field 'expires_at': the timestamp is not in the expected \
                 format. Write it as 2030-01-31T12:00:00.000000Z.",
            )),
        },
    }
}

fn read(body: Value) -> Result<NewCredential, Fault> {
    let mut fields = Fields::below("application_credential", body)?;
    let name = fields.required_name("name", NAME_LONG)?;
    let mut description = None;
    fields.text("description", 65_535)?.apply(&mut description);
    let secret = match fields.text("secret", MAX_PASSWORD)? {
        Patch::Set(text) if text.is_empty() => None,
        Patch::Set(text) => Some(Zeroizing::new(text)),
        Patch::Absent | Patch::Null => None,
    };
    let expires_at = expiry(&mut fields)?;
    let mut roles = Vec::new();
    for role in fields.list("roles")? {
        roles.push(RoleName::read(role)?);
    }
    let mut access_rules = Vec::new();
    for rule in fields.list("access_rules")? {
        access_rules.push(wanted_rule(from_value("access_rules", rule)?)?);
    }
    let unrestricted = fields.optional_flag("unrestricted")?.unwrap_or(false);
    fields.ignore(&["id", "project_id", "system", "links"]);
    fields.finish()?;
    Ok(NewCredential { name, description, secret, expires_at, roles, unrestricted, access_rules })
}

async fn create(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(owner): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Created> {
    let owner: UserId = wire::id("user", &owner)?;
    let new = read(body)?;
    let viewer = ctx.clone();
    let show =
        move |made: &Shown| Created::new(json!({"application_credential": view(&viewer, made)}));
    let make = async |ctx: Ctx| identity.create_application_credential(&ctx, &owner, new).await;
    ctx.creating(show, make).await
}

async fn delete(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path((owner, id)): Path<(String, String)>,
) -> ApiResult<StatusCode> {
    let owner: UserId = wire::id("user", &owner)?;
    identity.delete_application_credential(&ctx, &owner, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn list_rules(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(owner): Path<String>,
    filters: Filters,
) -> ApiResult<Response> {
    let page = wire::page_request(&filters)?;
    let owner: UserId = wire::id("user", &owner)?;
    let found = identity.access_rules(&ctx, &owner, filters.clone()).await?;
    let rows = found.iter().map(|rule| rule.view(&ctx, &owner)).collect();
    let path = format!("/users/{owner}/access_rules");
    Ok(wire::list(&ctx, &path, "access_rules", &filters, &page, rows).into_response())
}

async fn show_rule(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path((owner, id)): Path<(String, String)>,
) -> ApiResult<Json<Value>> {
    let owner: UserId = wire::id("user", &owner)?;
    let rule = identity.access_rule(&ctx, &owner, &id).await?;
    Ok(Json(json!({"access_rule": rule.view(&ctx, &owner)})))
}

async fn delete_rule(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path((owner, id)): Path<(String, String)>,
) -> ApiResult<StatusCode> {
    let owner: UserId = wire::id("user", &owner)?;
    identity.delete_access_rule(&ctx, &owner, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
