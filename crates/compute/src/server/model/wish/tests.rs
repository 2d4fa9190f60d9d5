//! Bodies of `POST /servers`, by microversion.

use super::*;
use serde_json::json;

const IMAGE: &str = "11111111-2222-4333-8444-555555555555";
const NETWORK: &str = "99999999-2222-4333-8444-555555555555";

fn body(extra: Value) -> Value {
    let mut server =
        json!({"name": "a", "flavorRef": "1", "imageRef": IMAGE, "networks": [{"uuid": NETWORK}]});
    for (key, value) in extra.as_object().unwrap() {
        server[key] = value.clone();
    }
    json!({ "server": server })
}

fn read(minor: u16, extra: Value) -> Result<CreateRequest, Fault> {
    CreateRequest::read(body(extra), Microversion::new(2, minor))
}

#[test]
fn fields_come_and_go_with_microversions() {
    // field, value, first minor version that takes it, last one (0: still)
    let table = [
        ("description", json!("d"), 19, 0),
        ("tags", json!(["t"]), 52, 0),
        ("personality", json!([]), 1, 56),
        ("trusted_image_certificates", json!(null), 63, 0),
        ("host", json!("h"), 74, 0),
        ("hypervisor_hostname", json!("h"), 74, 0),
        ("hostname", json!("ab"), 90, 0),
        ("hostname", json!("a.b.example"), 94, 0),
        ("user_data", json!("YQ=="), 1, 0),
        ("config_drive", json!("true"), 1, 0),
    ];
    for (field, value, first, last) in table {
        let takes = |minor| read(minor, json!({field: value})).is_ok();
        assert!(takes(first), "{field} at {first}");
        assert!(first == 1 || !takes(first - 1), "{field} before {first}");
        let newest = if last == 0 { 96 } else { last };
        assert!(takes(newest), "{field} at {newest}");
        assert!(last == 0 || !takes(last + 1), "{field} after {last}");
    }
}

#[test]
fn networks_became_required_with_2_37() {
    let without = |minor| {
        let mut body = body(json!({}));
        body["server"].as_object_mut().unwrap().remove("networks");
        CreateRequest::read(body, Microversion::new(2, minor)).map(|wish| wish.networks)
    };
    assert_eq!(without(36).unwrap(), Networks::Auto { asked: false });
    assert!(without(37).is_err());
    let word = |minor, word: &str| read(minor, json!({"networks": word})).map(|w| w.networks);
    assert_eq!(word(37, "auto").unwrap(), Networks::Auto { asked: true });
    assert_eq!(word(37, "none").unwrap(), Networks::None);
    assert!(word(37, "all").is_err() && word(36, "auto").is_err());
}

#[test]
fn device_tags_were_forgotten_from_2_37_to_2_41() {
    let tagged = |minor| read(minor, json!({"networks": [{"uuid": NETWORK, "tag": "t"}]})).is_ok();
    let taken: Vec<u16> = (30..=44).filter(|minor| tagged(*minor)).collect();
    assert_eq!(taken, [32, 33, 34, 35, 36, 42, 43, 44]);
}

#[test]
fn a_port_excludes_an_address_and_is_named_once() {
    let port = "77777777-2222-4333-8444-555555555555";
    assert!(read(96, json!({"networks": [{"port": port}]})).is_ok());
    for bad in [
        json!([{"port": port, "fixed_ip": "10.0.0.4"}]),
        json!([{"port": port}, {"port": port}]),
        json!([{}]),
        json!([{"uuid": "x"}]),
        json!([{"uuid": NETWORK, "colour": 1}]),
    ] {
        assert!(read(96, json!({"networks": bad})).is_err(), "{bad}");
    }
}

#[test]
fn the_only_block_device_is_the_image_itself() {
    let device = |extra: Value| {
        let mut device = json!({
            "source_type": "image", "destination_type": "local", "boot_index": 0, "uuid": IMAGE,
        });
        for (key, value) in extra.as_object().unwrap() {
            device[key] = value.clone();
        }
        read(96, json!({"block_device_mapping_v2": [device]}))
    };
    assert!(device(json!({"delete_on_termination": true, "tag": "root"})).is_ok());
    for bad in [
        json!({"destination_type": "volume"}),
        json!({"source_type": "volume"}),
        json!({"boot_index": 1}),
        json!({"uuid": NETWORK}),
        json!({"volume_size": 10}),
        json!({"volume_type": "ssd"}),
    ] {
        let refusal = device(bad.clone()).unwrap_err();
        assert_eq!(refusal.status(), 400, "{bad}");
    }
    assert!(read(96, json!({"block_device_mapping": [{"volume_id": IMAGE}]})).is_err());
}

#[test]
fn counts_zones_and_hosts_are_checked_against_each_other() {
    assert_eq!(read(96, json!({"min_count": "2"})).unwrap().max_count, 2);
    assert!(read(96, json!({"min_count": 3, "max_count": 2})).is_err());
    assert!(read(96, json!({"max_count": 2, "hostname": "one"})).is_err());
    let wish = read(96, json!({"availability_zone": "z:h"})).unwrap();
    assert_eq!((wish.zone.as_deref(), wish.host.as_deref()), (Some("z"), Some("h")));
    assert!(read(96, json!({"availability_zone": "z:h", "host": "h"})).is_err());
    assert!(read(96, json!({"availability_zone": "z:h:other"})).is_err());
    assert!(read(96, json!({"trusted_image_certificates": [IMAGE]})).is_err());
}

#[test]
fn a_server_without_an_image_is_refused() {
    let mut body = body(json!({}));
    body["server"]["imageRef"] = json!("");
    let refusal = CreateRequest::read(body, Microversion::new(2, 96)).unwrap_err();
    assert!(refusal.message.contains("imageRef"), "{}", refusal.message);
}

#[test]
fn user_data_must_be_base64_and_never_comes_back_in_a_refusal() {
    let refusal = read(96, json!({"user_data": "secret!"})).unwrap_err();
    assert!(!refusal.message.contains("secret"), "{}", refusal.message);
}

#[test]
fn scheduler_hints_stand_beside_the_server() {
    let mut body = body(json!({}));
    body["os:scheduler_hints"] = json!({"group": IMAGE});
    let wish = CreateRequest::read(body.clone(), Microversion::new(2, 96)).unwrap();
    assert_eq!(wish.scheduler_hints["group"], IMAGE);
    body["colour"] = json!(1);
    assert!(CreateRequest::read(body, Microversion::new(2, 96)).is_err());
}

#[test]
fn an_image_must_fit_its_flavor() {
    use super::super::{FlavorSnapshot, ImageSnapshot};
    use host_protocol::ImageFormat;
    let flavor = FlavorSnapshot { memory_mib: 512, disk_gib: 1, ..FlavorSnapshot::default() };
    let image = |min_disk_gib, min_ram_mib, virtual_size| ImageFacts {
        snapshot: ImageSnapshot {
            id: ImageId::random(),
            format: ImageFormat::Qcow2,
            size_bytes: 10,
            sha256: String::new(),
            virtual_size: Some(virtual_size),
            architecture: None,
        },
        active: true,
        min_disk_gib,
        min_ram_mib,
    };
    assert!(check_image(&flavor, &image(1, 512, 1 << 30)).is_ok());
    for bad in [image(2, 0, 0), image(0, 513, 0), image(0, 0, (1 << 30) + 1)] {
        assert_eq!(check_image(&flavor, &bad).unwrap_err().status(), 400);
    }
    let inactive = ImageFacts { active: false, ..image(0, 0, 0) };
    assert!(check_image(&flavor, &inactive).is_err());
}
