//! The config drive: the metadata service's documents as a read-only ISO 9660 image labelled
//! `config-2`, for guests that read them before they have a network.

mod iso9660;

use cloud_types::Timestamp;
use host_protocol::{NetworkSpec, PortSpec, ServerSpec};
use rand::RngCore;

use crate::responders::metadata::model::{self, Guest, SEED_BYTES};

/// The label that guests look for.
pub const LABEL: &str = "config-2";

/// The whole image. `nics` are each NIC's port and network, in order.
pub fn build(server: &ServerSpec, nics: &[(&PortSpec, &NetworkSpec)]) -> Result<Vec<u8>, String> {
    let mut seed = [0; SEED_BYTES];
    rand::rng().fill_bytes(&mut seed);
    let files = model::config_drive(&Guest { server, nics }, &seed);
    iso9660::build(LABEL, Timestamp(server.metadata.created_at), files)
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
    }
}
