//! One server: create, show, change, delete.

use axum::extract::State;
use cloud_types::Fault;
use serde_json::{Value, json};
use service_kit::{ApiResult, Created, Ctx, Json, Path, StatusCode, StrictJson};

use super::super::model::{Command, CreateRequest, DiskConfig, read_access_v4, read_access_v6};
use super::super::service::{Accepted, Update};
use super::view::{self, Members};
use super::{parse_id, server_id};
use crate::Compute;
use crate::links;
use crate::wire::{Fields, NAME_CHARS};

pub async fn create(
    State(compute): State<Compute>,
    ctx: Ctx,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Created> {
    // Asked again by the service; here so that who may not is told that before anything else.
    let wish = CreateRequest::read(body, ctx.microversion)?;
    let password = wish.admin_pass.clone().unwrap_or_else(make_password);
    let groups = wish.security_groups.clone().unwrap_or_else(|| vec!["default".to_owned()]);
    let groups: Vec<Value> = groups.iter().map(|name| json!({"name": name})).collect();
    let reservation_only = wish.return_reservation_id;
    let viewer = ctx.clone();
    let show = move |accepted: &Accepted| {
        if reservation_only {
            let body = json!({"reservation_id": accepted.reservation_id});
            return Created::with_status(StatusCode::ACCEPTED, body);
        }
        let id = accepted.server.id.to_string();
        let body = json!({"server": {
            "id": id,
            "links": links::of(&viewer, "servers", &id),
            "OS-DCF:diskConfig": accepted.server.disk_config.as_str(),
            "security_groups": groups,
            "adminPass": password,
        }});
        let location = format!("{}/servers/{id}", links::base(&viewer));
        Created::with_status(StatusCode::ACCEPTED, body).at(location)
    };
    ctx.creating(show, async |ctx| compute.create_servers(&ctx, wish).await).await
}

/// Twelve letters and digits that cannot be mistaken for each other. Returned once and kept
/// nowhere: guests here take keys, and Nova's clients expect the field.
fn make_password() -> String {
    use rand::Rng as _;
    const LETTERS: &[u8] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    let mut random = rand::rng();
    (0..12).map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())])).collect()
}

pub async fn show(
    State(compute): State<Compute>,
    ctx: Ctx,
    id: Path<String>,
) -> ApiResult<Json<Value>> {
    let shown = compute.show_server(&ctx, server_id(id)?).await?;
    let now = compute.kit().clock.now();
    Ok(Json(json!({"server": view::detail(&ctx, &shown, Members::Show, now)})))
}

pub async fn update(
    State(compute): State<Compute>,
    ctx: Ctx,
    Path(id): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    let update = read_update(body, &ctx)?;
    let id = parse_id(&id)?;
    compute.update_server(&ctx, id, update).await?;
    let shown = compute.show_server(&ctx, id).await?;
    let members = if ctx.at_least(2, 75) { Members::Show } else { Members::Update };
    let now = compute.kit().clock.now();
    Ok(Json(json!({"server": view::detail(&ctx, &shown, members, now)})))
}

fn read_update(body: Value, ctx: &Ctx) -> Result<Update, Fault> {
    let mut root = Fields::root(body)?;
    let mut server = root.required_object("server")?;
    root.finish()?;
    let update = Update {
        name: server.name("name")?,
        description: if ctx.at_least(2, 19) {
            server.description("description", NAME_CHARS)?
        } else {
            None
        },
        hostname: if ctx.at_least(2, 90) {
            server.hostname("hostname", ctx.at_least(2, 94))?
        } else {
            None
        },
        disk_config: server
            .word("OS-DCF:diskConfig", &["AUTO", "MANUAL"])?
            .and_then(|word| DiskConfig::parse(&word)),
        access_ipv4: read_access_v4(&mut server)?,
        access_ipv6: read_access_v6(&mut server)?,
    };
    server.finish()?;
    Ok(update)
}

pub async fn delete(
    State(compute): State<Compute>,
    ctx: Ctx,
    id: Path<String>,
) -> ApiResult<StatusCode> {
    compute.command(&ctx, server_id(id)?, Command::Delete).await?;
    Ok(StatusCode::NO_CONTENT)
}
