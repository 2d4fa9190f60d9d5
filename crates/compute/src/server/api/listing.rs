//! Lists of servers: what the query string may say, by microversion and by who asks.

use axum::extract::State;
use cloud_types::{Fault, ServerId, Timestamp};
use database::Value as Sql;
use regex::{Regex, RegexBuilder};
use service_kit::{ApiResult, Ctx, Filters, Json, PageRequest, Target, page};

use super::super::model::{LockedBy, states_with_status};
use super::super::service::{Patterns, ServerList};
use super::super::store::{Deleted, ListQuery, SORT_KEYS, TagFilter};
use super::view::{self, Members, Page};
use crate::Compute;
use crate::links;
use crate::wire::{parse_boolean, strict_query};

/// Parameters that everybody may use, with the minor version that brought them.
const PUBLIC: &[(&str, u16)] = &[
    ("reservation_id", 1),
    ("name", 1),
    ("status", 1),
    ("image", 1),
    ("flavor", 1),
    ("ip", 1),
    ("changes-since", 1),
    ("all_tenants", 1),
    ("ip6", 5),
    ("tags", 26),
    ("tags-any", 26),
    ("not-tags", 26),
    ("not-tags-any", 26),
    ("changes-before", 66),
    ("locked", 73),
    ("availability_zone", 83),
    ("config_drive", 83),
    ("key_name", 83),
    ("created_at", 83),
    ("launched_at", 83),
    ("terminated_at", 83),
    ("power_state", 83),
    ("task_state", 83),
    ("vm_state", 83),
    ("progress", 83),
    ("user_id", 83),
    ("hostname", 90),
];

/// Parameters that only operators may use; for others they are passed over.
const OPERATORS: &[&str] = &[
    "project_id",
    "tenant_id",
    "launch_index",
    "image_ref",
    "kernel_id",
    "ramdisk_id",
    "host",
    "node",
    "display_name",
    "description",
    "display_description",
    "locked_by",
    "uuid",
    "root_device_name",
    "access_ip_v4",
    "access_ip_v6",
    "auto_disk_config",
    "soft_deleted",
    "deleted",
    "sort_key",
    "sort_dir",
    "limit",
    "marker",
];

/// Parameters that are known and not offered: to pass one over would answer another question.
const NOT_OFFERED: &[&str] = &[
    "created_at",
    "launched_at",
    "terminated_at",
    "kernel_id",
    "ramdisk_id",
    "root_device_name",
    "access_ip_v4",
    "access_ip_v6",
    "soft_deleted",
];

/// Keys that Nova once took and ignores until 2.74, and refuses since.
const IGNORED_SORT_KEYS: &[&str] = &[
    "architecture",
    "cell_name",
    "cleaned",
    "default_ephemeral_device",
    "default_swap_device",
    "deleted",
    "deleted_at",
    "disable_terminate",
    "ephemeral_gb",
    "ephemeral_key_uuid",
    "id",
    "key_data",
    "launched_on",
    "memory_mb",
    "os_type",
    "reservation_id",
    "root_gb",
    "shutdown_terminate",
    "user_data",
    "vcpus",
    "vm_mode",
    "kernel_id",
    "ramdisk_id",
    "root_device_name",
];

/// Names of joined tables that no filter may have.
const FORBIDDEN: &[&str] = &[
    "block_device_mapping",
    "services",
    "metadata",
    "system_metadata",
    "info_cache",
    "security_groups",
    "pci_devices",
];

pub async fn brief(
    State(compute): State<Compute>,
    ctx: Ctx,
    filters: Filters,
) -> ApiResult<Json<Page>> {
    list(&compute, &ctx, &filters, false).await
}

pub async fn detail(
    State(compute): State<Compute>,
    ctx: Ctx,
    filters: Filters,
) -> ApiResult<Json<Page>> {
    list(&compute, &ctx, &filters, true).await
}

async fn list(
    compute: &Compute,
    ctx: &Ctx,
    filters: &Filters,
    detail: bool,
) -> ApiResult<Json<Page>> {
    let page = page_request(ctx, filters)?;
    let Some(mut request) = Reader { ctx, filters }.read(&page)? else {
        return Ok(Json(Page::default()));
    };
    request.detail = detail;
    let mut servers = compute.list_servers(ctx, request).await?;
    let more = page.cut(&mut servers);
    let now = compute.kit().clock.now();
    let shown = servers
        .iter()
        .map(|server| {
            view::text(&if detail {
                view::detail(ctx, server, Members::List, now)
            } else {
                view::brief(ctx, &server.server)
            })
        })
        .collect::<Result<_, _>>()?;
    let rest = if detail { "servers/detail" } else { "servers" };
    let url = format!("{}/{rest}", links::base(ctx));
    let last = servers.last().map(|server| server.server.id.to_string());
    let links = page::links(&url, filters, None, last.as_deref(), more, false);
    Ok(Json(Page { servers: shown, links }))
}

fn page_request(ctx: &Ctx, filters: &Filters) -> Result<PageRequest, Fault> {
    let mut allowed: Vec<&str> = SORT_KEYS.iter().map(|(name, _)| *name).collect();
    let strict = ctx.at_least(2, 75);
    if !strict {
        allowed.extend(IGNORED_SORT_KEYS);
    }
    if !ctx.at_least(2, 73) {
        allowed.retain(|key| *key != "locked");
        if !strict {
            allowed.push("locked");
        }
    }
    // A sort direction without keys is about the default key.
    let mut adjusted = filters.clone();
    if !filters.has("sort_key") && filters.has("sort_dir") {
        adjusted.0.push(("sort_key".to_owned(), "created_at".to_owned()));
    }
    let mut page = PageRequest::from_filters(&adjusted, &allowed)?;
    if !filters.has("sort_dir") {
        for (_, direction) in &mut page.sort {
            *direction = page::Direction::Descending;
        }
    }
    let operator_keys = ["host", "node"];
    if let Some((key, _)) =
        page.sort.iter().find(|(key, _)| operator_keys.contains(&key.as_str())).cloned()
        && !ctx.is_admin()
    {
        return Err(Fault::forbidden(format!("Only administrators can sort servers by {key}")));
    }
    page.sort.retain(|(key, _)| {
        !IGNORED_SORT_KEYS.contains(&key.as_str()) && (key != "locked" || ctx.at_least(2, 73))
    });
    Ok(page)
}

struct Reader<'r> {
    ctx: &'r Ctx,
    filters: &'r Filters,
}

impl Reader<'_> {
    /// What to look for; `None` when nothing can match.
    fn read(&self, page: &PageRequest) -> Result<Option<ServerList>, Fault> {
        let ctx = self.ctx;
        self.check_names()?;
        let operator = ctx.may("compute:servers:list:all_filters", &Target::none());
        let mut query = ListQuery {
            limit: page.rows_and_one(),
            sort: page.sort.clone(),
            ..ListQuery::default()
        };
        query.marker = match &page.marker {
            None => None,
            Some(text) => Some(text.parse::<ServerId>().map_err(|_| {
                Fault::bad_request(format!(
                    "marker [{}] not found",
                    text.chars().take(64).collect::<String>()
                ))
            })?),
        };
        if let Some(key) = NOT_OFFERED.iter().find(|key| self.get(key, operator).is_some()) {
            return Err(Fault::bad_request(format!(
                "Servers cannot be filtered by {key} here; changes-since and sort_key can help."
            )));
        }
        self.scope(&mut query, operator)?;
        if !self.status(&mut query)? {
            return Ok(None);
        }
        self.times(&mut query, operator)?;
        self.columns(&mut query, operator)?;
        self.tags(&mut query);
        let patterns = self.patterns(&mut query, operator)?;
        Ok(Some(ServerList { query, patterns, detail: false }))
    }

    fn check_names(&self) -> Result<(), Fault> {
        for (key, _) in &self.filters.0 {
            if FORBIDDEN.contains(&key.as_str()) || key.starts_with('_') {
                return Err(Fault::bad_request(format!(
                    "Invalid filter field: {}.",
                    key.chars().take(64).collect::<String>()
                )));
            }
        }
        if self.ctx.at_least(2, 75) {
            let known: Vec<&str> =
                PUBLIC.iter().map(|(name, _)| *name).chain(OPERATORS.iter().copied()).collect();
            strict_query(self.filters, &known)?;
        }
        Ok(())
    }

    /// The parameter's value, unless the microversion or the caller's rights pass it over.
    fn get(&self, key: &str, operator: bool) -> Option<&str> {
        let public = PUBLIC
            .iter()
            .find(|(name, _)| *name == key)
            .is_some_and(|(_, since)| self.ctx.at_least(2, *since));
        if public || operator { self.filters.get(key) } else { None }
    }

    /// Whose servers.
    fn scope(&self, query: &mut ListQuery, operator: bool) -> Result<(), Fault> {
        let ctx = self.ctx;
        let all = match self.filters.get("all_tenants") {
            None => false,
            Some("") => true,
            Some(text) => lenient(text).ok_or_else(|| {
                Fault::bad_request(format!(
                    "Invalid value '{}' for all_tenants: it is not a boolean",
                    text.chars().take(64).collect::<String>()
                ))
            })?,
        };
        if all {
            ctx.authorise("compute:servers:list:all_projects", &Target::none())?;
            let wanted = self.get("project_id", operator).or(self.get("tenant_id", operator));
            if let Some(project) = wanted {
                query.project = Some(project.parse().map_err(|_| {
                    Fault::bad_request("Invalid value for query parameter project_id.")
                })?);
            }
        } else {
            let project = ctx.project()?;
            ctx.authorise("compute:servers:list", &Target::project(&project))?;
            query.project = Some(project);
        }
        if let Some(user) = self.get("user_id", operator) {
            query.user =
                Some(user.parse().map_err(|_| {
                    Fault::bad_request("Invalid value for query parameter user_id.")
                })?);
        }
        Ok(())
    }

    /// `status`; `false` when no server can have it.
    fn status(&self, query: &mut ListQuery) -> Result<bool, Fault> {
        let statuses: Vec<String> = self.filters.all("status").map(str::to_owned).collect();
        if statuses.is_empty() {
            return Ok(true);
        }
        let states = states_with_status(&statuses);
        let known = states
            .iter()
            .map(|(vm, task)| super::super::model::State { vm: *vm, task: *task }.status());
        let mut known: Vec<&str> = known.collect();
        known.sort_unstable();
        known.dedup();
        if known.is_empty() {
            if is_novas_status(&statuses) {
                return Ok(false);
            }
            if self.ctx.at_least(2, 38) {
                return Err(Fault::bad_request("Invalid status value"));
            }
            return Ok(false);
        }
        if known == ["DELETED"] {
            self.ctx
                .authorise("compute:servers:list:deleted", &Target::none())
                .map_err(|_| Fault::forbidden("Only administrators may list deleted instances"))?;
            query.deleted = Deleted::Gone;
        }
        query.equals.push(("status", known.into_iter().map(Sql::from_text).collect()));
        Ok(true)
    }

    fn times(&self, query: &mut ListQuery, operator: bool) -> Result<(), Fault> {
        let time = |key: &str| -> Result<Option<Timestamp>, Fault> {
            self.get(key, false)
                .map(|text| {
                    Timestamp::parse(text).ok_or_else(|| {
                        Fault::bad_request(format!(
                            "Invalid input for query parameters {key}. Value: {}. It is not a 'date-time'",
                            text.chars().take(64).collect::<String>()
                        ))
                    })
                })
                .transpose()
        };
        query.changed_since = time("changes-since")?;
        query.changed_before = time("changes-before")?;
        if let (Some(since), Some(before)) = (query.changed_since, query.changed_before)
            && since > before
        {
            return Err(Fault::bad_request(
                "The value of changes-since must be less than or equal to changes-before.",
            ));
        }
        if query.deleted == Deleted::Live
            && (query.changed_since.is_some() || query.changed_before.is_some())
        {
            query.deleted = Deleted::Both;
        }
        if let Some(text) = self.get("deleted", operator) {
            query.deleted = if lenient(text) == Some(true) { Deleted::Gone } else { Deleted::Live };
        }
        Ok(())
    }

    fn columns(&self, query: &mut ListQuery, operator: bool) -> Result<(), Fault> {
        const EQUAL: &[(&str, &str)] = &[
            ("reservation_id", "reservation_id"),
            ("image", "image_id"),
            ("image_ref", "image_id"),
            ("flavor", "flavor_id"),
            ("key_name", "key_name"),
            ("availability_zone", "zone"),
            ("vm_state", "vm_state"),
            ("task_state", "task_state"),
            ("host", "host_name"),
            ("node", "host_name"),
            ("uuid", "id"),
            ("auto_disk_config", "disk_config"),
        ];
        for (key, column) in EQUAL {
            if let Some(text) = self.get(key, operator) {
                query.equals.push((column, vec![Sql::from_text(text)]));
            }
        }
        for (key, column) in [
            ("power_state", "power_state"),
            ("progress", "progress"),
            ("launch_index", "launch_index"),
        ] {
            if let Some(text) = self.get(key, operator) {
                let values = text.parse::<i64>().map(Sql::from).into_iter().collect();
                query.equals.push((column, values));
            }
        }
        if let Some(text) = self.get("config_drive", operator) {
            let wanted = lenient(text).unwrap_or(!text.is_empty());
            query.equals.push(("config_drive", vec![wanted.into()]));
        }
        if let Some(text) = self.get("locked", operator && self.ctx.at_least(2, 73)) {
            query.locked = Some(lenient(text).ok_or_else(|| {
                Fault::bad_request("Invalid value for query parameter locked: it is not a boolean")
            })?);
        }
        if let Some(by) = self.get("locked_by", operator).and_then(LockedBy::parse) {
            query.equals.push(("locked_by", vec![Sql::from_text(by.as_str())]));
        }
        Ok(())
    }

    fn tags(&self, query: &mut ListQuery) {
        let list = |key: &str| -> Option<Vec<String>> {
            let text = self.get(key, false)?;
            Some(text.split(',').map(str::to_owned).collect())
        };
        query.tags.extend(list("tags").map(TagFilter::All));
        query.tags.extend(list("tags-any").map(TagFilter::Any));
        query.tags.extend(list("not-tags").map(TagFilter::NotAll));
        query.tags.extend(list("not-tags-any").map(TagFilter::NotAny));
    }

    /// Regular expressions; plain words are left to the database.
    fn patterns(&self, query: &mut ListQuery, operator: bool) -> Result<Patterns, Fault> {
        let mut patterns = Patterns::default();
        let mut text = |keys: [&str; 2], column: &'static str| -> Result<Option<Regex>, Fault> {
            let Some(text) = keys.into_iter().find_map(|key| self.get(key, operator)) else {
                return Ok(None);
            };
            if text.is_ascii() && !text.contains(|c: char| "\\^$.|?*+()[]{}".contains(c)) {
                query.contains.push((column, text.to_owned()));
                return Ok(None);
            }
            pattern(keys[0], text).map(Some)
        };
        patterns.name = text(["name", "display_name"], "name")?;
        patterns.hostname = text(["hostname", "hostname"], "hostname")?;
        patterns.description = text(["description", "display_description"], "description")?;
        if let Some(text) = self.get("ip", operator) {
            patterns.ip = Some(pattern("ip", text)?);
        }
        if let Some(text) = self.get("ip6", operator) {
            patterns.ip6 = Some(pattern("ip6", text)?);
        }
        Ok(patterns)
    }
}

/// A caller's expression, bounded so that it costs little to build and nothing much to run.
fn pattern(key: &str, text: &str) -> Result<Regex, Fault> {
    const MAX_PROGRAM_BYTES: usize = 64 * 1024;
    RegexBuilder::new(text)
        .case_insensitive(true)
        .size_limit(MAX_PROGRAM_BYTES)
        .dfa_size_limit(MAX_PROGRAM_BYTES)
        .build()
        .map_err(|_| {
            Fault::bad_request(format!(
                "Invalid input for query parameters {key}. Value: {}. It is not a 'regex'",
                text.chars().take(64).collect::<String>()
            ))
        })
}

/// What Nova's `strutils.bool_from_string` takes.
fn lenient(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "t" | "y" => Some(true),
        "f" | "n" => Some(false),
        other => parse_boolean(other),
    }
}

/// Statuses of Nova that no server here can have, so that asking for them is no mistake.
fn is_novas_status(statuses: &[String]) -> bool {
    const OTHERS: &[&str] = &[
        "MIGRATING",
        "PASSWORD",
        "PAUSED",
        "REBUILD",
        "RESCUE",
        "RESIZE",
        "REVERT_RESIZE",
        "SHELVED",
        "SHELVED_OFFLOADED",
        "SOFT_DELETED",
        "SUSPENDED",
        "VERIFY_RESIZE",
    ];
    statuses.iter().any(|status| OTHERS.iter().any(|other| other.eq_ignore_ascii_case(status)))
}

/// A text parameter.
trait FromText {
    fn from_text(text: &str) -> Self;
}

impl FromText for Sql {
    fn from_text(text: &str) -> Self {
        Sql::Text(text.to_owned())
    }
}
