//! Grants on projects, domains and the system, and `/v3/role_assignments`.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cloud_types::{Fault, RoleId};
use serde_json::Value;
use service_kit::{Access, ApiResult, Ctx, Filters, Method, Path, Routes, Service, StatusCode};

use super::model::{ActorKind, Assignment, SYSTEM, TargetKind};
use super::service::add_names;
use crate::wire::Shown;
use crate::{Identity, wire};

pub(crate) fn routes() -> Routes<Identity> {
    let mut routes = Routes::new(Service::Identity).route(
        Method::GET,
        "/v3/role_assignments",
        Access::AnyOf(&[
            "identity:list_role_assignments",
            "identity:list_role_assignments_for_tree",
        ]),
        list,
    );
    for actor in [ActorKind::User, ActorKind::Group] {
        let name = actor.as_str();
        for kind in [TargetKind::Project, TargetKind::Domain] {
            let target = kind.as_str();
            let base = format!("/v3/{target}s/{{{target}_id}}/{name}s/{{{name}_id}}/roles");
            routes = grants(routes, &base, "", Place { actor, kind, inherited: false });
            let base =
                format!("/v3/OS-INHERIT/{target}s/{{{target}_id}}/{name}s/{{{name}_id}}/roles");
            let ending = "/inherited_to_projects";
            routes = grants(routes, &base, ending, Place { actor, kind, inherited: true });
        }
        routes = system_grants(routes, actor);
    }
    routes
}

/// Which kind of assignment a route is about.
#[derive(Clone, Copy)]
struct Place {
    actor: ActorKind,
    kind: TargetKind,
    inherited: bool,
}

impl Place {
    fn assignment(self, target: String, actor: String, role: &str) -> Result<Assignment, Fault> {
        Ok(Assignment {
            actor_kind: self.actor,
            actor_id: actor,
            target_kind: self.kind,
            target_id: target,
            role_id: wire::id("role", role)?,
            inherited: self.inherited,
        })
    }

    /// For lists, where no role is named.
    fn any(self, target: String, actor: String) -> Assignment {
        Assignment {
            actor_kind: self.actor,
            actor_id: actor,
            target_kind: self.kind,
            target_id: target,
            role_id: RoleId::random(),
            inherited: self.inherited,
        }
    }
}

type Three = Path<(String, String, String)>;
type Two = Path<(String, String)>;

fn grants(routes: Routes<Identity>, base: &str, ending: &str, place: Place) -> Routes<Identity> {
    let list = Access::Rule("identity:list_grants");
    let see = Access::Rule("identity:check_grant");
    let give = Access::Rule("identity:create_grant");
    let take = Access::Rule("identity:revoke_grant");
    let one = format!("{base}/{{role_id}}{ending}");
    routes
        .route(
            Method::GET,
            &format!("{base}{ending}"),
            list,
            move |State(identity): State<Identity>, ctx: Ctx, Path((target, actor)): Two| async move {
                held(&identity, &ctx, place.any(target, actor)).await
            },
        )
        .route(
            Method::PUT,
            &one,
            give,
            move |State(identity): State<Identity>, ctx: Ctx, Path((target, actor, role)): Three| async move {
                identity.grant(&ctx, place.assignment(target, actor, &role)?).await?;
                ApiResult::Ok(StatusCode::NO_CONTENT)
            },
        )
        .route(
            Method::GET,
            &one,
            see,
            move |State(identity): State<Identity>, ctx: Ctx, Path((target, actor, role)): Three| async move {
                identity.check_grant(&ctx, place.assignment(target, actor, &role)?).await?;
                ApiResult::Ok(StatusCode::NO_CONTENT)
            },
        )
        .route(
            Method::DELETE,
            &one,
            take,
            move |State(identity): State<Identity>, ctx: Ctx, Path((target, actor, role)): Three| async move {
                identity.take_away(&ctx, place.assignment(target, actor, &role)?).await?;
                ApiResult::Ok(StatusCode::NO_CONTENT)
            },
        )
}

fn system_grants(routes: Routes<Identity>, actor: ActorKind) -> Routes<Identity> {
    let place = Place { actor, kind: TargetKind::System, inherited: false };
    let [list, see, give, take] = match actor {
        ActorKind::User => [
            "identity:list_system_grants_for_user",
            "identity:check_system_grant_for_user",
            "identity:create_system_grant_for_user",
            "identity:revoke_system_grant_for_user",
        ],
        ActorKind::Group => [
            "identity:list_system_grants_for_group",
            "identity:check_system_grant_for_group",
            "identity:create_system_grant_for_group",
            "identity:revoke_system_grant_for_group",
        ],
    }
    .map(Access::Rule);
    let name = actor.as_str();
    let base = format!("/v3/system/{name}s/{{{name}_id}}/roles");
    let one = format!("{base}/{{role_id}}");
    let system = || SYSTEM.to_owned();
    routes
        .route(
            Method::GET,
            &base,
            list,
            move |State(identity): State<Identity>, ctx: Ctx, Path(actor): Path<String>| async move {
                held(&identity, &ctx, place.any(system(), actor)).await
            },
        )
        .route(
            Method::PUT,
            &one,
            give,
            move |State(identity): State<Identity>, ctx: Ctx, Path((actor, role)): Two| async move {
                identity.grant(&ctx, place.assignment(system(), actor, &role)?).await?;
                ApiResult::Ok(StatusCode::NO_CONTENT)
            },
        )
        .route(
            Method::GET,
            &one,
            see,
            move |State(identity): State<Identity>, ctx: Ctx, Path((actor, role)): Two| async move {
                identity.check_grant(&ctx, place.assignment(system(), actor, &role)?).await?;
                ApiResult::Ok(StatusCode::NO_CONTENT)
            },
        )
        .route(
            Method::DELETE,
            &one,
            take,
            move |State(identity): State<Identity>, ctx: Ctx, Path((actor, role)): Two| async move {
                identity.take_away(&ctx, place.assignment(system(), actor, &role)?).await?;
                ApiResult::Ok(StatusCode::NO_CONTENT)
            },
        )
}

async fn held(identity: &Identity, ctx: &Ctx, like: Assignment) -> ApiResult<Response> {
    // The place without the role: where the caller asked.
    let path = like.path();
    let at = path.rfind("/roles/").map_or("", |end| &path[..end]);
    let at = format!("{at}/roles");
    let rows: Vec<Value> =
        identity.grants(ctx, like).await?.iter().map(|role| role.view(ctx)).collect();
    Ok(wire::whole_list(ctx, &at, "roles", &rows).into_response())
}

async fn list(State(identity): State<Identity>, ctx: Ctx, filters: Filters) -> ApiResult<Response> {
    let (rows, names) = identity.role_assignments(&ctx, filters.clone()).await?;
    let (name, base) = ("role_assignments", ctx.service_url());
    let path = format!("/{name}");
    let Some(names) = names else {
        let rows: Vec<_> =
            rows.iter().map(|what| Shown { what, base: Some(base.as_str()) }).collect();
        return Ok(wire::filtered_list(&ctx, &path, name, &filters, &rows).into_response());
    };
    let rows: Vec<Value> = rows
        .iter()
        .map(|row| {
            let mut view = row.view(&ctx);
            add_names(&mut view, row, &names);
            view
        })
        .collect();
    Ok(wire::filtered_list(&ctx, &path, name, &filters, &rows).into_response())
}
