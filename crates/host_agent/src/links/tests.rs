//! On real devices: these need root, as the agent does.

use std::process::Command;

use super::*;

fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A prefix of four letters that no other run uses.
fn prefix() -> String {
    format!("z{:03x}", std::process::id() & 0xfff)
}

fn port(namespace: &str) -> NamespacePort {
    NamespacePort {
        namespace: namespace.to_owned(),
        mac: "fa:16:3e:01:02:03".parse().unwrap(),
        mtu: 1450,
        addresses: vec![("10.1.2.3".parse().unwrap(), 24), ("fd00::3".parse().unwrap(), 64)],
        gateway: Some("10.1.2.1".parse().unwrap()),
    }
}

#[test]
fn names_fit_and_differ_by_prefix_and_port() {
    let one = device_name("mt", "6f1c2d3e-4b5a-6978-8796-a5b4c3d2e1f0");
    assert_eq!(one.len(), 15);
    assert_ne!(one, device_name("mt", "6f1c2d3e-4b5a-6978-8796-a5b4c3d2e1f1"));
    assert!(!device_name("zz", "6f1c2d3e-4b5a-6978-8796-a5b4c3d2e1f0").starts_with("mt"));
}

#[tokio::test]
async fn a_tap_outlives_its_holder_and_is_removed_once() {
    let links = HostLinks::new(&prefix(), "unused");
    let device = device_name(&prefix(), "tap");
    links.ensure_tap(&device, 1400).await.unwrap();
    let held = links.open_tap(&device).await.unwrap().unwrap();
    // Again, while it is held, with another MTU.
    links.ensure_tap(&device, 1500).await.unwrap();
    let shown = ip(&format!("-d link show dev {device}"));
    assert!(shown.contains("mtu 1500") && shown.contains("tun type tap"), "{shown}");
    assert!(shown.contains("persist on") && shown.contains("vnet_hdr off"), "{shown}");
    drop(held);
    assert!(Netlink::open().unwrap().link(&device).unwrap().is_some());
    links.remove(&device).await.unwrap();
    links.remove(&device).await.unwrap();
    assert!(Netlink::open().unwrap().link(&device).unwrap().is_none());
    let error = links.open_tap(&device).await.unwrap_err();
    assert!(error.to_string().contains("not there"), "{error}");
}

#[tokio::test]
async fn a_namespace_port_is_configured_mended_and_removed_with_its_namespace() {
    let links = HostLinks::new(&prefix(), "unused");
    let device = device_name(&prefix(), "veth");
    let namespace = format!("{}-port", prefix());
    let wanted = port(&namespace);
    links.ensure_namespace_port(&device, &wanted).await.unwrap();
    // What somebody else changed is put right, and what is no longer wanted goes.
    ip(&format!("-n {namespace} addr del 10.1.2.3/24 dev {device}"));
    ip(&format!("-n {namespace} addr add 10.9.9.9/24 dev {device}"));
    ip(&format!("-n {namespace} link set {device} down"));
    links.ensure_namespace_port(&device, &wanted).await.unwrap();
    let shown = ip(&format!("-n {namespace} addr show dev {device}"));
    for text in ["fa:16:3e:01:02:03", "mtu 1450", "inet 10.1.2.3/24", "inet6 fd00::3/64"] {
        assert!(shown.contains(text), "{text} in {shown}");
    }
    assert!(!shown.contains("10.9.9.9"), "{shown}");
    let routes = ip(&format!("-n {namespace} route"));
    assert!(routes.contains("default via 10.1.2.1"), "{routes}");
    let features = Command::new("ip")
        .args(["netns", "exec", &namespace, "ethtool", "-k", &device])
        .output()
        .unwrap();
    let features = String::from_utf8_lossy(&features.stdout).into_owned();
    assert!(features.contains("tx-checksumming: off"), "{features}");

    links.remove(&device).await.unwrap();
    assert!(!ip("netns list").contains(&namespace));
}

#[tokio::test]
async fn a_namespace_that_was_there_before_stays() {
    let links = HostLinks::new(&prefix(), "unused");
    let device = device_name(&prefix(), "kept");
    let namespace = format!("{}-kept", prefix());
    ip(&format!("netns add {namespace}"));
    links.ensure_namespace_port(&device, &port(&namespace)).await.unwrap();
    links.remove(&device).await.unwrap();
    let list = ip("netns list");
    ip(&format!("netns del {namespace}"));
    assert!(list.contains(&namespace), "{list}");
}

#[tokio::test]
async fn the_responders_hear_every_service_address_and_reach_every_guest() {
    let namespace = format!("{}-resp", prefix());
    let links = HostLinks::new(&prefix(), &namespace);
    let device = links.ensure_responder_link().await.unwrap();
    assert_eq!(links.ensure_responder_link().await.unwrap(), device);
    let shown = ip(&format!("-n {namespace} link show dev {RESPONDER_DEVICE}"));
    assert!(shown.contains("NOARP") && shown.contains("0e:00:00:00:00:02"), "{shown}");
    let local = ip(&format!("-n {namespace} route get 198.18.7.9"));
    assert!(local.starts_with("local 198.18.7.9"), "{local}");
    let guest = ip(&format!("-n {namespace} route get 10.1.2.3"));
    assert!(guest.contains("via 192.0.2.1 dev resp0"), "{guest}");
    let local = ip(&format!("-n {namespace} -6 route get fd6d:6572:6964:1::107"));
    assert!(local.contains("local fd6d:6572:6964:1::107"), "{local}");
    let guest = ip(&format!("-n {namespace} -6 route get fd6d:6572:6964:2::a00:5"));
    assert!(guest.contains("via fe80::1 dev resp0"), "{guest}");
    links.remove(&device).await.unwrap();
    Namespace::remove(&namespace).unwrap();
}
