//! Operations on a server: what a workflow's step asks once, as against what its document wants
//! for ever. What was accepted is kept before it is done, so that it is done once over restarts.

use host_protocol::{DocumentKind, OperationAction, OperationSpec, ReportError, ReportState};
use planted_bugs::planted;

use super::documents::Wanted;
use super::operations::{Verdict, decide};
use super::plan::Reboot;
use super::server::ServerTask;
use super::shared::lock;
use crate::store::{OperationMemory, OperationOutcome, StoreError};

/// A reboot to do.
pub(super) struct PendingReboot {
    pub operation: String,
    pub kind: Reboot,
    pub spec: OperationSpec,
    pub memory: OperationMemory,
}

impl ServerTask {
    /// Takes up operations that have come, and drops those that were withdrawn.
    pub(super) async fn look_at_operations(&mut self) {
        let documents = lock(&self.shared.documents).operations_on(&self.id);
        if let Some(reboot) = &self.reboot {
            let stands =
                documents.iter().any(|(id, wanted)| *id == reboot.operation && !wanted.tombstone);
            if !stands {
                self.reboot = None;
            }
        }
        self.operations.retain(|id, _| documents.iter().any(|(known, _)| known == id));
        for (id, wanted) in documents {
            let seen = self.operations.get(&id) == Some(&wanted.generation);
            if seen || wanted.tombstone || !wanted.known {
                continue;
            }
            let Some(spec) = &wanted.spec else { continue };
            match self.look_at(&id, spec).await {
                Ok(verdict) => {
                    self.operations.insert(id.clone(), wanted.generation);
                    self.follow(&id, &wanted, spec, verdict).await;
                }
                Err(error) => {
                    tracing::error!(operation = %id, %error, "cannot look an operation up")
                }
            }
        }
    }

    async fn look_at(&self, id: &str, spec: &OperationSpec) -> Result<Verdict, StoreError> {
        let store = &self.shared.store;
        let memory = match planted("reboot_again_after_restart") {
            true => None,
            false => store.operation(id).await?,
        };
        let epoch = store.workflow_epoch(&spec.workflow).await?;
        let verdict = decide(spec, epoch, memory.as_ref(), self.memory.incarnation);
        if let Verdict::Accept(memory) = &verdict {
            store.set_operation(id, &spec.workflow, spec.worker_epoch, memory.clone()).await?;
        }
        Ok(verdict)
    }

    async fn follow(
        &mut self,
        id: &str,
        wanted: &Wanted<OperationSpec>,
        spec: &OperationSpec,
        verdict: Verdict,
    ) {
        match verdict {
            Verdict::Accept(memory) | Verdict::Continue(memory)
                if memory.outcome == OperationOutcome::Pending =>
            {
                let OperationAction::Reboot { hard, .. } = spec.action;
                let kind = if hard { Reboot::Hard } else { Reboot::Soft };
                tracing::info!(operation = %id, ?kind, request_id = %wanted.request_id, "asked to reboot");
                // Somebody asks for a start: what was given up is tried again.
                self.retry.reset();
                self.reboot = Some(PendingReboot {
                    operation: id.to_owned(),
                    kind,
                    spec: spec.clone(),
                    memory,
                });
                // The agent was killed between the new guest's start and the answer.
                let restarted = self.reboot.as_ref().is_some_and(|reboot| {
                    self.guest.is_some_and(|(_, now)| now > reboot.memory.from_incarnation)
                });
                if restarted {
                    self.settle_reboot(OperationOutcome::Done).await;
                }
            }
            Verdict::Accept(memory) | Verdict::Continue(memory) => {
                if self.reboot.as_ref().is_some_and(|reboot| reboot.operation == id) {
                    self.reboot = None;
                }
                self.answer_operation(id, wanted, &memory.outcome).await;
            }
            Verdict::Answer(outcome) => self.answer_operation(id, wanted, &outcome).await,
            Verdict::Refuse { code, message } => {
                let error = ReportError { code: code.to_owned(), message, retrying: false };
                self.shared.report_failed(DocumentKind::Operation, id, wanted, error).await;
            }
        }
    }

    /// Ends the pending reboot, durably before it is said.
    pub(super) async fn settle_reboot(&mut self, outcome: OperationOutcome) {
        let Some(reboot) = self.reboot.take() else {
            return;
        };
        let memory = OperationMemory { outcome, ..reboot.memory };
        let kept = self
            .shared
            .store
            .set_operation(
                &reboot.operation,
                &reboot.spec.workflow,
                reboot.spec.worker_epoch,
                memory.clone(),
            )
            .await;
        if let Err(error) = kept {
            // Still found done after a restart: a later start than the accepted one runs.
            tracing::error!(operation = %reboot.operation, %error, "cannot keep an operation's outcome");
        }
        let wanted = lock(&self.shared.documents).operations.get(&reboot.operation).cloned();
        if let Some(wanted) = wanted {
            self.answer_operation(&reboot.operation, &wanted, &memory.outcome).await;
        }
    }

    async fn answer_operation(
        &self,
        id: &str,
        wanted: &Wanted<OperationSpec>,
        outcome: &OperationOutcome,
    ) {
        let kind = DocumentKind::Operation;
        match outcome {
            OperationOutcome::Pending => {}
            OperationOutcome::Done => {
                self.shared.report(kind, id, wanted, ReportState::Done, &(), None).await;
            }
            OperationOutcome::Failed(message) => {
                let error = ReportError {
                    code: "operation_failed".to_owned(),
                    message: message.clone(),
                    retrying: false,
                };
                self.shared.report_failed(kind, id, wanted, error).await;
            }
        }
    }
}
