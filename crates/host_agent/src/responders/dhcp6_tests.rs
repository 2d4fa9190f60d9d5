//! Requests over IPv6 as guests make them, and as they should not.

use dhcproto::{Decodable, Decoder};

use super::*;
use crate::edges::ResponderTables;
use crate::responders::table::PortTable;
use crate::responders::table::tests::{dual, dual_port};

fn table(mode: Option<Ipv6Mode>) -> PortTable {
    let mut network = dual();
    network.subnets[1].ipv6_address_mode = mode;
    PortTable::new(ResponderTables {
        networks: vec![network],
        ports: vec![dual_port()],
        ..ResponderTables::default()
    })
}

fn request(kind: MessageType, fill: impl FnOnce(&mut DhcpOptions)) -> Vec<u8> {
    let mut message = Message::new_with_id(kind, [1, 2, 3]);
    message.opts_mut().insert(DhcpOption::ClientId(vec![0, 3, 0, 1, 9]));
    fill(message.opts_mut());
    encode(&message).unwrap()
}

fn wants(id: u32, named: &[&str]) -> DhcpOption {
    let named: Vec<Ipv6Addr> = named.iter().map(|ip| ip.parse().unwrap()).collect();
    identity(id, &[], &named)
}

fn answered(table: &PortTable, request: &[u8]) -> Option<Message> {
    let bytes = answer(table.port(5).unwrap(), request)?;
    Some(Message::decode(&mut Decoder::new(&bytes)).unwrap())
}

fn given(message: &Message) -> Vec<(Ipv6Addr, u32)> {
    let Some(DhcpOption::IANA(identity)) = message.opts().get(OptionCode::IANA) else {
        return Vec::new();
    };
    let address = |option: &DhcpOption| match option {
        DhcpOption::IAAddr(address) => Some((address.addr, address.valid_life)),
        _ => None,
    };
    identity.opts.iter().filter_map(address).collect()
}

#[test]
fn a_guest_gets_the_addresses_of_its_port_and_all_it_needs() {
    let table = table(Some(Ipv6Mode::Dhcpv6Stateful));
    let solicit = request(MessageType::Solicit, |o| o.insert(wants(7, &[])));
    let advertised = answered(&table, &solicit).unwrap();
    assert_eq!((advertised.msg_type(), advertised.xid()), (MessageType::Advertise, [1, 2, 3]));
    let own: Ipv6Addr = "fd01::9".parse().unwrap();
    assert_eq!(given(&advertised), [(own, VALID_SECONDS)]);
    let servers = DhcpOption::DomainNameServers(vec!["fd01::1".parse().unwrap()]);
    assert_eq!(advertised.opts().get(OptionCode::DomainNameServers), Some(&servers));
    let Some(DhcpOption::DomainSearchList(names)) =
        advertised.opts().get(OptionCode::DomainSearchList)
    else {
        panic!("a search domain is told");
    };
    assert_eq!(names[0].to_string(), "cloud.internal.");

    let chosen = request(MessageType::Request, |o| {
        o.insert(DhcpOption::ServerId(server_id()));
        o.insert(wants(7, &["fd01::9"]));
    });
    let reply = answered(&table, &chosen).unwrap();
    assert_eq!(reply.msg_type(), MessageType::Reply);
    assert_eq!(given(&reply), [(own, VALID_SECONDS)]);
    let rapid = request(MessageType::Solicit, |o| {
        o.insert(DhcpOption::RapidCommit);
        o.insert(wants(7, &[]));
    });
    assert_eq!(answered(&table, &rapid).unwrap().msg_type(), MessageType::Reply);
}

#[test]
fn an_address_that_is_not_the_ports_is_taken_away() {
    let table = table(Some(Ipv6Mode::Dhcpv6Stateful));
    let renew = request(MessageType::Rebind, |o| o.insert(wants(7, &["fd01::66"])));
    let mut found = given(&answered(&table, &renew).unwrap());
    found.sort();
    let ip = |text: &str| text.parse::<Ipv6Addr>().unwrap();
    assert_eq!(found, [(ip("fd01::9"), VALID_SECONDS), (ip("fd01::66"), 0)]);
    for (named, status) in [("fd01::9", Status::Success), ("fd02::9", Status::NotOnLink)] {
        let confirm = request(MessageType::Confirm, |o| o.insert(wants(7, &[named])));
        let reply = answered(&table, &confirm).unwrap();
        let Some(DhcpOption::StatusCode(said)) = reply.opts().get(OptionCode::StatusCode) else {
            panic!("a status is said");
        };
        assert_eq!(said.status, status);
    }
}

#[test]
fn stateless_means_no_address_and_no_mode_means_silence() {
    let stateless = table(Some(Ipv6Mode::Dhcpv6Stateless));
    let ask = request(MessageType::InformationRequest, |_| {});
    let reply = answered(&stateless, &ask).unwrap();
    assert!(reply.opts().get(OptionCode::DomainNameServers).is_some());
    let solicit = request(MessageType::Solicit, |o| o.insert(wants(7, &[])));
    assert_eq!(given(&answered(&stateless, &solicit).unwrap()), []);
    for mode in [None, Some(Ipv6Mode::Slaac)] {
        assert_eq!(answered(&table(mode), &ask), None);
        assert_eq!(answered(&table(mode), &solicit), None);
    }
}

#[test]
fn another_servers_client_hears_nothing() {
    let table = table(Some(Ipv6Mode::Dhcpv6Stateful));
    let chosen = request(MessageType::Request, |o| {
        o.insert(DhcpOption::ServerId(vec![0, 3, 0, 1, 6, 6, 6]));
        o.insert(wants(7, &[]));
    });
    assert_eq!(answered(&table, &chosen), None);
    let nobody = encode(&Message::new_with_id(MessageType::Solicit, [0; 3])).unwrap();
    assert_eq!(answered(&table, &nobody), None);
    assert_eq!(answered(&table, &request(MessageType::Advertise, |_| {})), None);
}

#[test]
fn options_of_the_ports_owner_come_before_the_networks() {
    let mut port = dual_port();
    port.dhcp_options = [("dns-server", "fd01::53"), ("bootfile-url", "http://x/"), ("bad", "x")]
        .map(|(name, value)| host_protocol::DhcpOption {
            name: name.to_owned(),
            value: value.to_owned(),
            ipv6: true,
        })
        .to_vec();
    let mut network = dual();
    network.subnets[1].ipv6_address_mode = Some(Ipv6Mode::Dhcpv6Stateless);
    let table = PortTable::new(ResponderTables {
        networks: vec![network],
        ports: vec![port],
        ..ResponderTables::default()
    });
    let reply = answered(&table, &request(MessageType::InformationRequest, |_| {})).unwrap();
    let servers = DhcpOption::DomainNameServers(vec!["fd01::53".parse().unwrap()]);
    assert_eq!(reply.opts().get(OptionCode::DomainNameServers), Some(&servers));
    assert_eq!(reply.opts().iter().filter(|o| matches!(o, DhcpOption::Unknown(_))).count(), 1);
}

proptest::proptest! {
    #[test]
    fn no_request_panics(kind in 0u8..16, bytes: Vec<u8>) {
        let table = table(Some(Ipv6Mode::Dhcpv6Stateful));
        let mut request = vec![kind, 1, 2, 3];
        request.extend_from_slice(&bytes);
        let _ = answer(table.port(5).unwrap(), &request);
        // Past the client's identifier, where more is read.
        let mut request = vec![kind, 1, 2, 3, 0, 1, 0, 1, 9];
        request.extend_from_slice(&bytes);
        let _ = answer(table.port(5).unwrap(), &request);
    }
}
