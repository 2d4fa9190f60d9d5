//! Deleting, starting, stopping, restarting, locking.

use cloud_types::{Fault, ServerId};
use database::Tx;
use planted_bugs::planted;
use service_kit::{Ctx, quota};
use workflow_engine::{Start, Workflow};

use super::super::model::{Command, LockedBy, Server, Verdict, judge, refusal};
use super::super::store;
use super::super::workflow::{
    DeleteState, PowerChange, RebootState, ServerDelete, ServerReboot, ServerStart, ServerStop,
};
use super::create::quota_of;
use super::{check_lock, locked, target};
use crate::Compute;

fn rule_of(command: Command) -> &'static str {
    match command {
        Command::Start => "compute:servers:start",
        Command::Stop => "compute:servers:stop",
        Command::RebootSoft | Command::RebootHard => "compute:servers:reboot",
        Command::Delete => "compute:servers:delete",
    }
}

impl Compute {
    /// Begins what the command says. The answer means accepted; the workflow does it.
    ///
    /// # Errors
    /// 404, 403, 409 when the server's state does not allow it or it is locked.
    pub async fn command(&self, ctx: &Ctx, id: ServerId, command: Command) -> Result<(), Fault> {
        let (compute, caller) = (self.clone(), ctx.clone());
        self.kit()
            .transact(ctx, move |tx| {
                let (compute, ctx) = (compute.clone(), caller.clone());
                Box::pin(async move { compute.begin(tx, &ctx, id, command).await })
            })
            .await
    }

    async fn begin(
        &self,
        tx: &mut Tx,
        ctx: &Ctx,
        id: ServerId,
        command: Command,
    ) -> Result<(), Fault> {
        let before = locked(tx, ctx, id, rule_of(command)).await?;
        check_lock(ctx, &before)?;
        let verdict = judge(before.state, command);
        if let Some(fault) = refusal(&id.to_string(), before.state, command, verdict) {
            return Err(fault);
        }
        let Verdict::Begin(next) = verdict else { return Ok(()) };
        if command != Command::Delete && before.host.is_none() {
            return Err(Fault::conflict(format!(
                "Cannot '{}' instance {id}: it was never placed on a host. Delete it.",
                command.as_str()
            )));
        }
        let mut server = before.clone();
        server.state = next;
        server.progress = 0;
        if command == Command::Delete {
            server.terminated_at = Some(tx.now());
        }
        store::save(tx, &before, &mut server).await?;
        store::begin_action(tx, id, command.as_str()).await?;
        let core = self.core().clone();
        match command {
            Command::Delete => {
                let held = quota_of(&server.fixed.flavor).map(|(name, amount)| (name, -amount));
                quota::check_and_add_all(tx, &server.project, &held).await?;
                if planted("double_release_quota") {
                    quota::check_and_add_all(tx, &server.project, &held).await?;
                }
                start(tx, &server, &ServerDelete(core), DeleteState::new(id)).await
            }
            Command::Start => start(tx, &server, &ServerStart, PowerChange::new(id)).await,
            Command::Stop => start(tx, &server, &ServerStop, PowerChange::new(id)).await,
            Command::RebootSoft | Command::RebootHard => {
                let hard = command == Command::RebootHard;
                start(tx, &server, &ServerReboot, RebootState::new(id, hard)).await
            }
        }
    }

    /// Keeps everybody but administrators from changing the server.
    ///
    /// # Errors
    /// 404, 403.
    pub async fn lock_server(
        &self,
        ctx: &Ctx,
        id: ServerId,
        reason: Option<String>,
    ) -> Result<(), Fault> {
        let caller = ctx.clone();
        self.kit()
            .transact(ctx, move |tx| {
                let (ctx, reason) = (caller.clone(), reason.clone());
                Box::pin(async move {
                    let before = locked(tx, &ctx, id, "compute:servers:lock").await?;
                    let mut server = before.clone();
                    let by = if ctx.is_admin() { LockedBy::Admin } else { LockedBy::Owner };
                    // An owner's lock over an administrator's would weaken it.
                    if server.locked_by != Some(LockedBy::Admin) || by == LockedBy::Admin {
                        server.locked_by = Some(by);
                    }
                    server.locked_reason = reason;
                    store::save(tx, &before, &mut server).await?;
                    record(tx, id, "lock").await
                })
            })
            .await
    }

    /// Takes a lock away.
    ///
    /// # Errors
    /// 404, 403 for an administrator's lock.
    pub async fn unlock_server(&self, ctx: &Ctx, id: ServerId) -> Result<(), Fault> {
        let caller = ctx.clone();
        self.kit()
            .transact(ctx, move |tx| {
                let ctx = caller.clone();
                Box::pin(async move {
                    let before = locked(tx, &ctx, id, "compute:servers:lock").await?;
                    if before.locked_by == Some(LockedBy::Admin) {
                        ctx.authorise("compute:servers:unlock_override", &target(&before))?;
                    }
                    let mut server = before.clone();
                    server.locked_by = None;
                    server.locked_reason = None;
                    store::save(tx, &before, &mut server).await?;
                    record(tx, id, "unlock").await
                })
            })
            .await
    }
}

async fn record(tx: &mut Tx, id: ServerId, action: &str) -> Result<(), Fault> {
    store::begin_action(tx, id, action).await?;
    Ok(())
}

async fn start<W: Workflow>(
    tx: &mut Tx,
    server: &Server,
    workflow: &W,
    state: W::State,
) -> Result<(), Fault> {
    let request_id = tx.origin().request_id.clone();
    let host = server.host.as_ref().map(|host| host.name.as_str());
    store::begin_event(tx, server.id, &request_id, W::KIND, 0, host).await?;
    let start = Start {
        state,
        owner_kind: store::KIND,
        owner_id: server.id.to_string(),
        project: Some(server.project.clone()),
        request_id,
    };
    workflow_engine::start(tx, workflow, start).await?;
    Ok(())
}
