//! Specs that tests begin with.

use std::collections::BTreeMap;

use host_protocol::{DesiredPower, ServerMetadata, ServerSpec};

/// A server with nothing in it that wants to run.
pub(crate) fn server_spec(server_id: &str) -> ServerSpec {
    ServerSpec {
        server_id: server_id.to_owned(),
        project_id: "project".to_owned(),
        name: "name".to_owned(),
        power: DesiredPower::Running,
        vcpus: 1,
        memory_mib: 32,
        disks: Vec::new(),
        nics: Vec::new(),
        config_drive: false,
        metadata: ServerMetadata {
            hostname: "host".to_owned(),
            availability_zone: "zone".to_owned(),
            public_keys: Vec::new(),
            meta: BTreeMap::new(),
            user_data: None,
            flavor: "small".to_owned(),
            launch_index: 0,
            personality: Vec::new(),
            security_groups: Vec::new(),
            created_at: 0,
        },
    }
}
