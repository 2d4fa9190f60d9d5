//! Takes, quarantines and frees the numbers inside locators. A number that a frame on the wire may
//! still carry must not come to mean somebody else: it is free only when every host that was told
//! of it has said that it knows better.

use cloud_types::{Fault, HostId, NetworkId, PortId};
use database::Tx;
use host_protocol::{DocumentKind, Generation};

use super::store;
use crate::address::store as addresses;

/// Scope of network numbers: they are unique in the region.
pub const REGION: &str = "region";
/// How many numbers are tried before giving up.
const TRIES: usize = 256;

/// A network's number: random, so that networks made at the same time do not queue on a counter.
pub async fn take_network(tx: &mut Tx, id: &NetworkId, max: u32) -> Result<u32, Fault> {
    for _ in 0..TRIES {
        let random = tx.random_u64() % u64::from(max);
        let number = u32::try_from(random).unwrap_or(0) + 1;
        if store::take(tx, REGION, number, &id.to_string()).await? {
            return Ok(number);
        }
    }
    Err(Fault::unavailable("The region has no free network numbers; delete networks")
        .named("NoNetworkAvailable"))
}

/// A port's number on a host, from the host's counter, so that one that was freed rests longest.
pub async fn take_port(tx: &mut Tx, host: &HostId, id: &PortId) -> Result<u32, Fault> {
    let scope = host.to_string();
    for _ in 0..TRIES {
        let number = store::next_number(tx, &scope).await?;
        if store::take(tx, &scope, number, &id.to_string()).await? {
            return Ok(number);
        }
    }
    Err(Fault::unavailable(format!("Host {host} has no free port numbers"))
        .named("PortBindingFailed"))
}

/// A place in which a number is known and from which it must go.
#[derive(Clone, Copy, Debug)]
pub struct Numbered {
    /// The host whose port it is; `None` for a network.
    pub host: Option<HostId>,
    /// The number.
    pub number: u32,
}

/// Makes the number wait for a document.
pub async fn wait_for(
    tx: &mut Tx,
    numbered: &Numbered,
    host: &HostId,
    kind: DocumentKind,
    document: &str,
    generation: Generation,
) -> Result<(), Fault> {
    let scope = numbered.host.map_or_else(|| REGION.to_owned(), |host| host.to_string());
    Ok(store::wait_for(tx, host, kind, document, generation, &scope, numbered.number).await?)
}

/// The port no longer has its number on the host. Call it after the waits were written.
pub async fn release_port(tx: &mut Tx, host: &HostId, id: &PortId) -> Result<(), Fault> {
    let owner = id.to_string();
    store::release(tx, &host.to_string(), &owner).await?;
    free(tx, Some(&owner)).await
}

/// The network is gone; its number may still wait for hosts.
pub async fn release_network(tx: &mut Tx, id: &NetworkId) -> Result<(), Fault> {
    let owner = id.to_string();
    store::release(tx, REGION, &owner).await?;
    free(tx, Some(&owner)).await
}

/// A document is done or gone on its host.
pub async fn confirm(
    tx: &mut Tx,
    host: &HostId,
    kind: DocumentKind,
    document: &str,
    generation: Generation,
) -> Result<(), Fault> {
    if !store::confirm(tx, host, kind, document, generation).await? {
        return Ok(());
    }
    // A port's or neighbour's document is named after the port, a network's after the network:
    // whose number waited is the document's own id.
    store::queue_for_numbers(tx, document).await?;
    free(tx, Some(document)).await
}

/// An operator declared the host lost: nothing waits for it any more.
pub async fn forget_host(tx: &mut Tx, host: &HostId) -> Result<(), Fault> {
    store::queue_for_host(tx, host).await?;
    if store::forget_host(tx, host).await? {
        free(tx, None).await?;
    }
    Ok(())
}

async fn free(tx: &mut Tx, owner: Option<&str>) -> Result<(), Fault> {
    for owner in store::free_unawaited(tx, owner).await? {
        if !store::is_quarantined(tx, &owner).await? {
            addresses::port_is_gone(tx, &owner).await?;
        }
    }
    Ok(())
}
