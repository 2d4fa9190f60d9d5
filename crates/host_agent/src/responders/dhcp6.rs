//! DHCPv6 (RFC 8415): each port is given the addresses that its document says, in subnets whose
//! addresses are given this way, and is told the rest.
//!
//! ```text
//!   SOLICIT              → ADVERTISE, or REPLY where the client wants it rapid
//!   REQUEST, RENEW       → REPLY          to our identifier; another server's: silence
//!   REBIND               → REPLY
//!   CONFIRM              → REPLY          on link, or not
//!   INFORMATION-REQUEST  → REPLY without addresses
//!   RELEASE, DECLINE     → REPLY          the addresses stay the port's
//! ```

use std::net::{IpAddr, Ipv6Addr};

use dhcproto::v6::{
    DhcpOption, DhcpOptions, IAAddr, IANA, Message, MessageType, OptionCode, Status, StatusCode,
    UnknownOption,
};
use dhcproto::{Encodable, Encoder};
use host_protocol::{Ipv6Mode, SubnetSpec};

use super::Current;
use super::extra;
use super::socket::Identified;
use super::table::PortEntry;

/// Seconds that an address may be used; as long as over DHCPv4, and for the same reason.
const VALID_SECONDS: u32 = 3600;
const PREFERRED_SECONDS: u32 = 3600;
/// Longest request that is read: what fits into one frame.
const MAX_REQUEST: usize = 1500;
/// Identities with addresses in one request; a guest has one NIC behind a port.
const MAX_IDENTITIES: usize = 8;
/// The server's identifier: by its MAC (RFC 8415, section 11.4), the same on every host, so that a
/// guest that moves goes on with what it has.
fn server_id() -> Vec<u8> {
    [&[0, 3, 0, 1], &flow_compiler::ROUTER_MAC[..]].concat()
}

/// Answers for ever.
pub(crate) async fn serve(socket: Identified, current: Current) {
    let mut buffer = [0; MAX_REQUEST];
    loop {
        let (length, from) = match socket.receive(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                tracing::warn!(%error, "DHCPv6 socket");
                continue;
            }
        };
        let table = current.get();
        let Some(port) = from.port_number().and_then(|number| table.port(number)) else { continue };
        tracing::debug!(port = %port.spec.port_id, "DHCPv6 request");
        if let Some(answer) = answer(port, &buffer[..length])
            && let Err(error) = socket.send(&answer, from)
        {
            tracing::debug!(port = %port.spec.port_id, %error, "DHCPv6 answer not sent");
        }
    }
}

/// A request, as far as it matters here. The decoder of the library trusts some lengths, and a
/// guest must not get to those.
#[derive(Default)]
struct Request {
    client: Option<Vec<u8>>,
    server: Option<Vec<u8>>,
    /// Identity of an association, and the addresses that the guest names.
    identities: Vec<(u32, Vec<Ipv6Addr>)>,
    rapid: bool,
}

/// Code and value of each option; ends at one that does not fit.
fn options(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (head, rest) = bytes.split_first_chunk::<4>()?;
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let value = rest.get(..length)?;
        bytes = &rest[length..];
        Some((u16::from_be_bytes([head[0], head[1]]), value))
    })
}

impl Request {
    fn read(bytes: &[u8]) -> Request {
        let mut request = Request::default();
        for (code, value) in options(bytes) {
            match code {
                1 if value.len() <= 130 => request.client = Some(value.to_vec()),
                2 => request.server = Some(value.to_vec()),
                3 if request.identities.len() < MAX_IDENTITIES => {
                    let Some((head, rest)) = value.split_first_chunk::<12>() else { continue };
                    let id = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
                    let named = options(rest).filter(|(code, _)| *code == 5);
                    let named = named.filter_map(|(_, value)| value.first_chunk::<16>());
                    let named = named.map(|octets| Ipv6Addr::from(*octets)).take(MAX_IDENTITIES);
                    request.identities.push((id, named.collect()));
                }
                14 => request.rapid = true,
                _ => {}
            }
        }
        request
    }
}

/// What to say to a request from this port; `None` is silence.
pub(crate) fn answer(port: &PortEntry, bytes: &[u8]) -> Option<Vec<u8>> {
    let (&[kind, a, b, c], rest) = bytes.split_first_chunk::<4>()?;
    let mode = mode_of(port)?;
    let request = Request::read(rest);
    let ours = request.server.as_ref().map(|id| *id == server_id());
    let kind = MessageType::from(kind);
    let for_us = match kind {
        MessageType::Solicit | MessageType::Confirm | MessageType::Rebind => ours.is_none(),
        MessageType::InformationRequest => ours != Some(false),
        MessageType::Request | MessageType::Renew | MessageType::Release | MessageType::Decline => {
            ours == Some(true)
        }
        _ => false,
    };
    let names_itself = request.client.is_some() || kind == MessageType::InformationRequest;
    if !for_us || !names_itself {
        return None;
    }
    let stateful = mode == Ipv6Mode::Dhcpv6Stateful;
    let rapid = kind == MessageType::Solicit && request.rapid && stateful;
    let said = match kind {
        MessageType::Solicit if !rapid => MessageType::Advertise,
        _ => MessageType::Reply,
    };
    let mut answer = Message::new_with_id(said, [a, b, c]);
    let options = answer.opts_mut();
    if let Some(client) = &request.client {
        options.insert(DhcpOption::ClientId(client.clone()));
    }
    options.insert(DhcpOption::ServerId(server_id()));
    if rapid {
        options.insert(DhcpOption::RapidCommit);
    }
    match kind {
        MessageType::Confirm => {
            let named = request.identities.iter().flat_map(|(_, named)| named);
            let on_link = named.clone().all(|ip| is_on_link(port, *ip));
            if named.count() == 0 {
                return None;
            }
            let status = if on_link { Status::Success } else { Status::NotOnLink };
            options.insert(status_of(status, "this port's addresses are the network's to say"));
        }
        MessageType::Release | MessageType::Decline => {
            if kind == MessageType::Decline {
                tracing::warn!(port = %port.spec.port_id, "guest says its IPv6 address is in use");
            }
            options.insert(status_of(Status::Success, "the address stays this port's"));
        }
        _ => {
            let addresses: Vec<Ipv6Addr> =
                if stateful { leased(port).map(|(ip, _)| ip).collect() } else { Vec::new() };
            for (id, named) in request.identities.iter() {
                options.insert(identity(*id, named, &addresses));
            }
            configuration(port, options);
        }
    }
    encode(&answer)
}

/// The strongest way by which the port gets anything by DHCPv6; `None` when its subnets know none.
fn mode_of(port: &PortEntry) -> Option<Ipv6Mode> {
    let modes = port
        .network
        .spec
        .subnets
        .iter()
        .filter(|subnet| subnet.enable_dhcp)
        .filter_map(|subnet| subnet.ipv6_address_mode)
        .filter(|mode| *mode != Ipv6Mode::Slaac);
    modes.max_by_key(|mode| *mode == Ipv6Mode::Dhcpv6Stateful)
}

/// The port's addresses that DHCPv6 gives it.
fn leased(port: &PortEntry) -> impl Iterator<Item = (Ipv6Addr, &SubnetSpec)> {
    port.spec.fixed_ips.iter().filter_map(|fixed| {
        let IpAddr::V6(ip) = fixed.ip else { return None };
        let subnet = port.network.spec.subnets.iter().find(|s| s.subnet_id == fixed.subnet_id)?;
        let stateful = subnet.ipv6_address_mode == Some(Ipv6Mode::Dhcpv6Stateful);
        (subnet.enable_dhcp && stateful).then_some((ip, subnet))
    })
}

fn is_on_link(port: &PortEntry, ip: Ipv6Addr) -> bool {
    port.network.spec.subnets.iter().any(|subnet| subnet.cidr.contains(&IpAddr::V6(ip)))
}

fn status_of(status: Status, text: &str) -> DhcpOption {
    DhcpOption::StatusCode(StatusCode { status, msg: text.to_owned() })
}

/// The port's addresses for one association; those that the guest names and has not are taken away.
fn identity(id: u32, named: &[Ipv6Addr], addresses: &[Ipv6Addr]) -> DhcpOption {
    let mut opts = DhcpOptions::new();
    let address = |addr: Ipv6Addr, preferred_life: u32, valid_life: u32| {
        DhcpOption::IAAddr(IAAddr { addr, preferred_life, valid_life, opts: DhcpOptions::new() })
    };
    for ip in addresses {
        opts.insert(address(*ip, PREFERRED_SECONDS, VALID_SECONDS));
    }
    for ip in named.iter().filter(|ip| !addresses.contains(ip)) {
        opts.insert(address(*ip, 0, 0));
    }
    if addresses.is_empty() {
        opts.insert(status_of(Status::NoAddrsAvail, "this port has no address by DHCPv6"));
    }
    let t1 = VALID_SECONDS / 2;
    DhcpOption::IANA(IANA { id, t1, t2: VALID_SECONDS / 8 * 7, opts })
}

/// Everything that a member of the network should know.
fn configuration(port: &PortEntry, options: &mut DhcpOptions) {
    options.insert(DhcpOption::DomainNameServers(port.network.name_servers6()));
    let domain = port.domain();
    if let Some(labels) = extra::domains(std::iter::once(domain.as_str()))
        && !domain.is_empty()
    {
        put(options, OptionCode::DomainSearchList, labels);
    }
    for option in port.spec.dhcp_options.iter().filter(|option| option.ipv6) {
        if let Some((code, octets)) = extra::v6(option) {
            put(options, OptionCode::from(code), octets);
        }
    }
}

/// Sets an option, in place of any of that code.
fn put(options: &mut DhcpOptions, code: OptionCode, octets: Vec<u8>) {
    let number = u16::from(code);
    for code in [code, OptionCode::Unknown(number)] {
        let _ = options.remove_all(code).map(Iterator::count);
    }
    options.insert(DhcpOption::Unknown(UnknownOption::new(code, octets)));
}

fn encode(message: &Message) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    message.encode(&mut Encoder::new(&mut bytes)).ok()?;
    Some(bytes)
}

#[cfg(test)]
#[path = "dhcp6_tests.rs"]
mod tests;
