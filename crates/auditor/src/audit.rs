//! One audit: every slice and every check, then the repairs.

use std::time::Duration;

use cloud_types::Timestamp;
use database::{BoxFuture, Database, DatabaseError, Origin, Tx};

use crate::model::{Finding, StoredFinding};
use crate::store::{self, Range};
use crate::{checks, rows};

/// Entries of the journal in one look, unless said otherwise.
pub const JOURNAL_PAGE: i64 = 5000;
/// Histories of workflows are looked at for so long after they were last written.
const HISTORY: Duration = Duration::from_secs(24 * 3600);
/// Servers or ports in one slice, about.
const SLICE: u64 = 4000;
/// Findings are shown for so long after an audit saw them last.
pub const SHOWN: Duration = Duration::from_secs(24 * 3600);

/// How to audit.
#[derive(Clone, Debug)]
pub struct Options {
    /// How much of their processors, memory and disk hosts may promise, in percent.
    pub percent: [u64; 3],
    /// The journal is compared with rows from the entry after this one.
    pub journal_after: i64,
    /// How many entries of it are looked at together: breaks between them are seen, and what
    /// exists is compared with the newest page.
    pub journal_page: i64,
    /// Whether what is proven wrong is put right.
    pub repair: bool,
}

/// What an audit came to.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// The newest entry of the journal that was looked at.
    pub journal_at: i64,
    /// The places in `findings` of what was put right.
    pub repaired: Vec<usize>,
}

async fn read<T, F>(db: &Database, closure: F) -> Result<T, DatabaseError>
where
    T: Send + 'static,
    F: for<'c> Fn(&'c mut Tx) -> BoxFuture<'c, Result<T, DatabaseError>> + Send + Sync + 'static,
{
    db.read(closure).await
}

/// Looks at everything, each slice on a snapshot of its own.
///
/// # Errors
/// The database's; nothing was repaired then.
pub async fn audit(db: &Database, options: &Options) -> Result<Audit, DatabaseError> {
    let mut findings = Vec::new();
    let size = read(db, |tx| Box::pin(store::size(tx))).await?;
    let parts = match size / SLICE {
        0 => 1,
        1..=16 => 16,
        _ => 256,
    };
    for range in Range::parts(parts) {
        slice(db, range, &mut findings).await?;
    }
    whole(db, options, &mut findings).await?;
    let journal_at = journal(db, options, &mut findings).await?;
    let mut repaired = Vec::new();
    if options.repair {
        for (place, finding) in findings.iter().enumerate() {
            let Some(repair) = finding.repair.clone() else { continue };
            let done = db
                .transact(&Origin::system("auditor"), move |tx| {
                    let repair = repair.clone();
                    Box::pin(async move { store::repair(tx, &repair).await })
                })
                .await?;
            if done {
                repaired.push(place);
            }
        }
    }
    Ok(Audit { findings, journal_at, repaired })
}

async fn slice(
    db: &Database,
    range: Range,
    findings: &mut Vec<Finding>,
) -> Result<(), DatabaseError> {
    let part = range.clone();
    let servers = read(db, move |tx| {
        let part = part.clone();
        Box::pin(async move { store::servers(tx, &part).await })
    })
    .await?;
    findings.extend(checks::servers(&servers));
    let part = range.clone();
    let ports = read(db, move |tx| {
        let part = part.clone();
        Box::pin(async move { store::ports(tx, &part).await })
    })
    .await?;
    findings.extend(checks::ports(&ports));
    let part = range.clone();
    let networks = read(db, move |tx| {
        let part = part.clone();
        Box::pin(async move { store::networks(tx, &part).await })
    })
    .await?;
    findings.extend(checks::networks(&networks));
    let addresses = read(db, move |tx| {
        let part = range.clone();
        Box::pin(async move { store::addresses(tx, &part).await })
    })
    .await?;
    findings.extend(checks::addresses(&addresses));
    Ok(())
}

/// What is read whole.
#[derive(Default)]
struct Whole {
    hosts: Vec<rows::HostRow>,
    usage: Vec<rows::UsageRow>,
    orphans: Vec<rows::OrphanRow>,
    waits: Vec<rows::WaitRow>,
    forgotten: Vec<rows::ForgottenAddress>,
    reports: Vec<(String, String, String)>,
}

async fn whole(
    db: &Database,
    options: &Options,
    findings: &mut Vec<Finding>,
) -> Result<(), DatabaseError> {
    let whole = read(db, |tx| {
        Box::pin(async move {
            Ok(Whole {
                hosts: store::hosts(tx).await?,
                usage: store::usage(tx).await?,
                orphans: store::orphans(tx).await?,
                waits: store::waits(tx).await?,
                forgotten: store::forgotten_addresses(tx).await?,
                reports: store::reports_without_documents(tx).await?,
            })
        })
    })
    .await?;
    findings.extend(checks::hosts(&whole.hosts, options.percent));
    findings.extend(checks::quota(&whole.usage));
    findings.extend(checks::orphans(&whole.orphans));
    findings.extend(checks::waits(&whole.waits));
    findings.extend(checks::forgotten_addresses(&whole.forgotten));
    findings.extend(checks::reports_without_documents(&whole.reports));
    let (now, open, word, steps) = read(db, |tx| {
        Box::pin(async move {
            let (open, word) = store::open_workflows(tx).await?;
            let steps = store::steps(tx, tx.now().before(HISTORY)).await?;
            Ok((tx.now(), open, word, steps))
        })
    })
    .await?;
    findings.extend(checks::workflows(&open, &word, now));
    findings.extend(checks::written_after_loss(&steps));
    Ok(())
}

async fn journal(
    db: &Database,
    options: &Options,
    findings: &mut Vec<Finding>,
) -> Result<i64, DatabaseError> {
    let (mut at, page) = (options.journal_after, options.journal_page);
    loop {
        let (entries, last, existing) =
            read(db, move |tx| Box::pin(async move { store::journal(tx, at, page).await })).await?;
        // What a later entry says of an object is not known to a page that ends before it, unless
        // this is the last page; the existence of such objects is judged with the page that is.
        let whole = (entries.len() as i64) < page;
        let known = if whole { existing } else { checks::Existing::new() };
        findings.extend(checks::journal(&entries, &known));
        at = last;
        if whole {
            return Ok(at);
        }
    }
}

/// What audits since `since` have found, newest first.
///
/// # Errors
/// The database's.
pub async fn stored(db: &Database, since: Timestamp) -> Result<Vec<StoredFinding>, DatabaseError> {
    read(db, move |tx| Box::pin(async move { store::all(tx, since).await })).await
}
