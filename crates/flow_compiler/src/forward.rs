//! Within a network: from a MAC to a port here or a locator elsewhere, and from a group address
//! to every member.

use std::collections::{BTreeMap, BTreeSet};

use cloud_types::{Locator, MacAddress};
use openflow::{Actions, Field, Flow, Match, Subfield, mac_to_u64};

use crate::Cookie;
use crate::classify::LOCATOR_HOST_MASK;
use crate::plan::{Network, Plan};
use crate::tables::*;

pub(crate) fn flows(plan: &Plan<'_>, out: &mut Vec<Flow>) {
    for network in plan.networks.values() {
        unicast(network, plan.wire.is_some(), out);
        flood(plan, network, out);
    }
    for (_, port) in plan.ports() {
        out.push(
            Flow::new(
                DELIVER,
                100,
                Match::any().reg(REG_DESTINATION, port.local.ofport),
                Actions::new().output(port.local.ofport),
            )
            .cookie(port.cookie()),
        );
    }
    if let Some(wire) = plan.wire {
        // Whatever a mistake elsewhere did to a frame: only what names one of this host's ports
        // as its source gets out.
        let own = Locator::Port { host: plan.host_number, port: 0 }.mac().0;
        out.push(
            Flow::new(
                WIRE_SEND,
                100,
                Match::any().eth_src_masked(own, LOCATOR_HOST_MASK),
                Actions::new().output(wire),
            )
            .cookie(Cookie::Host.encode()),
        );
    }
}

/// Members that may have a MAC.
#[derive(Default)]
struct Holders {
    /// OpenFlow ports here.
    local: BTreeSet<u32>,
    /// Locators elsewhere.
    remote: BTreeSet<[u8; 6]>,
    cookie: u64,
}

/// A port's own MAC is its alone. A MAC of allowed address pairs may be several ports' (a virtual
/// router's, say): each gets the frame, and the one that has the address takes it.
fn unicast(network: &Network<'_>, wire: bool, out: &mut Vec<Flow>) {
    let mut own: BTreeMap<MacAddress, Holders> = BTreeMap::new();
    let mut pairs: BTreeMap<MacAddress, Holders> = BTreeMap::new();
    for port in &network.ports {
        let spec = port.local.spec;
        let holders = own.entry(spec.mac).or_default();
        holders.local.insert(port.local.ofport);
        holders.cookie = port.cookie();
        for (_, mac) in &spec.allowed_address_pairs {
            let holders = pairs.entry(*mac).or_default();
            holders.local.insert(port.local.ofport);
            holders.cookie = network.cookie();
        }
    }
    for neighbour in network.neighbours.iter().filter(|_| wire) {
        let holders = own.entry(neighbour.spec.mac).or_default();
        holders.remote.insert(neighbour.locator());
        holders.cookie = neighbour.cookie();
        for (_, mac) in &neighbour.spec.allowed_address_pairs {
            let holders = pairs.entry(*mac).or_default();
            holders.remote.insert(neighbour.locator());
            holders.cookie = network.cookie();
        }
    }
    for (mac, holders) in pairs {
        own.entry(mac).or_insert(holders);
    }
    for (mac, holders) in own {
        let m = Match::any().metadata(network.number.into()).eth_dst(mac.0);
        out.push(Flow::new(LOOKUP, 100, m, send_to(&holders)).cookie(holders.cookie));
    }
}

fn send_to(holders: &Holders) -> Actions {
    if let (1, 0, Some(ofport)) = (holders.local.len(), holders.remote.len(), holders.local.first())
    {
        return Actions::new().set_reg(REG_DESTINATION, *ofport).goto(INGRESS_TRACK);
    }
    // Copies here first: for the wire the frame's own addresses are overwritten.
    let mut actions = Actions::new();
    for ofport in &holders.local {
        actions = actions.set_reg(REG_DESTINATION, *ofport).resubmit(INGRESS_TRACK);
    }
    if !holders.remote.is_empty() {
        actions = from_own_locator(actions);
    }
    for locator in &holders.remote {
        actions = actions.set_eth_dst(*locator).resubmit(WIRE_SEND);
    }
    actions
}

fn from_own_locator(actions: Actions) -> Actions {
    actions.mov(Subfield::new(Field::XReg(XREG_LOCATOR), 0, 48), Field::EthSrc)
}

/// One copy for each member here (the switch never sends a frame back out of the port it came
/// by), then one for each other host, which floods it to its own.
fn flood(plan: &Plan<'_>, network: &Network<'_>, out: &mut Vec<Flow>) {
    let in_network = || Match::any().metadata(network.number.into());
    let mut push = |table, priority, m, actions| {
        out.push(Flow::new(table, priority, m, actions).cookie(network.cookie()));
    };
    push(LOOKUP, 50, in_network().eth_multicast(), Actions::new().goto(FLOOD_LOCAL));

    let mut local = Actions::new();
    for port in &network.ports {
        local = local.set_reg(REG_DESTINATION, port.local.ofport).resubmit(INGRESS_TRACK);
    }
    push(FLOOD_LOCAL, 100, in_network(), local.goto(FLOOD_REMOTE));

    let hosts = network.remote_hosts();
    if let (Some(wire), false) = (plan.wire, hosts.is_empty()) {
        // What came by the wire has reached every host already.
        push(FLOOD_REMOTE, 200, in_network().in_port(wire), Actions::drop());
        let mut remote = from_own_locator(Actions::new());
        for host in hosts {
            let locator = Locator::Flood { host, network: network.number }.mac().0;
            remote = remote.set(Field::EthDst, mac_to_u64(locator).into()).resubmit(WIRE_SEND);
        }
        push(FLOOD_REMOTE, 100, in_network(), remote);
    }
}
