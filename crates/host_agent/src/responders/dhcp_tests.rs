//! Requests as guests make them, and as they should not.

use super::*;
use crate::edges::ResponderTables;
use crate::responders::table::PortTable;
use crate::responders::table::tests::{network, port};

fn table() -> PortTable {
    PortTable::new(ResponderTables {
        networks: vec![network()],
        ports: vec![port()],
        ..ResponderTables::default()
    })
}

fn request(kind: MessageType, fill: impl FnOnce(&mut Message)) -> Vec<u8> {
    let none = Ipv4Addr::UNSPECIFIED;
    let mut message = Message::new_with_id(7, none, none, none, none, &port().mac.0);
    message.opts_mut().insert(DhcpOption::MessageType(kind));
    fill(&mut message);
    encode(&message).unwrap()
}

fn answered(table: &PortTable, request: &[u8]) -> Option<Message> {
    let bytes = answer(table.port(5).unwrap(), request)?;
    Some(Message::decode(&mut Decoder::new(&bytes)).unwrap())
}

#[test]
fn a_guest_gets_the_address_of_its_port_and_all_it_needs() {
    let table = table();
    let offer = answered(&table, &request(MessageType::Discover, |_| {})).unwrap();
    assert_eq!(offer.opts().msg_type(), Some(MessageType::Offer));
    assert_eq!(offer.yiaddr(), Ipv4Addr::new(10, 1, 0, 9));
    assert_eq!(offer.xid(), 7);
    let gateway = Ipv4Addr::new(10, 1, 0, 1);
    for option in [
        DhcpOption::ServerIdentifier(gateway),
        DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0)),
        DhcpOption::Router(vec![gateway]),
        DhcpOption::DomainNameServer(vec![gateway]),
        DhcpOption::DomainName("cloud.internal".to_owned()),
        DhcpOption::Hostname("hello".to_owned()),
        DhcpOption::InterfaceMtu(1450),
        DhcpOption::AddressLeaseTime(3600),
        DhcpOption::ClasslessStaticRoute(vec![
            ("192.168.7.0/24".parse().unwrap(), Ipv4Addr::new(10, 1, 0, 77)),
            ("169.254.169.254/32".parse().unwrap(), gateway),
            ("0.0.0.0/0".parse().unwrap(), gateway),
        ]),
    ] {
        let code = OptionCode::from(&option);
        assert_eq!(offer.opts().get(code), Some(&option));
    }
}

#[test]
fn requests_are_confirmed_refused_or_left_to_another_server() {
    let table = table();
    let ours = Ipv4Addr::new(10, 1, 0, 9);
    let kind = |bytes: Vec<u8>| answered(&table, &bytes).and_then(|m| m.opts().msg_type());
    let selecting = |address, server| {
        request(MessageType::Request, |m| {
            m.opts_mut().insert(DhcpOption::RequestedIpAddress(address));
            m.opts_mut().insert(DhcpOption::ServerIdentifier(server));
        })
    };
    assert_eq!(kind(selecting(ours, [10, 1, 0, 1].into())), Some(MessageType::Ack));
    assert_eq!(kind(selecting([10, 1, 0, 8].into(), [10, 1, 0, 1].into())), Some(MessageType::Nak));
    assert_eq!(kind(selecting(ours, [10, 1, 0, 66].into())), None);
    let renewing = |address: Ipv4Addr| {
        request(MessageType::Request, |m| {
            m.set_ciaddr(address);
        })
    };
    assert_eq!(kind(renewing(ours)), Some(MessageType::Ack));
    assert_eq!(kind(renewing([10, 9, 9, 9].into())), Some(MessageType::Nak));
    let rebooting = request(MessageType::Request, |m| {
        m.opts_mut().insert(DhcpOption::RequestedIpAddress([192, 168, 0, 5].into()));
    });
    assert_eq!(kind(rebooting), Some(MessageType::Nak));
    for silent in [MessageType::Release, MessageType::Decline, MessageType::Offer] {
        assert_eq!(kind(request(silent, |_| {})), None);
    }
    let inform = request(MessageType::Inform, |m| {
        m.set_ciaddr(ours);
    });
    let inform = answered(&table, &inform).unwrap();
    assert!(inform.yiaddr().is_unspecified());
    assert_eq!(inform.opts().get(OptionCode::AddressLeaseTime), None);
}

#[test]
fn options_of_the_ports_owner_come_before_the_subnets() {
    let mut port = port();
    port.dhcp_options = [
        ("bootfile-name", "pxelinux.0"),
        ("mtu", "1300"),
        ("server-ip-address", "10.1.0.66"),
        ("server-identifier", "10.1.0.66"),
    ]
    .map(|(name, value)| host_protocol::DhcpOption {
        name: name.to_owned(),
        value: value.to_owned(),
        ipv6: false,
    })
    .to_vec();
    let table = PortTable::new(ResponderTables {
        networks: vec![network()],
        ports: vec![port],
        ..ResponderTables::default()
    });
    let offer = answered(&table, &request(MessageType::Discover, |_| {})).unwrap();
    let bootfile = DhcpOption::BootfileName(b"pxelinux.0".to_vec());
    assert_eq!(offer.opts().get(OptionCode::from(&bootfile)), Some(&bootfile));
    assert_eq!(offer.opts().get(OptionCode::InterfaceMtu), Some(&DhcpOption::InterfaceMtu(1300)));
    assert_eq!(offer.siaddr(), Ipv4Addr::new(10, 1, 0, 66));
    let server = DhcpOption::ServerIdentifier([10, 1, 0, 1].into());
    assert_eq!(offer.opts().get(OptionCode::ServerIdentifier), Some(&server));
}

#[test]
fn a_foreign_mac_hears_nothing() {
    let table = table();
    let bytes = request(MessageType::Discover, |m| {
        m.set_chaddr(&[0xfa, 0x16, 0x3e, 9, 9, 9]);
    });
    assert_eq!(answered(&table, &bytes), None);
}

#[test]
fn a_gateway_that_is_a_guest_is_not_claimed() {
    let mut router = port();
    router.port_id = "router".to_owned();
    router.port_number = 6;
    router.fixed_ips[0].ip = [10, 1, 0, 1].into();
    let table = PortTable::new(ResponderTables {
        networks: vec![network()],
        ports: vec![port(), router],
        ..ResponderTables::default()
    });
    let offer = answered(&table, &request(MessageType::Discover, |_| {})).unwrap();
    let link_local = flow_compiler::LINK_LOCAL_SERVICE;
    let server = DhcpOption::ServerIdentifier(link_local);
    assert_eq!(offer.opts().get(OptionCode::ServerIdentifier), Some(&server));
    let Some(DhcpOption::ClasslessStaticRoute(routes)) =
        offer.opts().get(OptionCode::ClasslessStaticRoute)
    else {
        panic!("routes are sent");
    };
    // On the link, where the host answers ARP for it.
    assert!(routes.contains(&(link_local.into(), Ipv4Addr::UNSPECIFIED)));
    assert!(routes.contains(&(Ipv4Net::default(), [10, 1, 0, 1].into())));
}

#[test]
fn without_dhcp_on_the_subnet_there_is_silence() {
    let mut quiet = network();
    quiet.subnets[0].enable_dhcp = false;
    let table = PortTable::new(ResponderTables {
        networks: vec![quiet],
        ports: vec![port()],
        ..ResponderTables::default()
    });
    assert_eq!(answered(&table, &request(MessageType::Discover, |_| {})), None);
}

proptest::proptest! {
    #[test]
    fn no_request_panics(
        head in proptest::collection::vec(proptest::prelude::any::<u8>(), 236),
        options in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80),
        plausible: bool,
    ) {
        let mut bytes = head;
        if plausible {
            bytes[0..3].copy_from_slice(&[1, 1, 6]);
            bytes[28..34].copy_from_slice(&port().mac.0);
        }
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&[53, 1, 1]);
        bytes.extend_from_slice(&options);
        let _ = answer(table().port(5).unwrap(), &bytes);
    }
}
