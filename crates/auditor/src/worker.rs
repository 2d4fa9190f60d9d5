//! The auditor as it runs in production: now and then, and whenever an operator asks.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use database::{Database, DatabaseError, Origin};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use service_kit::Kit;
use tokio_util::sync::CancellationToken;

use crate::audit::{Audit, JOURNAL_PAGE, Options, SHOWN, audit};
use crate::model::{Finding, Kind};
use crate::store;

/// How often.
pub const EVERY: Duration = Duration::from_secs(600);
/// The lease of the process that audits, and how long it lasts: two rounds.
const LEASE: &str = "auditor";
const LEASE_LENGTH: Duration = Duration::from_secs(1200);
/// What a finding that needs patience is compared by: the kind and the object, and what disagrees.
type Suspect = (Kind, String, String);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    kind: &'static str,
}

/// The auditor of a process. Clones are the same one.
#[derive(Clone)]
pub struct Auditor {
    pub(crate) kit: Kit,
    percent: [u64; 3],
    state: Arc<Mutex<State>>,
    gauge: Family<Labels, Gauge>,
}

#[derive(Default)]
struct State {
    /// Found by the last audit, and not believed yet.
    suspects: BTreeSet<Suspect>,
    journal_at: i64,
}

impl Auditor {
    /// An auditor over the kit's database. `percent` is how much of their processors, memory and
    /// disk hosts may promise.
    pub fn new(kit: Kit, percent: [u64; 3]) -> Auditor {
        let gauge = Family::<Labels, Gauge>::default();
        for kind in Kind::ALL {
            gauge.get_or_create(&Labels { kind: kind.as_str() }).set(0);
        }
        kit.metrics.register(|registry| {
            registry.register(
                "audit_findings",
                "Faults that the last audit saw and that were not repaired, by kind",
                gauge.clone(),
            );
        });
        Auditor { kit, percent, state: Arc::default(), gauge }
    }

    /// Audits now, repairs what is proven, keeps and counts the rest, and returns what is wrong.
    ///
    /// # Errors
    /// The database's.
    pub async fn once(&self) -> Result<Vec<Finding>, DatabaseError> {
        let journal_after = self.state().journal_at;
        let options = Options {
            percent: self.percent,
            journal_after,
            journal_page: JOURNAL_PAGE,
            repair: true,
        };
        let audit = audit(&self.kit.db, &options).await?;
        let (believed, repaired) = self.believe(audit);
        for (finding, repaired) in believed.iter().zip(&repaired) {
            tracing::error!(
                kind = %finding.kind, object_kind = finding.object_kind, object = finding.object,
                repaired, "the audit found a fault: {}", finding.message
            );
        }
        keep(&self.kit.db, &believed, &repaired).await?;
        self.count(&believed, &repaired);
        Ok(believed)
    }

    /// Leaves out what may pass by itself, unless the last audit saw it as well.
    fn believe(&self, audit: Audit) -> (Vec<Finding>, Vec<bool>) {
        let mut state = self.state();
        state.journal_at = audit.journal_at;
        let mut suspects = BTreeSet::new();
        let (mut believed, mut repaired) = (Vec::new(), Vec::new());
        for (place, finding) in audit.findings.into_iter().enumerate() {
            let done = audit.repaired.contains(&place);
            if finding.kind.needs_patience() && !done {
                let suspect = (finding.kind, finding.object.clone(), finding.message.clone());
                let seen = state.suspects.contains(&suspect);
                suspects.insert(suspect);
                if !seen {
                    continue;
                }
            }
            believed.push(finding);
            repaired.push(done);
        }
        state.suspects = suspects;
        (believed, repaired)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Audits every [`EVERY`] until `shutdown`, the first time after a while. Of several processes
    /// the one that holds the lease does it, as `holder`.
    pub async fn run(&self, holder: &str, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            let audited = match self.is_ours(holder).await {
                Ok(true) => self.once().await.map(drop),
                Ok(false) => {
                    // Whoever audits has the numbers, too.
                    self.count(&[], &[]);
                    Ok(())
                }
                Err(error) => Err(error),
            };
            if let Err(error) = audited {
                tracing::warn!(%error, "an audit failed; the next one comes");
            }
        }
    }

    /// Takes the lease, or keeps it. What an audit repairs it proves in the transaction of the
    /// repair, so two audits at once would do no harm, only work.
    async fn is_ours(&self, holder: &str) -> Result<bool, DatabaseError> {
        let holder = holder.to_owned();
        self.kit
            .db
            .transact(&Origin::system("auditor"), move |tx| {
                let holder = holder.clone();
                Box::pin(async move {
                    let taken = database::leases::take(tx, LEASE, &holder, LEASE_LENGTH).await?;
                    Ok::<_, DatabaseError>(taken.is_some())
                })
            })
            .await
    }

    fn count(&self, believed: &[Finding], repaired: &[bool]) {
        for kind in Kind::ALL {
            let left = believed.iter().zip(repaired);
            let left = left.filter(|(finding, repaired)| finding.kind == *kind && !**repaired);
            let count = i64::try_from(left.count()).unwrap_or(i64::MAX);
            self.gauge.get_or_create(&Labels { kind: kind.as_str() }).set(count);
        }
    }
}

async fn keep(db: &Database, findings: &[Finding], repaired: &[bool]) -> Result<(), DatabaseError> {
    let kept: Vec<(Finding, bool)> =
        findings.iter().cloned().zip(repaired.iter().copied()).collect();
    db.transact(&Origin::system("auditor"), move |tx| {
        let kept = kept.clone();
        Box::pin(async move {
            for (finding, repaired) in &kept {
                store::keep(tx, finding, *repaired).await?;
            }
            let before = tx.now().before(30 * SHOWN);
            store::forget_old(tx, before).await?;
            Ok::<_, DatabaseError>(())
        })
    })
    .await
}
