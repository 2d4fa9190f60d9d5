//! Router advertisements (RFC 4861, section 4.2): how guests come by their IPv6 addresses, and where
//! names are asked (RFC 8106).
//!
//! ```text
//!   solicitation          → the network's advertisement, to who asked
//!   every 200 to 600 s,   → the same, to all nodes of the port's link: the port alone
//!   and when it changes
//! ```
//! An advertisement is the network's, so it is made once for each table.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use host_protocol::{Ipv6Mode, NetworkSpec, SubnetSpec};
use ipnet::IpNet;
use rand::Rng;
use tokio::time::Instant;

use super::socket::{From, Identified};
use super::table::PortTable;
use super::{Current, extra};

/// Between two advertisements to one port (RFC 4861, section 6.2.1, `MinRtrAdvInterval`,
/// `MaxRtrAdvInterval`): at random, so that a thousand ports do not hear theirs at once.
const INTERVAL: std::ops::Range<Duration> = Duration::from_secs(200)..Duration::from_secs(600);
/// How long the router and its name servers are believed in without another word: three intervals.
const ROUTER_SECONDS: u16 = 1800;
/// How long a prefix is; the values that radvd has.
const VALID_SECONDS: u32 = 86_400;
const PREFERRED_SECONDS: u32 = 14_400;
/// Longest solicitation that is read.
const MAX_REQUEST: usize = 256;

/// Answers and advertises for ever.
pub(crate) async fn serve(socket: Identified, current: Current) {
    let mut buffer = [0; MAX_REQUEST];
    let mut plan = Plan::default();
    loop {
        let table = current.get();
        for number in plan.due(&table, Instant::now()) {
            say(&socket, &table, number, unasked(number));
        }
        let next = plan.next();
        let pause = async {
            match next {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = current.changed() => {}
            () = pause => {}
            received = socket.receive(&mut buffer) => match received {
                Ok((_, from)) => {
                    if let Some(number) = from.port_number() {
                        say(&socket, &current.get(), number, from);
                    }
                }
                Err(error) => tracing::warn!(%error, "socket of router solicitations"),
            }
        }
    }
}

fn say(socket: &Identified, table: &PortTable, number: u32, to: From) {
    let Some(port) = table.port(number) else { return };
    let Some(advertisement) = &port.network.advertisement else { return };
    if let Err(error) = socket.send(advertisement, to) {
        tracing::debug!(port = %port.spec.port_id, %error, "router advertisement not sent");
    }
}

/// From the router's own address to all nodes of a port's link.
fn unasked(number: u32) -> From {
    let router = flow_compiler::RESPONDER_NETWORK6.addr().to_bits() | 1;
    From {
        peer: SocketAddr::from((flow_compiler::port_identity6(number), 0)),
        local: IpAddr::V6(Ipv6Addr::from_bits(router)),
    }
}

/// Who hears an advertisement next without asking.
#[derive(Default)]
struct Plan {
    /// What a port heard last, and when it hears again.
    ports: HashMap<u32, (Arc<Vec<u8>>, Instant)>,
}

impl Plan {
    /// Ports that should hear now: because it is time, or their network's advertisement is another.
    fn due(&mut self, table: &PortTable, now: Instant) -> Vec<u32> {
        let mut due = Vec::new();
        let mut ports = HashMap::with_capacity(self.ports.len());
        for (number, port) in table.ports() {
            let Some(wanted) = &port.network.advertisement else { continue };
            let last = self.ports.remove(&number);
            let known = last.filter(|(said, at)| **said == **wanted && *at > now);
            let (said, at) = known.unwrap_or_else(|| {
                due.push(number);
                (wanted.clone(), now + rand::rng().random_range(INTERVAL))
            });
            ports.insert(number, (said, at));
        }
        self.ports = ports;
        due
    }

    fn next(&self) -> Option<Instant> {
        self.ports.values().map(|(_, at)| *at).min()
    }
}

/// What a network's router says of it; `None` when no subnet wants it to say anything. The
/// checksum is the kernel's to fill in.
pub(crate) fn advertisement(
    network: &NetworkSpec,
    answers_for: impl Fn(IpAddr) -> bool,
    servers: &[Ipv6Addr],
    domain: &str,
) -> Option<Vec<u8>> {
    let advertised = || {
        let wanted = |s: &&SubnetSpec| s.enable_dhcp && s.ipv6_ra_mode.is_some();
        network.subnets.iter().filter(wanted)
    };
    advertised().next()?;
    let has = |mode| advertised().any(|s| s.ipv6_ra_mode == Some(mode));
    let managed = has(Ipv6Mode::Dhcpv6Stateful);
    let flags = u8::from(managed) << 7 | u8::from(managed || has(Ipv6Mode::Dhcpv6Stateless)) << 6;
    // A way out only where the network has one that this host stands for.
    let routes = advertised().any(|s| s.gateway_ip.is_some_and(&answers_for));
    let [l1, l0] = if routes { ROUTER_SECONDS } else { 0 }.to_be_bytes();
    let mut out = vec![134, 0, 0, 0, 64, flags, l1, l0, 0, 0, 0, 0, 0, 0, 0, 0];
    out.extend_from_slice(&[1, 1]);
    out.extend_from_slice(&flow_compiler::ROUTER_MAC);
    out.extend_from_slice(&[5, 1, 0, 0]);
    out.extend_from_slice(&u32::from(network.mtu).to_be_bytes());
    for subnet in advertised() {
        let IpNet::V6(prefix) = subnet.cidr else { continue };
        let own_address = subnet.ipv6_ra_mode != Some(Ipv6Mode::Dhcpv6Stateful);
        out.extend_from_slice(&[3, 4, prefix.prefix_len(), 0x80 | u8::from(own_address) << 6]);
        out.extend_from_slice(&VALID_SECONDS.to_be_bytes());
        out.extend_from_slice(&PREFERRED_SECONDS.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&prefix.network().octets());
    }
    let lifetime = u32::from(ROUTER_SECONDS).to_be_bytes();
    let servers: Vec<u8> = servers.iter().take(8).flat_map(Ipv6Addr::octets).collect();
    if !servers.is_empty() {
        out.extend_from_slice(&[25, 1 + (servers.len() / 8) as u8, 0, 0]);
        out.extend_from_slice(&lifetime);
        out.extend_from_slice(&servers);
    }
    if let Some(mut labels) = extra::domains(std::iter::once(domain))
        && !domain.is_empty()
    {
        labels.resize(labels.len().next_multiple_of(8), 0);
        out.extend_from_slice(&[31, 1 + (labels.len() / 8) as u8, 0, 0]);
        out.extend_from_slice(&lifetime);
        out.extend_from_slice(&labels);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edges::ResponderTables;
    use crate::responders::table::tests::{dual, dual_port};

    fn table(mode: Option<Ipv6Mode>) -> PortTable {
        let mut network = dual();
        network.subnets[1].ipv6_ra_mode = mode;
        PortTable::new(ResponderTables {
            networks: vec![network],
            ports: vec![dual_port()],
            ..ResponderTables::default()
        })
    }

    fn said(mode: Ipv6Mode) -> Vec<u8> {
        let table = table(Some(mode));
        let port = table.port(5).unwrap();
        port.network.advertisement.clone().unwrap().to_vec()
    }

    #[test]
    fn the_modes_of_a_subnet_are_the_flags_of_its_advertisement() {
        // Managed, other; autonomous prefix.
        for (mode, flags, prefix) in [
            (Ipv6Mode::Slaac, 0, 0xc0),
            (Ipv6Mode::Dhcpv6Stateless, 0x40, 0xc0),
            (Ipv6Mode::Dhcpv6Stateful, 0xc0, 0x80),
        ] {
            let bytes = said(mode);
            assert_eq!((bytes[0], bytes[5]), (134, flags), "{mode:?}");
            let option = bytes[32..].to_vec();
            assert_eq!(option[..4], [3, 4, 64, prefix], "{mode:?}");
            assert_eq!(option[16..18], [0xfd, 0x01]);
        }
        assert!(table(None).port(5).unwrap().network.advertisement.is_none());
    }

    #[test]
    fn an_advertisement_is_whole_options_and_tells_router_mtu_and_names() {
        let bytes = said(Ipv6Mode::Slaac);
        assert_eq!(u16::from_be_bytes([bytes[6], bytes[7]]), ROUTER_SECONDS);
        let mut rest = &bytes[16..];
        let mut kinds = Vec::new();
        while let [kind, length, ..] = rest {
            kinds.push(*kind);
            rest = &rest[usize::from(*length) * 8..];
        }
        assert_eq!(kinds, [1, 5, 3, 25, 31]);
    }

    #[test]
    fn a_port_hears_at_once_what_is_new_and_then_from_time_to_time() {
        let now = Instant::now();
        let mut plan = Plan::default();
        let slaac = table(Some(Ipv6Mode::Slaac));
        assert_eq!(plan.due(&slaac, now), [5]);
        assert_eq!(plan.due(&slaac, now), [] as [u32; 0]);
        let next = plan.next().unwrap();
        assert!(INTERVAL.contains(&next.duration_since(now)));
        assert_eq!(plan.due(&slaac, next), [5]);
        assert_eq!(plan.due(&table(Some(Ipv6Mode::Dhcpv6Stateless)), next), [5]);
        assert_eq!(plan.due(&table(None), next), [] as [u32; 0]);
        assert_eq!(plan.next(), None);
    }
}
