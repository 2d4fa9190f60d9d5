//! The document that tells a host what a server is.

use host_protocol::{DiskSpec, ImageSource, NicSpec, ServerMetadata, ServerSpec};

use super::{Payload, Server};

/// Puts the document together from the record. Pure, so that the same record always gives the
/// same document, and writing it again changes nothing.
pub fn server_spec(server: &Server, payload: &Payload) -> ServerSpec {
    let fixed = &server.fixed;
    let flavor = &fixed.flavor;
    let mut disks = vec![DiskSpec {
        name: "root".to_owned(),
        size_mib: flavor.disk_gib.saturating_mul(1024),
        image: fixed.image.as_ref().map(|image| ImageSource {
            image_id: image.id.to_string(),
            format: image.format,
            size_bytes: image.size_bytes,
            sha256: image.sha256.clone(),
        }),
    }];
    if flavor.ephemeral_gib > 0 {
        disks.push(DiskSpec {
            name: "ephemeral0".to_owned(),
            size_mib: flavor.ephemeral_gib.saturating_mul(1024),
            image: None,
        });
    }
    if flavor.swap_mib > 0 {
        disks.push(DiskSpec { name: "swap".to_owned(), size_mib: flavor.swap_mib, image: None });
    }
    ServerSpec {
        server_id: server.id.to_string(),
        project_id: server.project.to_string(),
        name: server.name.clone(),
        power: server.desired,
        vcpus: flavor.vcpus,
        memory_mib: flavor.memory_mib,
        disks,
        nics: fixed
            .nics
            .iter()
            .map(|nic| NicSpec { port_id: nic.port_id.to_string(), mac: nic.mac, mtu: nic.mtu })
            .collect(),
        config_drive: server.config_drive,
        metadata: ServerMetadata {
            hostname: server.hostname.clone(),
            availability_zone: server.zone.clone(),
            public_keys: fixed
                .key
                .iter()
                .map(|key| (key.name.clone(), key.public_key.clone()))
                .collect(),
            meta: server.metadata.clone(),
            user_data: payload.user_data.clone(),
            flavor: flavor.name.clone(),
            launch_index: server.launch_index,
            personality: payload.personality.clone(),
            security_groups: server.security_groups.clone(),
            created_at: server.created_at.0,
        },
    }
}
