//! Gives addresses to ports and takes them back. The caller holds the network's lock.

use std::net::IpAddr;

use cloud_types::{Fault, MacAddress, NetworkId, PortId, SubnetId};
use database::Tx;

use super::model::{first_gap, from_key, is_usable, key, slaac_address, successor};
use super::store;
use crate::faults;
use crate::port::model::FixedIpWish;
use crate::subnet::model::SubnetRow;
use crate::subnet::store as subnets;

/// A port that is given addresses.
#[derive(Clone, Copy, Debug)]
pub struct Receiver {
    /// The port.
    pub port: PortId,
    /// Its network.
    pub network: NetworkId,
    /// Its MAC, from which some IPv6 addresses follow.
    pub mac: MacAddress,
}

/// The next address that nobody has, written to the port.
pub async fn allocate_any(
    tx: &mut Tx,
    subnet: &mut SubnetRow,
    to: &Receiver,
    place: usize,
) -> Result<Option<IpAddr>, Fault> {
    // One address may be refused by a row that this transaction cannot see yet only if the
    // network's lock is not held; a bound keeps that mistake from becoming an endless loop.
    for _ in 0..16 {
        let Some(ip) = pick(tx, subnet).await? else { return Ok(None) };
        if store::insert(tx, &subnet.id, ip, &to.port, &to.network, place).await? {
            return Ok(Some(ip));
        }
    }
    Err(Fault::unavailable(
        "No address could be allocated because of other requests on the same subnet; try again",
    )
    .retry_after(1))
}

async fn pick(tx: &mut Tx, subnet: &mut SubnetRow) -> Result<Option<IpAddr>, Fault> {
    if let Some(ip) = fresh(tx, subnet).await? {
        return Ok(Some(ip));
    }
    loop {
        let reusable = store::reusable(tx, &subnet.id).await?;
        if reusable.is_empty() {
            return Ok(None);
        }
        for ip in reusable {
            store::forget_released(tx, &subnet.id, ip).await?;
            if subnet.allocation_pools.iter().any(|pool| pool.contains(ip)) {
                return Ok(Some(ip));
            }
        }
    }
}

/// The first address after the last fresh one. Moves the subnet's cursor past it.
async fn fresh(tx: &mut Tx, subnet: &mut SubnetRow) -> Result<Option<IpAddr>, Fault> {
    const USED_UP: &str = "-";
    if subnet.next_key == USED_UP {
        return Ok(None);
    }
    let start = match from_key(&subnet.next_key) {
        Some(ip) => Some(ip),
        None => subnet.allocation_pools.first().map(|pool| pool.start),
    };
    let Some(mut from) = start else { return Ok(None) };
    let found = loop {
        let taken = store::taken_from(tx, &subnet.id, from).await?;
        let limited = taken.len() >= store::SCAN;
        match first_gap(&subnet.allocation_pools, from, &taken, limited) {
            Ok(found) => break found,
            Err(next) => from = next,
        }
    };
    let next = found.and_then(successor).map_or_else(|| USED_UP.to_owned(), key);
    subnets::set_next_key(tx, &subnet.id, &next).await?;
    subnet.next_key = next;
    Ok(found)
}

/// This address and no other.
pub async fn allocate_exact(
    tx: &mut Tx,
    subnet: &SubnetRow,
    ip: IpAddr,
    to: &Receiver,
    place: usize,
) -> Result<(), Fault> {
    if !is_usable(&subnet.cidr, ip) {
        return Err(faults::invalid_ip_for_subnet(ip));
    }
    if subnet.gateway_ip == Some(ip) {
        return Err(Fault::conflict(format!(
            "IP address {ip} is the gateway of subnet {}, and every host answers for it; set the \
             subnet's gateway_ip to none first",
            subnet.id
        ))
        .named("IpAddressAlreadyAllocated"));
    }
    match store::is_waiting(tx, &subnet.id, ip).await? {
        Some(true) => return Err(faults::ip_address_quarantined(ip, subnet.id)),
        Some(false) => store::forget_released(tx, &subnet.id, ip).await?,
        None => {}
    }
    if store::insert(tx, &subnet.id, ip, &to.port, &to.network, place).await? {
        Ok(())
    } else {
        Err(faults::ip_address_already_allocated(ip, subnet.id))
    }
}

/// What a new port gets when it asks for nothing: one address of each family that the network
/// has, and one in every subnet whose addresses guests make themselves.
pub async fn allocate_default(
    tx: &mut Tx,
    subnets: &mut [SubnetRow],
    to: &Receiver,
) -> Result<Vec<(SubnetId, IpAddr)>, Fault> {
    let mut given = Vec::new();
    for version in [4, 6] {
        let mut wanted = false;
        let mut done = false;
        for subnet in subnets.iter_mut() {
            if subnet.ip_version() != version || subnet.is_auto_address() || done {
                continue;
            }
            wanted = true;
            if let Some(ip) = allocate_any(tx, subnet, to, given.len()).await? {
                given.push((subnet.id, ip));
                done = true;
            }
        }
        if wanted && !done {
            return Err(faults::ip_address_generation_failure(to.network));
        }
    }
    add_automatic(tx, subnets, to, &mut given).await?;
    Ok(given)
}

/// Adds the addresses that the guest makes itself from router advertisements.
async fn add_automatic(
    tx: &mut Tx,
    subnets: &[SubnetRow],
    to: &Receiver,
    given: &mut Vec<(SubnetId, IpAddr)>,
) -> Result<(), Fault> {
    for subnet in subnets.iter().filter(|subnet| subnet.is_auto_address()) {
        if given.iter().any(|(id, _)| *id == subnet.id) {
            continue;
        }
        if let Some(ip) = slaac_address(&subnet.cidr, to.mac) {
            allocate_exact(tx, subnet, ip, to, given.len()).await?;
            given.push((subnet.id, ip));
        }
    }
    Ok(())
}

/// What a port gets when it says what it wants. `kept` are addresses that it has already and
/// that the wishes name again: they stay.
pub async fn allocate_wishes(
    tx: &mut Tx,
    subnets: &mut [SubnetRow],
    to: &Receiver,
    wishes: &[FixedIpWish],
    kept: &[(SubnetId, IpAddr)],
) -> Result<Vec<(SubnetId, IpAddr)>, Fault> {
    // Addresses that are named come first, so that none of them is given to a wish that names none.
    let mut order: Vec<usize> = (0..wishes.len()).collect();
    order.sort_by_key(|at| wishes.get(*at).is_some_and(|wish| wish.ip.is_none()));
    let mut given: Vec<(usize, SubnetId, IpAddr)> = Vec::with_capacity(wishes.len());
    for place in order {
        let Some(wish) = wishes.get(place) else { continue };
        let at = find_subnet(subnets, wish, to)?;
        let Some(subnet) = subnets.get_mut(at) else { continue };
        let exact = if subnet.is_auto_address() {
            Some(automatic_address(subnet, wish, to)?)
        } else {
            wish.ip
        };
        let again = match exact {
            Some(ip) => kept.contains(&(subnet.id, ip)).then_some(ip),
            None => kept
                .iter()
                .find(|(id, ip)| *id == subnet.id && !given.iter().any(|(_, _, other)| other == ip))
                .map(|(_, ip)| *ip),
        };
        let ip = match (again, exact) {
            (Some(ip), _) => {
                store::set_place(tx, &subnet.id, ip, place).await?;
                ip
            }
            (None, Some(ip)) => {
                allocate_exact(tx, subnet, ip, to, place).await?;
                ip
            }
            (None, None) => allocate_any(tx, subnet, to, place)
                .await?
                .ok_or_else(|| faults::ip_address_generation_failure_on_subnet(subnet.id))?,
        };
        given.push((place, subnet.id, ip));
    }
    given.sort_by_key(|(place, _, _)| *place);
    Ok(given.into_iter().map(|(_, subnet, ip)| (subnet, ip)).collect())
}

/// The one address that a port can have in a subnet whose addresses guests make themselves.
fn automatic_address(
    subnet: &SubnetRow,
    wish: &FixedIpWish,
    to: &Receiver,
) -> Result<IpAddr, Fault> {
    let own = slaac_address(&subnet.cidr, to.mac)
        .ok_or_else(|| faults::ip_address_generation_failure_on_subnet(subnet.id))?;
    match wish.ip {
        Some(ip) if ip != own => Err(faults::invalid_input(format!(
            "IPv6 address {ip} can not be directly assigned to a port on subnet {} as the subnet \
             is configured for automatic addresses",
            subnet.id
        ))),
        _ => Ok(own),
    }
}

fn find_subnet(subnets: &[SubnetRow], wish: &FixedIpWish, to: &Receiver) -> Result<usize, Fault> {
    match (wish.subnet, wish.ip) {
        (Some(id), ip) => {
            let at = subnets.iter().position(|subnet| subnet.id == id).ok_or_else(|| {
                faults::invalid_input(format!(
                    "Failed to create port on network {}, because fixed_ips included invalid \
                     subnet {id}",
                    to.network
                ))
            })?;
            match ip {
                Some(ip) if subnets.get(at).is_some_and(|subnet| !subnet.cidr.contains(&ip)) => {
                    Err(faults::invalid_ip_for_subnet(ip))
                }
                _ => Ok(at),
            }
        }
        (None, Some(ip)) => subnets
            .iter()
            .position(|subnet| subnet.cidr.contains(&ip))
            .ok_or_else(|| faults::invalid_ip_for_network(ip)),
        (None, None) => Err(faults::invalid_input("a fixed IP names neither subnet nor address")),
    }
}

/// Takes addresses back. With `waits`, they rest until the port is gone from every host.
pub async fn release(
    tx: &mut Tx,
    port: &PortId,
    addresses: &[(SubnetId, IpAddr)],
    waits: bool,
) -> Result<(), Fault> {
    for (subnet, ip) in addresses {
        store::delete(tx, subnet, *ip).await?;
        store::release(tx, subnet, *ip, waits.then_some(port)).await?;
    }
    Ok(())
}
