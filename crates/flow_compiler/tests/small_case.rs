//! One small host, and flows that it must have, in the words of `ovs-ofctl`.

use flow_compiler::{CompileError, HostInput, LocalPort, compile};
use host_protocol::{
    Attachment, Direction, FixedIp, HostSpec, NeighbourSpec, NetworkSpec, PortSpec, Remote,
    SecurityRule, SubnetSpec,
};

fn host() -> HostSpec {
    HostSpec {
        name: "host".to_owned(),
        host_number: 1,
        l2_domain: "underlay".to_owned(),
        zone: "zone".to_owned(),
        cluster: "cluster".to_owned(),
    }
}

fn network() -> NetworkSpec {
    NetworkSpec {
        network_id: "net".to_owned(),
        network_number: 7,
        mtu: 1500,
        dns_domain: String::new(),
        subnets: vec![SubnetSpec {
            subnet_id: "sub".to_owned(),
            cidr: "10.0.0.0/24".parse().unwrap(),
            gateway_ip: Some([10, 0, 0, 1].into()),
            enable_dhcp: true,
            dns_nameservers: Vec::new(),
            host_routes: Vec::new(),
            ipv6_ra_mode: None,
            ipv6_address_mode: None,
        }],
    }
}

fn port() -> PortSpec {
    PortSpec {
        port_id: "port".to_owned(),
        network_id: "net".to_owned(),
        project_id: "project".to_owned(),
        port_number: 3,
        mac: "fa:16:3e:00:00:03".parse().unwrap(),
        fixed_ips: vec![FixedIp { subnet_id: "sub".to_owned(), ip: [10, 0, 0, 3].into() }],
        allowed_address_pairs: Vec::new(),
        port_security: true,
        admin_state_up: true,
        security_groups: vec!["mine".to_owned()],
        security_rules: vec![SecurityRule {
            direction: Direction::Ingress,
            ipv6: false,
            protocol: Some(6),
            port_min: Some(22),
            port_max: Some(22),
            remote: Remote::Range("10.0.0.0/24".parse().unwrap()),
            stateless: false,
        }],
        hostname: "guest".to_owned(),
        dns_domain: None,
        dhcp_options: Vec::new(),
        attachment: Attachment::Tap,
        server_id: None,
    }
}

fn neighbour() -> NeighbourSpec {
    NeighbourSpec {
        port_id: "far".to_owned(),
        network_id: "net".to_owned(),
        host_number: 2,
        port_number: 9,
        mac: "fa:16:3e:00:00:09".parse().unwrap(),
        ips: vec![[10, 0, 0, 9].into()],
        allowed_address_pairs: Vec::new(),
        security_groups: vec!["theirs".to_owned()],
        hostname: "far".to_owned(),
        dns_domain: None,
    }
}

fn lines(ports: &[LocalPort<'_>]) -> Result<Vec<String>, CompileError> {
    let (spec, networks, neighbours) = (host(), [network()], [neighbour()]);
    let flows = compile(&HostInput {
        spec: &spec,
        wire_ofport: Some(1),
        responder_ofport: Some(2),
        networks: &networks,
        ports,
        neighbours: &neighbours,
    })?;
    Ok(flows.iter().map(ToString::to_string).collect())
}

#[test]
fn the_flows_of_one_port_and_one_neighbour() {
    let spec = port();
    let lines = lines(&[LocalPort { spec: &spec, ofport: 5, ct_zone: 21 }]).unwrap();
    let expected = [
        // From the guest: network, own locator, identity towards the responders.
        "cookie=0x300000000000003,table=0,priority=100,in_port=5,vlan_tci=0x0/0x1fff,actions=\
         set_field:0x7->metadata,set_field:0x20001000003->xreg2,set_field:0xa000003->reg6,\
         set_field:0xc6120001->reg7,goto_table:10",
        // From the wire: for this host, and not in its own name.
        "cookie=0x100000000000000,table=0,priority=150,in_port=1,\
         eth_src=02:00:01:00:00:00/ff:ff:ff:00:00:00,actions=drop",
        "cookie=0x100000000000000,table=0,priority=100,in_port=1,\
         eth_dst=02:00:01:00:00:00/ff:ff:ff:00:00:00,vlan_tci=0x0/0x1fff,actions=goto_table:1",
        // The locator it is for, and the locator it is from, of one network.
        "cookie=0x300000000000003,table=1,priority=100,eth_dst=02:00:01:00:00:03,actions=\
         set_field:0x7->metadata,set_field:0x5->reg1,set_field:fa:16:3e:00:00:03->eth_dst,\
         goto_table:2",
        "cookie=0x400000002000009,table=2,priority=100,metadata=0x7,eth_src=02:00:02:00:00:09,\
         actions=set_field:fa:16:3e:00:00:09->eth_src,goto_table:3",
        // Anti-spoofing.
        "cookie=0x300000000000003,table=11,priority=100,in_port=5,eth_src=fa:16:3e:00:00:03,\
         eth_type=0x800,nw_src=10.0.0.3,actions=goto_table:20",
        // ARP for the neighbour is answered here.
        "cookie=0x200000000000007,table=23,priority=100,metadata=0x7,eth_type=0x806,arp_op=1,\
         arp_tpa=10.0.0.9,actions=move:eth_src[]->eth_dst[],\
         set_field:fa:16:3e:00:00:09->eth_src,set_field:2->arp_op,move:arp_sha[]->arp_tha[],\
         move:arp_spa[]->arp_tpa[],set_field:fa:16:3e:00:00:09->arp_sha,\
         set_field:10.0.0.9->arp_spa,IN_PORT",
        // To the neighbour: from locator to locator.
        "cookie=0x400000002000009,table=40,priority=100,metadata=0x7,eth_dst=fa:16:3e:00:00:09,\
         actions=move:xreg2[0..47]->eth_src[],set_field:02:00:02:00:00:09->eth_dst,resubmit(,90)",
        "cookie=0x100000000000000,table=90,priority=100,\
         eth_src=02:00:01:00:00:00/ff:ff:ff:00:00:00,actions=output:1",
        // Every table ends in a drop.
        "cookie=0x100000000000000,table=61,priority=0,actions=drop",
    ];
    for line in expected {
        assert!(lines.iter().any(|l| l == line), "{line}\nis not in\n{}", lines.join("\n"));
    }
    let rule = lines.iter().find(|line| line.contains("table=61,priority=100")).unwrap();
    let says = "eth_type=0x800,ct_nw_proto=6,ct_nw_src=10.0.0.0/255.255.255.0,ct_tp_dst=22,reg2=";
    assert!(rule.contains(says), "{rule}");
    assert!(rule.ends_with("actions=goto_table:62"), "{rule}");
}

fn at(spec: &PortSpec, ofport: u32, ct_zone: u16) -> LocalPort<'_> {
    LocalPort { spec, ofport, ct_zone }
}

#[test]
fn a_document_that_does_not_fit_is_named() {
    let (one, mut two) = (port(), port());
    two.port_id = "two".to_owned();
    let error = lines(&[at(&one, 5, 21), at(&two, 6, 22)]).unwrap_err();
    assert_eq!(error.port_id(), Some("two"));
    assert_eq!(
        error.to_string(),
        "port two and port both have number 3; the later one cannot be told apart"
    );
    two.port_number = 4;
    for (ofport, zone) in [(5, 22), (1, 22), (6, 21), (6, 0)] {
        let error = lines(&[at(&one, 5, 21), at(&two, ofport, zone)]).unwrap_err();
        assert_eq!(error.port_id(), Some("two"), "{error}");
    }
    two.port_number = 0x100_0000;
    let error = lines(&[at(&two, 6, 22)]).unwrap_err();
    assert!(error.to_string().contains("16777215"), "{error}");
    two.port_number = 4;
    two.network_id = "elsewhere".to_owned();
    let error = lines(&[at(&two, 6, 22)]).unwrap_err();
    assert_eq!(error.port_id(), Some("two"));
}
