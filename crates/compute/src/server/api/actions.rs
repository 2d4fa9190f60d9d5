//! `POST /servers/{id}/action`, and what became of it: `/os-instance-actions`.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cloud_types::{Fault, Timestamp};
use serde_json::{Map, Value, json};
use service_kit::{ApiResult, Ctx, Filters, Json, PageRequest, Path, StatusCode, StrictJson, page};

use super::super::model::{Command, Server};
use super::super::store::{ActionFilter, ActionRecord};
use super::parse_id;
use super::view::hash_host;
use crate::Compute;
use crate::links;
use crate::wire::{Fields, MAX_AMOUNT, invalid, strict_query};

/// Actions of Nova that this cloud does not have: known, so that the refusal can say so.
const NOT_OFFERED: &[&str] = &[
    "addFixedIp",
    "addFloatingIp",
    "addSecurityGroup",
    "changePassword",
    "confirmResize",
    "createBackup",
    "createImage",
    "evacuate",
    "forceDelete",
    "injectNetworkInfo",
    "migrate",
    "os-getRDPConsole",
    "os-getSerialConsole",
    "os-getSPICEConsole",
    "os-getVNCConsole",
    "os-migrateLive",
    "os-resetState",
    "pause",
    "rebuild",
    "removeFixedIp",
    "removeFloatingIp",
    "removeSecurityGroup",
    "rescue",
    "resetNetwork",
    "resize",
    "restore",
    "resume",
    "revertResize",
    "shelve",
    "shelveOffload",
    "suspend",
    "trigger_crash_dump",
    "unpause",
    "unrescue",
    "unshelve",
];

pub async fn act(
    State(compute): State<Compute>,
    ctx: Ctx,
    Path(id): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Response> {
    let mut fields = Fields::root(body)?;
    let keys = fields.keys();
    let [action] = keys.as_slice() else {
        return Err(Fault::bad_request("The body names one action.").into());
    };
    let id = parse_id(&id)?;
    let accepted = || StatusCode::ACCEPTED.into_response();
    match action.as_str() {
        "os-start" => compute.command(&ctx, id, Command::Start).await?,
        "os-stop" => compute.command(&ctx, id, Command::Stop).await?,
        "reboot" => {
            let mut reboot = fields.required_object("reboot")?;
            let kind = reboot.word("type", &["HARD", "Hard", "hard", "SOFT", "Soft", "soft"])?;
            let kind = kind.ok_or_else(|| {
                Fault::bad_request(
                    "Invalid input for field/attribute reboot. 'type' is a required property",
                )
            })?;
            reboot.finish()?;
            let hard = kind.eq_ignore_ascii_case("hard");
            let command = if hard { Command::RebootHard } else { Command::RebootSoft };
            compute.command(&ctx, id, command).await?;
        }
        "lock" => {
            let reason = read_lock(&mut fields, &ctx)?;
            compute.lock_server(&ctx, id, reason).await?;
        }
        "unlock" => compute.unlock_server(&ctx, id).await?,
        "os-getConsoleOutput" => {
            let lines = read_lines(&mut fields)?;
            let output = compute.console_output(&ctx, id, lines).await?;
            return Ok(Json(json!({"output": output})).into_response());
        }
        known if NOT_OFFERED.contains(&known) => {
            // Who asks for a server that is not there is told that first, as in Nova.
            compute.show_server(&ctx, id).await?;
            return Err(Fault::not_implemented(format!(
                "The action {known} is not offered by this cloud yet."
            ))
            .into());
        }
        other => {
            return Err(Fault::bad_request(format!(
                "There is no such action: {}",
                other.chars().take(64).collect::<String>()
            ))
            .into());
        }
    }
    Ok(accepted())
}

fn read_lock(fields: &mut Fields, ctx: &Ctx) -> Result<Option<String>, Fault> {
    if !ctx.at_least(2, 73) {
        return Ok(None);
    }
    match fields.take("lock") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(map)) => {
            let mut lock = Fields::root(Value::Object(map))?;
            let reason = lock.text("locked_reason", 1, 255)?;
            lock.finish()?;
            Ok(reason)
        }
        Some(other) => Err(invalid("lock", &other, "it is not an object or null")),
    }
}

/// `length`: so many lines; all without it, null, or a negative number.
fn read_lines(fields: &mut Fields) -> Result<Option<u32>, Fault> {
    let mut wanted = fields.required_object("os-getConsoleOutput")?;
    let lines = match wanted.take("length") {
        None | Some(Value::Null) => None,
        Some(value) => {
            let number = match &value {
                Value::Number(number) => number.as_i64(),
                Value::String(text) => text.parse().ok(),
                _ => None,
            };
            let limit = i64::try_from(MAX_AMOUNT).unwrap_or(i64::MAX);
            match number {
                Some(number) if (-1..=limit).contains(&number) => u32::try_from(number).ok(),
                _ => {
                    return Err(invalid(
                        "os-getConsoleOutput.length",
                        &value,
                        "it is not a whole number from -1",
                    ));
                }
            }
        }
    };
    wanted.finish()?;
    Ok(lines)
}

fn record_view(ctx: &Ctx, id: &str, record: &ActionRecord) -> Map<String, Value> {
    let mut shown = Map::new();
    shown.insert("action".into(), json!(record.action));
    shown.insert("instance_uuid".into(), json!(id));
    shown.insert("request_id".into(), json!(record.request_id));
    shown.insert("user_id".into(), json!(record.user));
    shown.insert("project_id".into(), json!(record.project));
    shown.insert("start_time".into(), json!(record.started_at.iso_micros_naive()));
    shown.insert("message".into(), json!(record.message));
    if ctx.at_least(2, 58) {
        shown.insert("updated_at".into(), json!(record.updated_at.iso_micros_naive()));
    }
    shown
}

pub async fn list(
    State(compute): State<Compute>,
    ctx: Ctx,
    Path(id): Path<String>,
    filters: Filters,
) -> ApiResult<Json<Value>> {
    let server = parse_id(&id)?;
    let paged = ctx.at_least(2, 58);
    let mut filter = ActionFilter::default();
    let mut page = PageRequest::default();
    if paged {
        let mut known = vec!["limit", "marker", "changes-since"];
        if ctx.at_least(2, 66) {
            known.push("changes-before");
        }
        strict_query(&filters, &known)?;
        page = PageRequest::from_filters(&filters, &[])?;
        filter = ActionFilter {
            changed_since: time(&filters, "changes-since")?,
            changed_before: time(&filters, "changes-before")?,
            marker: page.marker.clone(),
            limit: Some(page.rows_and_one()),
        };
        if let (Some(since), Some(before)) = (filter.changed_since, filter.changed_before)
            && since > before
        {
            return Err(Fault::bad_request(
                "The value of changes-since must be less than or equal to changes-before.",
            )
            .into());
        }
    }
    let mut records = compute.actions(&ctx, server, filter).await?;
    let more = paged && page.cut(&mut records);
    let shown: Vec<_> = records.iter().map(|record| record_view(&ctx, &id, record)).collect();
    let mut body = json!({"instanceActions": shown});
    let url = format!("{}/servers/{id}/os-instance-actions", links::base(&ctx));
    let last = records.last().map(|record| record.request_id.as_str());
    let next = page::links(&url, &filters, None, last, more, false);
    if !next.is_empty() {
        body["links"] = json!(next);
    }
    Ok(Json(body))
}

fn time(filters: &Filters, key: &str) -> Result<Option<Timestamp>, Fault> {
    filters
        .get(key)
        .map(|text| {
            Timestamp::parse(text).ok_or_else(|| {
                Fault::bad_request(format!("Invalid input for query parameters {key}."))
            })
        })
        .transpose()
}

pub async fn show(
    State(compute): State<Compute>,
    ctx: Ctx,
    Path((id, request)): Path<(String, String)>,
) -> ApiResult<Json<Value>> {
    let found = compute.action(&ctx, parse_id(&id)?, &request).await?;
    let mut shown = record_view(&ctx, &id, &found.record);
    if found.shows_host || ctx.at_least(2, 51) {
        let events: Vec<Value> = found
            .events
            .iter()
            .map(|event| {
                let mut shown = json!({
                    "event": event.event,
                    "start_time": event.started_at.iso_micros_naive(),
                    "finish_time": event.finished_at.map(Timestamp::iso_micros_naive),
                    "result": event.result,
                });
                if found.shows_host {
                    shown["traceback"] = Value::Null;
                }
                if ctx.at_least(2, 62) {
                    shown["hostId"] = json!(hidden_host(&found.server, event.host.as_deref()));
                    if found.shows_host {
                        shown["host"] = json!(event.host);
                    }
                }
                if ctx.at_least(2, 84) && found.shows_host {
                    shown["details"] = json!(event.details);
                }
                shown
            })
            .collect();
        shown.insert("events".into(), json!(events));
    }
    Ok(Json(json!({"instanceAction": shown})))
}

fn hidden_host(server: &Server, host: Option<&str>) -> String {
    host.map_or_else(String::new, |host| hash_host(server, host))
}
