//! Signs of life. An open stream is one, and is written down often enough that its host counts as
//! alive: for all hosts of this process together, in a few transactions, however many there are.
//! What the rows say at the same time ends streams that no longer count, and wakes those that missed
//! word of a document.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cloud_types::HostId;
use database::{Database, DatabaseError, Origin};
use host_documents::hosts;
use host_protocol::Position;
use tokio_util::sync::CancellationToken;

use super::connections::Connections;

/// How often: well within `hosts::ALIVE_SECONDS`.
const EVERY: Duration = Duration::from_secs(15);
/// Hosts in one transaction: it holds up the others for a millisecond or two.
const TOGETHER: usize = 250;

/// Writes down which hosts are connected to this process, until `shutdown`.
pub async fn run(db: Database, connections: Arc<Connections>, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        let open: Vec<(HostId, u64)> = connections.sessions().into_iter().collect();
        for together in open.chunks(TOGETHER) {
            let streams: BTreeMap<HostId, u64> = together.iter().copied().collect();
            match seen(&db, &streams).await {
                Ok(known) => look(&connections, &streams, &known),
                Err(error) => {
                    tracing::warn!(%error, "signs of life could not be written down");
                    break;
                }
            }
        }
    }
}

/// Compares the streams with what the rows say of their hosts.
fn look(
    connections: &Connections,
    streams: &BTreeMap<HostId, u64>,
    known: &BTreeMap<HostId, (u64, Position)>,
) {
    for (host, session) in streams {
        match known.get(host) {
            // It is not a host any more: whatever stream it has ends.
            None => connections.supersede(*host, u64::MAX),
            Some((newest, _)) if newest > session => connections.supersede(*host, *newest),
            Some((_, position)) => connections.catch_up(*host, *position),
        }
    }
}

async fn seen(
    db: &Database,
    streams: &BTreeMap<HostId, u64>,
) -> Result<BTreeMap<HostId, (u64, Position)>, DatabaseError> {
    let streams = streams.clone();
    db.transact(&Origin::system("heartbeat"), move |tx| {
        let streams = streams.clone();
        Box::pin(async move { hosts::seen_together(tx, &streams).await })
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stream_that_no_longer_counts_ends_and_one_that_missed_word_is_woken() {
        let connections = Arc::new(Connections::default());
        let hosts = [(); 4].map(|()| HostId::random());
        let [sound, behind, elsewhere, gone] = hosts;
        let open = hosts.map(|host| connections.open(host));
        for stream in &open {
            stream.begin_session(2);
            stream.has_told(5);
        }
        let known = BTreeMap::from([(sound, (2, 5)), (behind, (2, 6)), (elsewhere, (3, 5))]);
        assert!(!known.contains_key(&gone));
        look(&connections, &connections.sessions(), &known);
        let ended = [0, 1, 2, 3].map(|at: usize| open[at].superseded.is_cancelled());
        assert_eq!(ended, [false, false, true, true]);
        let woken = [0, 1].map(|at: usize| {
            futures::FutureExt::now_or_never(open[at].documents.notified()).is_some()
        });
        assert_eq!(woken, [false, true]);
    }
}
