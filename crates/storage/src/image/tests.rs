//! Images through their service.

use std::collections::BTreeMap;

use cloud_types::{ImageId, Timestamp};

use super::model::{Image, ImageStatus, Visibility};

/// A queued image.
pub fn image() -> Image {
    Image {
        id: ImageId::random(),
        owner: "p1".parse().unwrap(),
        name: Some("old".into()),
        status: ImageStatus::Queued,
        visibility: Visibility::Shared,
        disk_format: None,
        container_format: None,
        size: None,
        virtual_size: None,
        checksum: None,
        sha512: None,
        sha256: None,
        min_disk: 0,
        min_ram: 0,
        protected: false,
        hidden: false,
        properties: BTreeMap::new(),
        tags: Vec::new(),
        created_at: Timestamp(0),
        updated_at: Timestamp(0),
        generation: 1,
    }
}
