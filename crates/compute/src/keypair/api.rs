//! `/os-keypairs`.

use axum::extract::State;
use cloud_types::{Fault, UserId};
use serde_json::{Map, Value, json};
use service_kit::{
    Access, ApiResult, Created, Ctx, Filters, Json, Method, PageRequest, Path, Routes, Service,
    StatusCode, StrictJson, page,
};

use super::model::is_valid_name;
use super::service::{self, KeyPairRequest};
use super::store::KeyPair;
use crate::Compute;
use crate::links;
use crate::wire::{Fields, invalid, strict_query};

/// The routes.
pub fn routes() -> Routes<Compute> {
    const BASE: &str = "/v2.1/os-keypairs";
    Routes::new(Service::Compute)
        .route(Method::GET, BASE, Access::Rule("compute:keypairs:list"), list)
        .route(Method::POST, BASE, Access::Rule("compute:keypairs:create"), create)
        .route(Method::GET, "/v2.1/os-keypairs/{name}", Access::Rule("compute:keypairs:show"), show)
        .route(
            Method::DELETE,
            "/v2.1/os-keypairs/{name}",
            Access::Rule("compute:keypairs:delete"),
            delete,
        )
}

#[derive(Clone, Copy, PartialEq)]
enum Shape {
    List,
    Create,
    Show,
}

fn view(ctx: &Ctx, pair: &KeyPair, shape: Shape) -> Value {
    let mut shown = Map::new();
    shown.insert("name".into(), json!(pair.name));
    shown.insert("public_key".into(), json!(pair.public_key));
    shown.insert("fingerprint".into(), json!(pair.fingerprint));
    if ctx.at_least(2, 2) {
        shown.insert("type".into(), json!(pair.kind));
    }
    if shape != Shape::List {
        shown.insert("user_id".into(), json!(pair.user));
    }
    if shape == Shape::Show {
        shown.insert("id".into(), json!(pair.number));
        shown.insert("created_at".into(), json!(pair.created_at.iso_micros_naive()));
        shown.insert("updated_at".into(), Value::Null);
        shown.insert("deleted".into(), json!(false));
        shown.insert("deleted_at".into(), Value::Null);
    }
    Value::Object(shown)
}

/// `user_id` in the query: from 2.10, for administrators.
fn user_of(ctx: &Ctx, filters: &Filters, known: &[&str]) -> Result<Option<UserId>, Fault> {
    if ctx.at_least(2, 75) {
        strict_query(filters, known)?;
    }
    if !ctx.at_least(2, 10) {
        return Ok(None);
    }
    filters.parsed("user_id")
}

async fn list(
    State(compute): State<Compute>,
    ctx: Ctx,
    filters: Filters,
) -> ApiResult<Json<Value>> {
    let user = user_of(&ctx, &filters, &["user_id", "limit", "marker"])?;
    let paged = ctx.at_least(2, 35);
    let page =
        if paged { PageRequest::from_filters(&filters, &[])? } else { PageRequest::default() };
    let mut pairs =
        service::list(compute.kit(), &ctx, user, page.marker.clone(), page.rows_and_one()).await?;
    let more = page.cut(&mut pairs);
    let rows: Vec<Value> =
        pairs.iter().map(|pair| json!({"keypair": view(&ctx, pair, Shape::List)})).collect();
    let mut body = json!({"keypairs": rows});
    if paged {
        let url = format!("{}/os-keypairs", links::base(&ctx));
        let last = pairs.last().map(|pair| pair.name.as_str());
        let next = page::links(&url, &filters, None, last, more, false);
        if !next.is_empty() {
            body["keypairs_links"] = json!(next);
        }
    }
    Ok(Json(body))
}

async fn create(
    State(compute): State<Compute>,
    ctx: Ctx,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Created> {
    let request = read_request(body, &ctx)?;
    let status = if ctx.at_least(2, 2) { StatusCode::CREATED } else { StatusCode::OK };
    let viewer = ctx.clone();
    let show = move |(pair, private): &(KeyPair, Option<String>)| {
        let mut shown = view(&viewer, pair, Shape::Create);
        if let Some(private) = private {
            shown["private_key"] = json!(private);
        }
        Created::with_status(status, json!({"keypair": shown}))
    };
    ctx.creating(show, async |ctx| service::create(compute.kit(), &ctx, request).await).await
}

fn read_request(body: Value, ctx: &Ctx) -> Result<KeyPairRequest, Fault> {
    let mut root = Fields::root(body)?;
    let mut fields = root.required_object("keypair")?;
    root.finish()?;
    let name = fields.required_name("name")?;
    if !is_valid_name(&name, ctx.at_least(2, 92)) {
        return Err(invalid(
            "keypair.name",
            &json!(name),
            "a name has letters, digits, spaces, _ and -, and from 2.92 also @ and .",
        ));
    }
    if ctx.at_least(2, 2) && fields.word("type", &["ssh", "x509"])?.as_deref() == Some("x509") {
        return Err(Fault::bad_request(
            "This cloud keeps SSH keys only: it has no guests that take X.509 certificates.",
        ));
    }
    let public_key = fields.text("public_key", 0, usize::MAX)?;
    let user = if ctx.at_least(2, 10) {
        fields
            .text("user_id", 1, 64)?
            .map(|text| {
                text.parse::<UserId>()
                    .map_err(|_| invalid("keypair.user_id", &json!(text), "it is not a user's id"))
            })
            .transpose()?
    } else {
        None
    };
    fields.finish()?;
    if ctx.at_least(2, 92) && public_key.is_none() {
        return Err(Fault::bad_request(
            "Invalid input for field/attribute keypair. 'public_key' is a required property",
        ));
    }
    Ok(KeyPairRequest { name, public_key, user })
}

async fn show(
    State(compute): State<Compute>,
    ctx: Ctx,
    Path(name): Path<String>,
    filters: Filters,
) -> ApiResult<Json<Value>> {
    let user = user_of(&ctx, &filters, &["user_id"])?;
    let pair = service::show(compute.kit(), &ctx, &name, user).await?;
    Ok(Json(json!({"keypair": view(&ctx, &pair, Shape::Show)})))
}

async fn delete(
    State(compute): State<Compute>,
    ctx: Ctx,
    Path(name): Path<String>,
    filters: Filters,
) -> ApiResult<StatusCode> {
    let user = user_of(&ctx, &filters, &["user_id"])?;
    service::delete(compute.kit(), &ctx, &name, user).await?;
    Ok(if ctx.at_least(2, 2) { StatusCode::NO_CONTENT } else { StatusCode::ACCEPTED })
}
