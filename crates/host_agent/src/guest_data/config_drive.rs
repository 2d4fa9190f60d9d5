//! The config drive: the metadata tree as a read-only ISO 9660 image labelled `config-2`, for
//! guests that read it before they have a network.

use host_protocol::ServerSpec;
use serde_json::{Map, Value, json};

use super::{
    Nic, OPENSTACK_VERSIONS, content_files, created_at, ec2_meta_data, iso9660, openstack_files,
    user_data,
};

/// The label that guests look for.
pub const LABEL: &str = "config-2";

/// The whole image.
pub fn build(server: &ServerSpec, nics: &[Nic<'_>]) -> Result<Vec<u8>, String> {
    let mut files = Vec::new();
    let tree = openstack_files(server, nics);
    for version in OPENSTACK_VERSIONS.iter().copied().chain(["latest"]) {
        for (path, contents) in &tree {
            files.push((format!("openstack/{version}/{path}"), contents.clone()));
        }
    }
    for (path, contents) in content_files(server) {
        files.push((format!("openstack/{path}"), contents));
    }
    let ec2 = ec2_json(server, nics).to_string().into_bytes();
    files.push(("ec2/latest/meta-data.json".to_owned(), ec2));
    if let Some(data) = user_data(server) {
        files.push(("ec2/latest/user-data".to_owned(), data));
    }
    iso9660::build(LABEL, created_at(server), files)
}

/// EC2's tree as one object, as guests expect it on a config drive.
fn ec2_json(server: &ServerSpec, nics: &[Nic<'_>]) -> Value {
    let mut root = Map::new();
    for (path, text) in ec2_meta_data(server, nics) {
        if path.ends_with('/') {
            continue;
        }
        let mut object = &mut root;
        let mut parts: Vec<&str> = path.split('/').collect();
        let leaf = parts.pop().unwrap_or_default();
        for part in parts {
            let entry = object.entry(part.to_owned()).or_insert_with(|| json!({}));
            if !entry.is_object() {
                *entry = json!({});
            }
            match entry.as_object_mut() {
                Some(next) => object = next,
                None => return Value::Object(root),
            }
        }
        object.insert(leaf.to_owned(), json!(text));
    }
    Value::Object(root)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::server_spec;

    #[test]
    fn the_drive_is_labelled_and_small() {
        let server = server_spec("6f1c2d3e-4b5a-6978-8796-a5b4c3d2e1f0");
        let image = build(&server, &[]).unwrap();
        assert_eq!(&image[16 * 2048 + 40..16 * 2048 + 48], b"config-2");
        assert!(image.len() < 200 * 1024, "{}", image.len());
        assert_eq!(image, build(&server, &[]).unwrap(), "the same every time");
    }

    #[test]
    fn ec2_keys_nest() {
        let mut server = server_spec("6f1c2d3e-4b5a-6978-8796-a5b4c3d2e1f0");
        server.metadata.public_keys = vec![("k".to_owned(), "ssh-ed25519 A".to_owned())];
        let value = ec2_json(&server, &[]);
        assert_eq!(value["placement"]["availability-zone"], "zone");
        assert_eq!(value["public-keys"]["0"]["openssh-key"], "ssh-ed25519 A\n");
    }
}
