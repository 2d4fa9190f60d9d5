//! What may be done with servers. The only files that the rest of compute calls.

mod act;
mod adopt;
mod attach;
mod console;
mod create;
mod read;
mod update;

use cloud_types::{Fault, ServerId};
use database::Tx;
use service_kit::{Ctx, Target};

pub use adopt::HeldServer;
pub use create::Accepted;
pub use read::{Detail, Patterns, ServerList};
pub use update::{MetadataChange, Update};

use super::model::Server;
use super::store;

/// The refusal for a server that is not there, or not for the caller to know of.
pub(super) fn missing(id: impl std::fmt::Display) -> Fault {
    Fault::not_found(format!("Instance {id} could not be found."))
}

/// A server that the caller may act upon by `rule`, read after its lock was taken.
///
/// # Errors
/// 404 when there is none or the caller may not know of it, 403 when the caller may see it and
/// not do this.
async fn locked(tx: &mut Tx, ctx: &Ctx, id: ServerId, rule: &str) -> Result<Server, Fault> {
    let server = store::get_locked(tx, id).await?;
    permitted(ctx, id, server, rule)
}

/// The same without a lock, for reading.
async fn found(tx: &mut Tx, ctx: &Ctx, id: ServerId, rule: &str) -> Result<Server, Fault> {
    let server = store::get(tx, id).await?;
    permitted(ctx, id, server, rule)
}

fn permitted(ctx: &Ctx, id: ServerId, server: Option<Server>, rule: &str) -> Result<Server, Fault> {
    let server = server.filter(|server| server.deleted_at.is_none()).ok_or_else(|| missing(id))?;
    visible_to(ctx, &server)?;
    ctx.authorise(rule, &target(&server))?;
    Ok(server)
}

/// Another project's server does not exist for who may not see it.
fn visible_to(ctx: &Ctx, server: &Server) -> Result<(), Fault> {
    let own = ctx.token()?.project.as_ref().is_some_and(|project| project.id == server.project);
    if own || ctx.may("compute:servers:show", &target(server)) {
        Ok(())
    } else {
        Err(missing(server.id))
    }
}

fn target(server: &Server) -> Target {
    Target { user: Some(server.user.clone()), ..Target::project(&server.project) }
}

/// A locked server is for administrators only.
fn check_lock(ctx: &Ctx, server: &Server) -> Result<(), Fault> {
    if server.locked_by.is_none() || ctx.may("compute:servers:locked_override", &target(server)) {
        Ok(())
    } else {
        Err(Fault::conflict(format!("Instance {} is locked", server.id)))
    }
}
