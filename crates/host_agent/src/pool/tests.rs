//! The directory pool, and its overlays read by QEMU itself.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use cloud_types::ServerId;
use host_protocol::{DiskSpec, ImageFormat};

use super::*;
use crate::test_support::server_spec;

struct World {
    folder: tempfile::TempDir,
    pool: DirectoryPool,
    server_id: String,
}

impl World {
    fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let pool = DirectoryPool::open(&folder.path().join("servers")).unwrap();
        World { folder, pool, server_id: ServerId::random().to_string() }
    }

    fn image(&self, bytes: &[u8], format: ImageFormat) -> CachedImage {
        let path = self.folder.path().join("image");
        std::fs::write(&path, bytes).unwrap();
        CachedImage { image_id: "image-1".to_owned(), sha256: "ab".to_owned(), format, path }
    }

    fn request(&self, disks: &[(&str, u64)], images: Vec<Option<CachedImage>>) -> DiskRequest {
        let mut spec = server_spec(&self.server_id);
        spec.disks = disks
            .iter()
            .map(|(name, size_mib)| DiskSpec {
                name: (*name).to_owned(),
                size_mib: *size_mib,
                image: None,
            })
            .collect();
        DiskRequest { spec, images, uid: nix::unistd::geteuid().as_raw() + 1_700_000_000 }
    }
}

#[tokio::test]
async fn disks_are_made_once_and_never_written_again() {
    let world = World::new();
    let image = world.image(&vec![7; 3 << 20], ImageFormat::Raw);
    let request = world.request(&[("root", 0), ("ephemeral0", 5)], vec![Some(image), None]);
    let disks = world.pool.ensure_disks(request.clone()).await.unwrap();
    assert_eq!(disks[0].size_bytes, 3 << 20);
    assert_eq!(disks[0].format, ImageFormat::Qcow2);
    assert_eq!(disks[1].size_bytes, 5 << 20);
    std::fs::write(&disks[1].path, b"the guest's").unwrap();
    let again = world.pool.ensure_disks(request).await.unwrap();
    assert_eq!(again, disks);
    assert_eq!(std::fs::read(&disks[1].path).unwrap(), b"the guest's");
    let mode = std::fs::metadata(&disks[1].path).unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    assert_eq!(
        world.pool.images_in_use().await.unwrap(),
        vec![("image-1".to_owned(), "ab".to_owned())]
    );
    let servers = world.pool.servers().await.unwrap();
    assert_eq!(servers.len(), 1);
    assert_eq!(servers[0].server_id, world.server_id);
}

#[tokio::test]
async fn a_disk_that_is_lost_is_not_replaced_by_an_empty_one() {
    let world = World::new();
    let request = world.request(&[("ephemeral0", 1)], vec![None]);
    let disks = world.pool.ensure_disks(request.clone()).await.unwrap();
    std::fs::remove_file(&disks[0].path).unwrap();
    let error = world.pool.ensure_disks(request).await.unwrap_err();
    assert!(error.to_string().contains("is gone"), "{error}");
}

#[tokio::test]
async fn a_disk_smaller_than_its_image_is_refused_with_both_numbers() {
    let world = World::new();
    let image = world.image(&vec![7; 3 << 20], ImageFormat::Raw);
    let request = world.request(&[("root", 2)], vec![Some(image)]);
    let error = world.pool.ensure_disks(request).await.unwrap_err();
    let PoolError::TooSmall(message) = error else {
        panic!("{error:?}");
    };
    assert!(message.contains("2 MiB") && message.contains("3 MiB"), "{message}");
}

#[tokio::test]
async fn an_image_that_is_not_what_it_says_is_refused() {
    let world = World::new();
    let image = world.image(&[0; 4096], ImageFormat::Qcow2);
    let request = world.request(&[("root", 0)], vec![Some(image)]);
    assert!(matches!(world.pool.ensure_disks(request).await, Err(PoolError::BadImage(_))));
}

#[tokio::test]
async fn removal_takes_everything_also_after_an_interruption() {
    let world = World::new();
    let request = world.request(&[("ephemeral0", 1)], vec![None]);
    world.pool.ensure_disks(request).await.unwrap();
    let servers = world.folder.path().join("servers");
    // As a kill between rename and removal leaves it.
    std::fs::rename(
        servers.join(&world.server_id),
        servers.join(format!(".removing-{}", world.server_id)),
    )
    .unwrap();
    assert!(world.pool.servers().await.unwrap().is_empty());
    world.pool.remove(&world.server_id).await.unwrap();
    world.pool.remove(&world.server_id).await.unwrap();
    assert_eq!(std::fs::read_dir(&servers).unwrap().count(), 0);
}

#[tokio::test]
async fn names_that_lead_elsewhere_are_refused() {
    let world = World::new();
    let request = world.request(&[("../x", 1)], vec![None]);
    assert!(world.pool.ensure_disks(request).await.is_err());
    assert!(world.pool.remove("../servers").await.is_err());
    assert!(Path::new(&world.folder.path().join("servers")).exists());
}

/// QEMU opens what we wrote, agrees about size and backing, and reads the image through it.
#[tokio::test]
async fn qemu_reads_the_image_through_the_overlay() {
    let world = World::new();
    let image = world.image(&vec![0x5a; 3 << 20], ImageFormat::Raw);
    let image_path = image.path.clone();
    let request = world.request(&[("root", 1 << 20)], vec![Some(image)]);
    let disks = world.pool.ensure_disks(request).await.unwrap();
    let overlay = disks[0].path.display();
    // The header alone, as `qemu-img` and operators see it: the format of what it stands on is
    // in it, so nothing is guessed.
    let script = format!(
        r#"{{"execute":"qmp_capabilities"}}
{{"execute":"blockdev-add","arguments":{{"driver":"qcow2","node-name":"d","file":{{"driver":"file","filename":"{overlay}"}}}}}}
{{"execute":"query-named-block-nodes","arguments":{{"flat":true}}}}
{{"execute":"human-monitor-command","arguments":{{"command-line":"qemu-io d \"read -P 0x5a 1M 1M\""}}}}
{{"execute":"human-monitor-command","arguments":{{"command-line":"qemu-io d \"read -P 0 512G 1M\""}}}}
{{"execute":"human-monitor-command","arguments":{{"command-line":"qemu-io d \"write -P 0x11 1M 64k\""}}}}
{{"execute":"human-monitor-command","arguments":{{"command-line":"qemu-io d \"read -P 0x11 1M 64k\""}}}}
{{"execute":"human-monitor-command","arguments":{{"command-line":"qemu-io d \"read -P 0x5a 2M 64k\""}}}}
{{"execute":"quit"}}
"#
    );
    let mut qemu = std::process::Command::new("/usr/bin/qemu-system-x86_64")
        .args(["-machine", "none", "-nodefaults", "-display", "none", "-S", "-qmp", "stdio"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut qemu.stdin.take().unwrap(), script.as_bytes()).unwrap();
    let output = qemu.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let said = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(!said.contains("\"error\""), "{said}");
    assert!(!said.contains("Pattern verification failed"), "{said}");
    assert!(!said.contains("failed"), "{said}");
    let nodes = text
        .lines()
        .find(|line| line.contains("virtual-size"))
        .expect("an answer to query-named-block-nodes");
    let nodes: serde_json::Value = serde_json::from_str(nodes).unwrap();
    let node =
        nodes["return"].as_array().unwrap().iter().find(|node| node["node-name"] == "d").unwrap();
    assert_eq!(node["image"]["virtual-size"], 1u64 << 40);
    assert_eq!(node["image"]["backing-filename"], image_path.to_str().unwrap());
    assert_eq!(node["image"]["backing-filename-format"], "raw");
    assert_eq!(std::fs::read(&image_path).unwrap(), vec![0x5a; 3 << 20]);
}
