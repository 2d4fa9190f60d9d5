//! Which path holds what, in OpenStack's layout and in EC2's.

use std::borrow::Cow;

use super::model::{self, Guest, SEED_BYTES, VERSIONS};

/// EC2's versions that guests ask for.
const EC2_VERSIONS: &[&str] = &[
    "1.0",
    "2007-01-19",
    "2007-03-01",
    "2007-08-29",
    "2007-10-10",
    "2007-12-15",
    "2008-02-01",
    "2008-09-01",
    "2009-04-04",
    "latest",
];

/// A document with its media type.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub media_type: &'static str,
    pub body: Vec<u8>,
}

fn text(body: impl Into<String>) -> Option<Page> {
    Some(Page { media_type: "text/plain; charset=UTF-8", body: body.into().into_bytes() })
}

fn json(value: &serde_json::Value) -> Option<Page> {
    Some(Page { media_type: "application/json", body: value.to_string().into_bytes() })
}

fn bytes(body: Vec<u8>) -> Option<Page> {
    Some(Page { media_type: "application/octet-stream", body })
}

fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<Page> {
    text(names.into_iter().collect::<Vec<_>>().join("\n"))
}

/// What stands at a path; `None` when nothing does. `random` fills a buffer.
pub(crate) fn page(guest: &Guest<'_>, path: &str, random: impl Fn(&mut [u8])) -> Option<Page> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    match parts[..] {
        [] => list(EC2_VERSIONS.iter().copied()),
        ["openstack"] => list(VERSIONS.iter().copied()),
        ["openstack", "content", number] => {
            bytes(model::content(guest.server, number.parse().ok()?)?)
        }
        ["openstack", version, ref rest @ ..] if VERSIONS.contains(&version) => {
            openstack(guest, rest, random)
        }
        [version, ref rest @ ..] if EC2_VERSIONS.contains(&version) => ec2(guest, rest),
        _ => None,
    }
}

fn openstack(guest: &Guest<'_>, rest: &[&str], random: impl Fn(&mut [u8])) -> Option<Page> {
    match rest {
        [] => {
            let mut names = vec![
                "meta_data.json",
                "network_data.json",
                "vendor_data.json",
                "vendor_data2.json",
            ];
            if guest.server.metadata.user_data.is_some() {
                names.push("user_data");
            }
            list(names)
        }
        ["meta_data.json"] => {
            let mut seed = [0; SEED_BYTES];
            random(&mut seed);
            json(&model::meta_data(guest, &seed))
        }
        ["network_data.json"] => json(&model::network_data(guest)),
        ["vendor_data.json" | "vendor_data2.json"] => json(&serde_json::json!({})),
        ["user_data"] => bytes(model::user_data(guest.server)?),
        _ => None,
    }
}

fn ec2(guest: &Guest<'_>, rest: &[&str]) -> Option<Page> {
    match rest {
        [] if guest.server.metadata.user_data.is_some() => list(["meta-data/", "user-data"]),
        [] => list(["meta-data/"]),
        ["user-data"] => bytes(model::user_data(guest.server)?),
        ["meta-data", rest @ ..] => ec2_meta_data(guest, rest),
        _ => None,
    }
}

fn ec2_meta_data(guest: &Guest<'_>, rest: &[&str]) -> Option<Page> {
    let metadata = &guest.server.metadata;
    let keys = &metadata.public_keys;
    match rest {
        [] => list(
            [
                "ami-id",
                "ami-launch-index",
                "ami-manifest-path",
                "block-device-mapping/",
                "hostname",
                "instance-action",
                "instance-id",
                "instance-type",
                "local-hostname",
                "local-ipv4",
                "placement/",
                "public-hostname",
                "public-ipv4",
            ]
            .into_iter()
            .chain((!keys.is_empty()).then_some("public-keys/"))
            .chain(["reservation-id", "security-groups"]),
        ),
        ["ami-id"] => {
            let image = guest.server.disks.first().and_then(|disk| disk.image.as_ref());
            text(ec2_id("ami", image.map_or("", |image| &image.image_id)))
        }
        ["ami-launch-index"] => text(metadata.launch_index.to_string()),
        ["ami-manifest-path"] => text(""),
        ["block-device-mapping"] => list(["ami", "root"]),
        ["block-device-mapping", "ami"] => text("vda"),
        ["block-device-mapping", "root"] => text("/dev/vda"),
        ["hostname" | "local-hostname" | "public-hostname"] => text(guest.qualified_name()),
        ["instance-action"] => text("none"),
        ["instance-id"] => text(ec2_id("i", &guest.server.server_id)),
        ["instance-type"] => text(metadata.flavor.as_str()),
        ["local-ipv4"] => text(guest.ipv4().map(|ip| ip.to_string()).unwrap_or_default()),
        ["placement"] => list(["availability-zone"]),
        ["placement", "availability-zone"] => text(metadata.availability_zone.as_str()),
        ["public-ipv4"] => text(""),
        ["public-keys"] if !keys.is_empty() => {
            let names: Vec<Cow<'_, str>> =
                keys.iter().enumerate().map(|(i, (n, _))| format!("{i}={n}").into()).collect();
            list(names.iter().map(AsRef::as_ref))
        }
        ["public-keys", number] => {
            keys.get(number.parse::<usize>().ok()?)?;
            list(["openssh-key"])
        }
        ["public-keys", number, "openssh-key"] => {
            text(keys.get(number.parse::<usize>().ok()?)?.1.as_str())
        }
        ["reservation-id"] => text(ec2_id("r", &guest.server.server_id)),
        ["security-groups"] => list(metadata.security_groups.iter().map(String::as_str)),
        _ => None,
    }
}

/// EC2's form of an identifier, from the beginning of ours.
fn ec2_id(kind: &str, id: &str) -> String {
    let digits: String = id.chars().filter(char::is_ascii_hexdigit).take(8).collect();
    format!("{kind}-{digits:0>8}")
}
