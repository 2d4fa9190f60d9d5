//! Whether an image can boot a server of a flavor.

use cloud_types::Fault;
use host_protocol::ImageFormat;

use super::super::{FlavorSnapshot, ImageSnapshot};

/// What the image service says of an image that a server is to start from.
#[derive(Clone, Debug)]
pub struct ImageFacts {
    /// The image, once it is known to fit.
    pub snapshot: ImageSnapshot,
    /// Whether it can be used.
    pub active: bool,
    /// The smallest root disk, in GiB.
    pub min_disk_gib: u64,
    /// The smallest memory, in MiB.
    pub min_ram_mib: u64,
}

/// Whether the image can boot a server of this flavor.
///
/// # Errors
/// 400 with both numbers.
pub fn check_image(flavor: &FlavorSnapshot, image: &ImageFacts) -> Result<(), Fault> {
    let id = image.snapshot.id;
    if !image.active {
        return Err(Fault::bad_request(format!("Image {id} is not active.")));
    }
    if flavor.memory_mib < image.min_ram_mib {
        return Err(Fault::bad_request(format!(
            "Flavor's memory is too small for requested image: it has {} MiB, the image needs {} MiB.",
            flavor.memory_mib, image.min_ram_mib
        )));
    }
    if flavor.disk_gib == 0 {
        return Ok(());
    }
    let disk = flavor.disk_gib.saturating_mul(1 << 30);
    let minimum = image.min_disk_gib.saturating_mul(1 << 30);
    let size = match image.snapshot.format {
        ImageFormat::Raw => image.snapshot.size_bytes,
        ImageFormat::Qcow2 => image.snapshot.virtual_size.unwrap_or(0),
    };
    let needed = minimum.max(size);
    if disk < needed {
        return Err(Fault::bad_request(format!(
            "Flavor's disk is too small for requested image. Flavor disk is {disk} bytes, minimum \
             size is {needed} bytes."
        )));
    }
    Ok(())
}
