//! Questions about the network that the region passes on: is the flow table as it should be, and
//! which way does a packet take. Both look at the table in the switch, and change nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use cloud_types::MacAddress;
use flow_compiler::trace::{Connection, End, Probe, Trace, trace, words};
use flow_compiler::{
    Cookie, LINK_LOCAL_SERVICE, LINK_LOCAL_SERVICE6, ROUTER_LINK_LOCAL, ROUTER_MAC,
};
use host_protocol::{
    HostAnswer, HostTrace, NeighbourSpec, NetworkSpec, NetworkState, PortSpec, PortState,
    TableState, TracePacket, TraceRequest, TraceStart, TraceStep,
};
use openflow::Flow;

use super::shared::{Shared, lock};
use crate::switch::{SwitchError, TableRead, checksum};

/// What the network's task last put in force.
#[derive(Clone, Debug, Default)]
pub struct InForce {
    /// Position of the newest document that is in it.
    pub position: u64,
    /// Generation of each port's document.
    pub generations: BTreeMap<String, u64>,
    /// OpenFlow port of each port.
    pub ofports: BTreeMap<String, u32>,
    /// OpenFlow port of the wire.
    pub wire: Option<u32>,
    /// OpenFlow port of the responders.
    pub responder: Option<u32>,
}

/// Flows that others changed and the agent put right.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mended {
    /// How many, since the agent started.
    pub flows: u64,
    /// When it last had to, in seconds since the epoch.
    pub at: Option<i64>,
}

fn failed(error: &SwitchError) -> HostAnswer {
    HostAnswer::Failed { message: error.to_string(), not_found: false }
}

fn unknown_port() -> HostAnswer {
    HostAnswer::Failed { message: "the port is not on this host".to_owned(), not_found: true }
}

/// Whether the table is as it should be, whole and port by port.
pub async fn network_state(shared: &Shared, port_id: Option<String>) -> HostAnswer {
    let (desired, ports) = {
        let documents = lock(&shared.documents);
        let wanted = documents.ports.iter().filter(|(id, wanted)| {
            wanted.is_wanted() && port_id.as_ref().is_none_or(|only| only == *id)
        });
        let ports: Vec<(String, u64, u32)> = wanted
            .filter_map(|(id, wanted)| {
                Some((id.clone(), wanted.generation, wanted.spec.as_ref()?.port_number))
            })
            .collect();
        (documents.position, ports)
    };
    if port_id.is_some() && ports.is_empty() {
        return unknown_port();
    }
    let read = match shared.edges.switch.read().await {
        Ok(read) => read,
        Err(error) => return failed(&error),
    };
    let in_force = lock(&shared.in_force).clone();
    let mended = *lock(&shared.mended);
    let ports = ports
        .into_iter()
        .map(|(port_id, desired, number)| PortState {
            applied: in_force.generations.get(&port_id).copied(),
            table: state(&read, Some(Cookie::Port(number).encode())),
            port_id,
            desired,
        })
        .collect();
    let mut table = state(&read, None);
    table.flows += read.foreign as u64;
    let state = NetworkState {
        desired,
        applied: in_force.position,
        table,
        mended: mended.flows,
        mended_at: mended.at,
        ports,
    };
    HostAnswer::NetworkState { state: Box::new(state) }
}

fn state(read: &TableRead, cookie: Option<u64>) -> TableState {
    let of = |flow: &&Flow| cookie.is_none_or(|cookie| flow.cookie == cookie);
    let wanted: Vec<&Flow> = read.wanted.iter().filter(of).collect();
    let found: Vec<&Flow> = read.flows.iter().map(|counted| &counted.flow).filter(of).collect();
    TableState {
        wanted_flows: wanted.len() as u64,
        flows: found.len() as u64,
        wanted_checksum: checksum(wanted),
        checksum: checksum(found),
    }
}

/// The documents, as far as a trace needs them.
struct Known {
    host_number: u16,
    networks: Vec<NetworkSpec>,
    ports: Vec<PortSpec>,
    neighbours: Vec<NeighbourSpec>,
    ofports: BTreeMap<u32, String>,
}

impl Known {
    fn new(shared: &Shared, in_force: &InForce) -> Known {
        let documents = lock(&shared.documents);
        let mut ofports: BTreeMap<u32, String> =
            in_force.ofports.iter().map(|(id, ofport)| (*ofport, format!("port {id}"))).collect();
        ofports.extend(in_force.wire.map(|wire| (wire, "the wire".to_owned())));
        ofports.extend(in_force.responder.map(|port| (port, "the host's responders".to_owned())));
        let host = documents.host.as_ref().and_then(|(_, wanted)| wanted.spec.as_ref());
        Known {
            host_number: host.map_or(0, |host| host.host_number),
            networks: documents.networks.values().filter_map(|w| w.spec.clone()).collect(),
            ports: documents
                .ports
                .values()
                .filter(|wanted| wanted.is_wanted())
                .filter_map(|wanted| wanted.spec.clone())
                .collect(),
            neighbours: documents
                .neighbours
                .values()
                .filter(|wanted| wanted.is_wanted())
                .filter_map(|wanted| wanted.spec.clone())
                .collect(),
            ofports,
        }
    }

    /// The packet that a port sends, with the MACs that its guest would find.
    fn packet(&self, port: &PortSpec, asked: &TraceRequest) -> Result<Probe, String> {
        let family = |ip: &IpAddr| ip.is_ipv4() == asked.ip_dst.is_ipv4();
        let own = port.fixed_ips.iter().map(|fixed| fixed.ip).find(family);
        let ip_src = asked
            .ip_src
            .or(own)
            .ok_or_else(|| format!("the port has no address of the family of {}", asked.ip_dst))?;
        if !family(&ip_src) {
            return Err(format!("{ip_src} and {} are of two families", asked.ip_dst));
        }
        let eth_dst = self.mac_of(port, asked.ip_dst).ok_or_else(|| {
            format!(
                "no port of the network has {}, and the network has no gateway to it: nobody \
                 answers who looks for its MAC",
                asked.ip_dst
            )
        })?;
        Ok(Probe {
            eth_src: port.mac,
            eth_dst,
            ip_src,
            ip_dst: asked.ip_dst,
            protocol: asked.protocol,
            src_port: asked.src_port,
            dst_port: asked.dst_port,
        })
    }

    fn mac_of(&self, port: &PortSpec, ip: IpAddr) -> Option<MacAddress> {
        if ip.is_multicast() {
            return Some(group_mac(ip));
        }
        let services =
            [LINK_LOCAL_SERVICE.into(), LINK_LOCAL_SERVICE6.into(), ROUTER_LINK_LOCAL.into()];
        let has = |ip: IpAddr| {
            let local = self.ports.iter().filter(|p| p.network_id == port.network_id);
            let local = local.flat_map(|p| p.fixed_ips.iter().map(move |f| (f.ip, p.mac)));
            let remote = self.neighbours.iter().filter(|n| n.network_id == port.network_id);
            let remote = remote.flat_map(|n| n.ips.iter().map(move |ip| (*ip, n.mac)));
            local.chain(remote).find(|(other, _)| *other == ip).map(|(_, mac)| mac)
        };
        if let Some(mac) = has(ip) {
            return Some(mac);
        }
        if services.contains(&ip) {
            return Some(MacAddress(ROUTER_MAC));
        }
        let network = self.networks.iter().find(|n| n.network_id == port.network_id)?;
        if let Some(subnet) = network.subnets.iter().find(|subnet| subnet.cidr.contains(&ip)) {
            return (subnet.gateway_ip == Some(ip)).then_some(MacAddress(ROUTER_MAC));
        }
        let mut gateways = network.subnets.iter().filter_map(|subnet| subnet.gateway_ip);
        let gateway = gateways.find(|gateway| gateway.is_ipv4() == ip.is_ipv4())?;
        Some(has(gateway).unwrap_or(MacAddress(ROUTER_MAC)))
    }
}

/// The MAC of a group (RFC 1112, section 6.4; RFC 2464, section 7).
fn group_mac(ip: IpAddr) -> MacAddress {
    match ip {
        IpAddr::V4(ip) => {
            let [_, b, c, d] = ip.octets();
            MacAddress([0x01, 0, 0x5e, b & 0x7f, c, d])
        }
        IpAddr::V6(ip) => {
            let [.., a, b, c, d] = ip.octets();
            MacAddress([0x33, 0x33, a, b, c, d])
        }
    }
}

impl words::Names for Known {
    fn network(&self, number: u32) -> String {
        let found = self.networks.iter().find(|network| network.network_number == number);
        found.map_or_else(
            || format!("network number {number}"),
            |n| format!("network {}", n.network_id),
        )
    }

    fn port(&self, number: u32) -> String {
        let found = self.ports.iter().find(|port| port.port_number == number);
        found.map_or_else(|| format!("port number {number}"), |p| format!("port {}", p.port_id))
    }

    fn ofport(&self, ofport: u32) -> String {
        self.ofports.get(&ofport).cloned().unwrap_or_else(|| format!("OpenFlow port {ofport}"))
    }

    fn neighbour(&self, host: u16, port: u32) -> String {
        let mut all = self.neighbours.iter();
        let found = all.find(|n| (n.host_number, n.port_number) == (host, port));
        let name =
            found.map_or_else(|| format!("port number {port}"), |n| format!("port {}", n.port_id));
        format!("{name} on host number {host}")
    }
}

/// The way of a packet through this host.
pub async fn way_of(shared: &Shared, start: TraceStart, is_answer: bool) -> HostAnswer {
    let in_force = lock(&shared.in_force).clone();
    let known = Known::new(shared, &in_force);
    let (ofport, probe) = match start {
        TraceStart::Wire { packet } => match in_force.wire {
            Some(wire) => (wire, probe_of(&packet)),
            None => {
                let message = "this host has no wire to others".to_owned();
                return HostAnswer::Failed { message, not_found: false };
            }
        },
        TraceStart::Port { port_id, packet } => {
            let Some(port) = known.ports.iter().find(|port| port.port_id == port_id) else {
                return unknown_port();
            };
            let Some(ofport) = in_force.ofports.get(&port_id) else {
                return nowhere("the port is not on the bridge yet".to_owned());
            };
            match known.packet(port, &packet) {
                Ok(probe) => (*ofport, probe),
                Err(why) => return nowhere(why),
            }
        }
    };
    let read = match shared.edges.switch.read().await {
        Ok(read) => read,
        Err(error) => return failed(&error),
    };
    let flows: Vec<Flow> = read.flows.iter().map(|counted| counted.flow.clone()).collect();
    let connection = if is_answer { Connection::Answer } else { Connection::New };
    let traced = trace(&flows, ofport, &probe, connection);
    HostAnswer::Trace { trace: Box::new(told(&traced, &read, &in_force, &known)) }
}

/// A packet that does not even leave the guest.
fn nowhere(words: String) -> HostAnswer {
    let step = TraceStep { table: 0, words, flow: None, packets: None, drops: true };
    HostAnswer::Trace { trace: Box::new(HostTrace { steps: vec![step], ..HostTrace::default() }) }
}

fn told(traced: &Trace, read: &TableRead, in_force: &InForce, known: &Known) -> HostTrace {
    let mut steps: Vec<TraceStep> = traced
        .steps
        .iter()
        .map(|step| {
            let counted = step.flow.and_then(|index| read.flows.get(index));
            TraceStep {
                table: step.table,
                words: words::step(step, counted.map(|counted| &counted.flow), known),
                flow: counted.map(|counted| counted.flow.to_string()),
                packets: counted.map(|counted| counted.packets),
                drops: step.drops,
            }
        })
        .collect();
    if let (Some(first), Some(step)) = (steps.first_mut(), traced.steps.first()) {
        first.words = format!("{}: {}", words::packet(&step.packet), first.words);
    }
    let mut out = HostTrace { steps, ..HostTrace::default() };
    let mut delivered = BTreeSet::new();
    for end in &traced.ends {
        match end {
            End::Output { ofport, packet } if Some(*ofport) == in_force.wire => {
                out.wire.push(packet_of(packet));
            }
            End::Output { ofport, .. } if Some(*ofport) == in_force.responder => {
                out.answered = true;
            }
            End::Output { ofport, .. } => {
                let port = in_force.ofports.iter().find(|(_, number)| *number == ofport);
                delivered.extend(port.map(|(id, _)| id.clone()));
            }
            End::Answered { .. } => out.answered = true,
            End::Dropped { .. } => {}
        }
    }
    out.delivered = delivered.into_iter().collect();
    // Locators of this host alone leave it, so that nobody has to wonder whose packet it is.
    debug_assert!(out.wire.iter().all(|packet| {
        let bytes = packet.eth_src.0;
        u16::from_be_bytes([bytes[1], bytes[2]]) == known.host_number
    }));
    out
}

fn probe_of(packet: &TracePacket) -> Probe {
    let TracePacket { eth_src, eth_dst, ip_src, ip_dst, protocol, src_port, dst_port } = *packet;
    Probe { eth_src, eth_dst, ip_src, ip_dst, protocol, src_port, dst_port }
}

fn packet_of(probe: &Probe) -> TracePacket {
    let Probe { eth_src, eth_dst, ip_src, ip_dst, protocol, src_port, dst_port } = *probe;
    TracePacket { eth_src, eth_dst, ip_src, ip_dst, protocol, src_port, dst_port }
}
