//! DHCPv4 (RFC 2131, 2132, 3442): each port is given the address that its document says.
//!
//! ```text
//!   DISCOVER            → OFFER
//!   REQUEST, our offer  → ACK          other server chosen → silence
//!   REQUEST, renewing   → ACK          another address     → NAK
//!   INFORM              → ACK without address
//!   RELEASE, DECLINE    → nothing: the address stays the port's
//! ```
//! The lease is a formality with a length: nobody else can get the address while the port exists.

use std::net::Ipv4Addr;

use dhcproto::v4::{
    DhcpOption, DhcpOptions, Flags, Message, MessageType, Opcode, OptionCode, UnknownOption,
};
use dhcproto::{Decodable, Decoder, Encodable, Encoder};
use ipnet::{IpNet, Ipv4Net};

use super::Current;
use super::extra;
use super::socket::Identified;
use super::table::PortEntry;

/// Length of a lease in seconds. An hour: a changed option (name server, route) reaches guests
/// within half of it, and a guest outlives half an hour without its host's agent.
const LEASE_SECONDS: u32 = 3600;
/// Longest request that is read: what fits into one frame.
const MAX_REQUEST: usize = 1500;
/// Fixed part of a message and the magic number (RFC 2131, figure 1).
const MIN_REQUEST: usize = 240;
/// Answers are filled up to this: older clients drop shorter ones (RFC 1542, section 2.1).
const MIN_ANSWER: usize = 300;
const MAGIC: [u8; 4] = [99, 130, 83, 99];
/// Hardware type Ethernet and its address length.
const ETHERNET: [u8; 2] = [1, 6];

/// Answers for ever.
pub(crate) async fn serve(socket: Identified, current: Current) {
    let mut buffer = [0; MAX_REQUEST];
    loop {
        let (length, from) = match socket.receive(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                tracing::warn!(%error, "DHCP socket");
                continue;
            }
        };
        let table = current.get();
        let Some(port) = from.port_number().and_then(|number| table.port(number)) else { continue };
        // Not louder: how often is the guest's to decide.
        tracing::debug!(port = %port.spec.port_id, "DHCP request");
        if let Some(answer) = answer(port, &buffer[..length])
            && let Err(error) = socket.send(&answer, from)
        {
            tracing::debug!(port = %port.spec.port_id, %error, "DHCP answer not sent");
        }
    }
}

/// What to say to a request from this port; `None` is silence.
pub(crate) fn answer(port: &PortEntry, request: &[u8]) -> Option<Vec<u8>> {
    let request = Message::decode(&mut Decoder::new(&sanitised(request)?)).ok()?;
    let (address, subnet) = port.lease()?;
    let foreign = request.chaddr() != port.spec.mac.0;
    if request.opcode() != Opcode::BootRequest || foreign || !request.giaddr().is_unspecified() {
        return None;
    }
    let server = port.network.service_address(subnet);
    let requested = match request.opts().get(OptionCode::RequestedIpAddress) {
        Some(DhcpOption::RequestedIpAddress(ip)) => Some(*ip),
        _ => None,
    };
    let chosen = match request.opts().get(OptionCode::ServerIdentifier) {
        Some(DhcpOption::ServerIdentifier(ip)) => Some(*ip),
        _ => None,
    };
    let kind = match request.opts().msg_type()? {
        MessageType::Discover => MessageType::Offer,
        MessageType::Request if chosen.is_some_and(|ip| ip != server) => return None,
        MessageType::Request => {
            let wanted = requested.unwrap_or(request.ciaddr());
            if wanted == address { MessageType::Ack } else { MessageType::Nak }
        }
        MessageType::Inform => return inform(port, &request, server),
        MessageType::Decline => {
            tracing::warn!(port = %port.spec.port_id, %address, "guest says its address is in use");
            return None;
        }
        _ => return None,
    };
    let mut answer = reply_to(&request, kind, server);
    if kind == MessageType::Nak {
        let text = format!("this port's address is {address}");
        answer.opts_mut().insert(DhcpOption::Message(text));
        return encode(&answer);
    }
    answer.set_yiaddr(address);
    if kind == MessageType::Ack {
        answer.set_ciaddr(request.ciaddr());
    }
    let options = answer.opts_mut();
    options.insert(DhcpOption::AddressLeaseTime(LEASE_SECONDS));
    options.insert(DhcpOption::Renewal(LEASE_SECONDS / 2));
    options.insert(DhcpOption::Rebinding(LEASE_SECONDS / 8 * 7));
    configuration(port, server, options);
    boot_server(port, &mut answer);
    encode(&answer)
}

/// The request with the options that matter here and no others. The decoder knows a hundred kinds,
/// and trusts some lengths (of the hardware address, of a name): a guest must not get to those.
fn sanitised(request: &[u8]) -> Option<Vec<u8>> {
    if request.len() < MIN_REQUEST || request[1..3] != ETHERNET || request[236..240] != MAGIC {
        return None;
    }
    let (head, mut options) = request.split_at(MIN_REQUEST);
    let mut out = head.to_vec();
    while let [code, rest @ ..] = options {
        match code {
            0 => options = rest,
            255 => break,
            code => {
                let (length, rest) = rest.split_first()?;
                let length = usize::from(*length);
                let value = rest.get(..length)?;
                options = &rest[length..];
                let wanted = match code {
                    50 | 54 => length == 4, // requested address, server identifier
                    53 => length == 1,      // message type
                    61 => length >= 2,      // client identifier
                    _ => false,
                };
                if wanted {
                    out.extend_from_slice(&[*code, length as u8]);
                    out.extend_from_slice(value);
                }
            }
        }
    }
    out.push(255);
    Some(out)
}

/// A guest that has its address already asks for the rest.
fn inform(port: &PortEntry, request: &Message, server: Ipv4Addr) -> Option<Vec<u8>> {
    if !port.spec.fixed_ips.iter().any(|f| f.ip == request.ciaddr()) {
        return None;
    }
    let mut answer = reply_to(request, MessageType::Ack, server);
    answer.set_ciaddr(request.ciaddr());
    configuration(port, server, answer.opts_mut());
    boot_server(port, &mut answer);
    encode(&answer)
}

fn reply_to(request: &Message, kind: MessageType, server: Ipv4Addr) -> Message {
    let none = Ipv4Addr::UNSPECIFIED;
    let mut answer = Message::new_with_id(request.xid(), none, none, none, none, request.chaddr());
    answer.set_opcode(Opcode::BootReply);
    answer.set_flags(if kind == MessageType::Nak {
        Flags::default().set_broadcast()
    } else {
        request.flags()
    });
    let options = answer.opts_mut();
    options.insert(DhcpOption::MessageType(kind));
    options.insert(DhcpOption::ServerIdentifier(server));
    // RFC 6842: given back as it came.
    if let Some(id) = request.opts().get(OptionCode::ClientIdentifier) {
        options.insert(id.clone());
    }
    answer
}

/// Everything that a member of the subnet should know; what the port's owner says comes before what
/// the subnet says.
fn configuration(port: &PortEntry, server: Ipv4Addr, options: &mut DhcpOptions) {
    let mut put = |option| drop(options.insert(option));
    let Some((_, subnet)) = port.lease() else { return };
    let IpNet::V4(cidr) = subnet.cidr else { return };
    put(DhcpOption::SubnetMask(cidr.netmask()));
    put(DhcpOption::BroadcastAddr(cidr.broadcast()));
    put(DhcpOption::InterfaceMtu(port.network.spec.mtu));
    let gateway = match subnet.gateway_ip {
        Some(std::net::IpAddr::V4(gateway)) => Some(gateway),
        _ => None,
    };
    if let Some(gateway) = gateway {
        put(DhcpOption::Router(vec![gateway]));
    }
    put(DhcpOption::ClasslessStaticRoute(routes(port, server, gateway)));
    let mut servers: Vec<Ipv4Addr> = subnet.dns_nameservers.iter().filter_map(ipv4).collect();
    if servers.is_empty() {
        servers.push(server);
    }
    put(DhcpOption::DomainNameServer(servers));
    let domain = port.domain();
    if !domain.is_empty() {
        put(DhcpOption::DomainName(domain));
    }
    if !port.spec.hostname.is_empty() {
        put(DhcpOption::Hostname(port.spec.hostname.clone()));
    }
    for option in port.spec.dhcp_options.iter().filter(|option| !option.ipv6) {
        if let Some((code, octets)) = extra::v4(option) {
            let code = OptionCode::from(code);
            options.remove(code);
            options.insert(DhcpOption::Unknown(UnknownOption::new(code, octets)));
        }
    }
}

/// Where to boot from, for firmware that reads the message's own field: Neutron's
/// `server-ip-address`, which is no option of DHCP.
fn boot_server(port: &PortEntry, answer: &mut Message) {
    let mut named = port.spec.dhcp_options.iter().filter(|option| !option.ipv6);
    let server = named.find(|option| option.name == "server-ip-address");
    if let Some(address) = server.and_then(|option| option.value.parse::<Ipv4Addr>().ok()) {
        answer.set_siaddr(address);
    }
}

/// Routes (option 121). A client that reads them ignores the router option, so the default route
/// is among them. Metadata is behind the gateway when that is the host's own; otherwise it is on
/// the link, where the host answers ARP for it.
fn routes(
    port: &PortEntry,
    server: Ipv4Addr,
    gateway: Option<Ipv4Addr>,
) -> Vec<(Ipv4Net, Ipv4Addr)> {
    let Some((_, subnet)) = port.lease() else { return Vec::new() };
    let mut routes: Vec<(Ipv4Net, Ipv4Addr)> = subnet
        .host_routes
        .iter()
        .filter_map(|(net, hop)| match net {
            IpNet::V4(net) => Some((net.trunc(), ipv4(hop)?)),
            IpNet::V6(_) => None,
        })
        .collect();
    let metadata = Ipv4Net::from(flow_compiler::LINK_LOCAL_SERVICE);
    if !routes.iter().any(|(net, _)| *net == metadata) {
        let on_link = server == flow_compiler::LINK_LOCAL_SERVICE;
        routes.push((metadata, if on_link { Ipv4Addr::UNSPECIFIED } else { server }));
    }
    let everywhere = Ipv4Net::default();
    if let Some(gateway) = gateway
        && !routes.iter().any(|(net, _)| *net == everywhere)
    {
        routes.push((everywhere, gateway));
    }
    routes
}

fn ipv4(ip: &std::net::IpAddr) -> Option<Ipv4Addr> {
    match ip {
        std::net::IpAddr::V4(ip) => Some(*ip),
        std::net::IpAddr::V6(_) => None,
    }
}

fn encode(message: &Message) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(MIN_ANSWER);
    message.encode(&mut Encoder::new(&mut bytes)).ok()?;
    bytes.resize(bytes.len().max(MIN_ANSWER), 0);
    Some(bytes)
}

#[cfg(test)]
#[path = "dhcp_tests.rs"]
mod tests;
