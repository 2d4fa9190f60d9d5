//! Block devices, as far as a cloud without volumes takes them.

use cloud_types::{Fault, ImageId};
use serde_json::Value;
use service_kit::Microversion;

use super::tags::read_tag;
use crate::wire::{Fields, NAME_CHARS, invalid};

/// Block devices: the one shape that says what a server without volumes says anyway, an image on
/// a local disk that it boots from.
pub(super) fn read_block_devices(
    server: &mut Fields,
    image: Option<ImageId>,
    version: Microversion,
) -> Result<Option<ImageId>, Fault> {
    const VOLUMES: &str = "This cloud has no volumes yet, so a server has one disk, made from its \
                           image: a block device is source_type image, destination_type local and \
                           boot_index 0.";
    if server.list("block_device_mapping")?.is_some_and(|list| !list.is_empty()) {
        return Err(Fault::bad_request(VOLUMES));
    }
    let Some(devices) = server.objects("block_device_mapping_v2")? else { return Ok(image) };
    if devices.len() > 1 {
        return Err(Fault::bad_request(VOLUMES));
    }
    let mut found = image;
    for mut device in devices {
        let source = device.word("source_type", &["volume", "image", "snapshot", "blank"])?;
        let destination = device.word("destination_type", &["local", "volume"])?;
        let uuid = device.text("uuid", 1, NAME_CHARS)?;
        let image_id = device.uuid("image_id")?;
        let boot_index = match device.take("boot_index") {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => text.parse::<i64>().ok(),
            Some(other) => other.as_i64(),
        };
        for ignored in
            ["guest_format", "device_type", "disk_bus", "device_name", "delete_on_termination"]
        {
            device.take(ignored);
        }
        if version.at_least(2, 42) || version == Microversion::new(2, 32) {
            read_tag(&mut device)?;
        }
        for volume in [
            "volume_id",
            "snapshot_id",
            "volume_size",
            "virtual_name",
            "no_device",
            "connection_info",
        ] {
            if device.take(volume).is_some() {
                return Err(Fault::bad_request(VOLUMES));
            }
        }
        if version.at_least(2, 67)
            && device.take("volume_type").is_some_and(|value| !value.is_null())
        {
            return Err(Fault::bad_request(VOLUMES));
        }
        device.finish()?;
        let local = source.as_deref() == Some("image")
            && destination.as_deref() == Some("local")
            && boot_index == Some(0);
        if !local {
            return Err(Fault::bad_request(VOLUMES));
        }
        let named = match uuid {
            Some(text) => Some(text.parse::<ImageId>().map_err(|_| {
                invalid(
                    "block_device_mapping_v2[0].uuid",
                    &Value::String(text),
                    "it is not a 'uuid'",
                )
            })?),
            None => image_id.map(ImageId::from),
        };
        match (found, named) {
            (_, None) => return Err(Fault::bad_request(VOLUMES)),
            (Some(image), Some(named)) if image != named => {
                return Err(Fault::bad_request(
                    "imageRef and the block device with boot_index 0 name different images.",
                ));
            }
            (_, Some(named)) => found = Some(named),
        }
    }
    Ok(found)
}
