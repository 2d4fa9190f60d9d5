//! The agent over real QEMU, disks and images; devices and switch are simulated. Guests are boot
//! sectors.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cloud_types::ServerId;
use futures::StreamExt;
use futures::stream::BoxStream;
use host_protocol::*;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::config::Accelerator;
use crate::image_cache::{ImageCache, ImageError, ImageFetcher};
use crate::pool::DirectoryPool;
use crate::qemu::{Qemu, QemuConfig};
use crate::simulated::SimulatedMachine;
use crate::test_support::server_spec;

/// Generous: many tests share two cores.
const DEADLINE: Duration = Duration::from_secs(120);
const UID_BASE: u32 = 1_700_000_000;

/// Prints `M`, then halts.
const HALT: &[u8] = &[0xba, 0xf8, 0x03, 0xb0, b'M', 0xee, 0xf4, 0xeb, 0xfd];

struct Shelf(Vec<u8>);

impl ImageFetcher for Shelf {
    fn fetch<'a>(
        &'a self,
        _image_id: &'a str,
        offset: u64,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<Bytes, String>>, ImageError>> {
        let rest = self.0[usize::try_from(offset).unwrap()..].to_vec();
        Box::pin(async move { Ok(futures::stream::iter([Ok(Bytes::from(rest))]).boxed()) })
    }
}

struct World {
    folder: tempfile::TempDir,
    machine: SimulatedMachine,
    image: Vec<u8>,
    spec: ServerSpec,
    uid_base: u32,
}

struct Running {
    agent: Agent,
    shutdown: CancellationToken,
    store: DocumentStore,
}

impl World {
    fn new(number: u32) -> World {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        let mut image = HALT.to_vec();
        image.resize(510, 0);
        image.extend([0x55, 0xaa]);
        image.resize(1 << 20, 0);
        let mut spec = server_spec(&ServerId::random().to_string());
        spec.config_drive = true;
        spec.disks = vec![DiskSpec {
            name: "root".to_owned(),
            size_mib: 2,
            image: Some(ImageSource {
                image_id: ServerId::random().to_string(),
                format: ImageFormat::Raw,
                size_bytes: image.len() as u64,
                sha256: Sha256::digest(&image).iter().map(|byte| format!("{byte:02x}")).collect(),
            }),
        }];
        // Users of this test alone, so that a search for its processes finds no others.
        let uid_base = UID_BASE + (std::process::id() % 1000) * 100 + number * 10;
        World { folder, machine: SimulatedMachine::default(), image, spec, uid_base }
    }

    fn servers(&self) -> PathBuf {
        self.folder.path().join("servers")
    }

    async fn start_agent(&self) -> Running {
        let qemu = Qemu::new(QemuConfig {
            binary: PathBuf::from("/usr/bin/qemu-system-x86_64"),
            accelerator: Accelerator::Tcg,
            servers: self.servers(),
            uids: self.uid_base..self.uid_base + 10,
            cgroup_owner: "meridian-test".to_owned(),
        });
        let shelf = Arc::new(Shelf(self.image.clone()));
        let images = ImageCache::open(&self.folder.path().join("images"), shelf).unwrap();
        let edges = Edges {
            hypervisor: Arc::new(qemu),
            pool: Arc::new(DirectoryPool::open(&self.servers()).unwrap()),
            images: Arc::new(images),
            ..self.machine.edges()
        };
        let store = DocumentStore::open(&self.folder.path().join("agent.db")).unwrap();
        let shutdown = CancellationToken::new();
        let config = AgentConfig {
            device_prefix: "t".to_owned(),
            underlay: None,
            responders: false,
            uid_base: self.uid_base,
            reserved_memory_mib: 0,
            host_ip: None,
            underlay_ageing: None,
            machine: None,
        };
        let agent = Agent::start(config, edges, store.clone(), shutdown.clone()).await.unwrap();
        Running { agent, shutdown, store }
    }

    /// Live processes of this world's guests.
    fn processes(&self) -> BTreeSet<u32> {
        crate::qemu::process::find_by_user(self.uid_base..self.uid_base + 10)
            .unwrap()
            .into_iter()
            .map(|found| found.pid)
            .collect()
    }

    fn file(&self, path: &str) -> PathBuf {
        self.servers().join(&self.spec.server_id).join(path)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for pid in self.processes() {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
    }
}

impl Running {
    /// As a document that arrives.
    async fn wants(&self, spec: &ServerSpec, generation: u64, tombstone: bool) {
        let document = Document {
            kind: DocumentKind::Server,
            id: spec.server_id.clone(),
            generation,
            epoch: 1,
            position: generation,
            tombstone,
            request_id: String::new(),
            spec: serde_json::to_value(spec).unwrap(),
        };
        self.store.store(vec![document.clone()], false).await.unwrap();
        Ear(Arc::clone(&self.agent.shared)).documents(vec![document]);
    }

    async fn until_reported(&self, spec: &ServerSpec, state: ReportState) -> Report {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let kind = DocumentKind::Server;
            let last = self.store.last_report(kind, &spec.server_id).await.unwrap();
            match last {
                Some(report) if report.state == state => return report,
                other => assert!(Instant::now() < deadline, "{other:?}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.agent.ended().await;
    }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn holds(path: &Path, text: &str) -> bool {
    std::fs::read_to_string(path).is_ok_and(|content| content.contains(text))
}

#[tokio::test]
async fn a_server_boots_from_its_image_and_leaves_nothing() {
    let world = World::new(1);
    let running = world.start_agent().await;
    running.wants(&world.spec, 1, false).await;
    let report = running.until_reported(&world.spec, ReportState::Done).await;
    let facts: ServerFacts = serde_json::from_value(report.facts).unwrap();
    let source = world.spec.disks[0].image.clone().unwrap();
    assert_eq!(facts.image_checksum, Some(source.sha256));
    let stages: Vec<&str> = facts.stages.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        stages,
        ["queued", "image", "disks", "ports", "config_drive", "record", "exec", "monitor"]
    );
    // It runs what is in the image.
    until("boot", || holds(&world.file("run/console.log"), "M")).await;
    assert!(holds(&world.file("disks.json"), &source.image_id));
    assert!(world.file("config.iso").exists());
    if nix::unistd::geteuid().is_root() {
        assert_eq!(world.processes().len(), 1);
    }
    running.wants(&world.spec, 2, true).await;
    running.until_reported(&world.spec, ReportState::Gone).await;
    assert_eq!(std::fs::read_dir(world.servers()).unwrap().count(), 0);
    assert!(world.processes().is_empty());
    running.stop().await;
}

#[tokio::test]
async fn an_agent_that_stops_at_any_instant_leaves_one_guest_at_most() {
    if !nix::unistd::geteuid().is_root() {
        // Guests are told apart by their users.
        return;
    }
    let world = World::new(2);
    let mut generation = 0;
    for delay in [0, 3, 6, 10, 15, 25, 40, 80] {
        // The order of the tests' threads varies the instants further.
        let running = world.start_agent().await;
        generation += 1;
        running.wants(&world.spec, generation, false).await;
        tokio::time::sleep(Duration::from_millis(delay)).await;
        running.stop().await;

        let running = world.start_agent().await;
        running.until_reported(&world.spec, ReportState::Done).await;
        assert_eq!(world.processes().len(), 1, "stopped after {delay} ms");
        generation += 1;
        running.wants(&world.spec, generation, true).await;
        running.until_reported(&world.spec, ReportState::Gone).await;
        assert!(world.processes().is_empty(), "stopped after {delay} ms");
        let id = &world.spec.server_id;
        running.store.bury(DocumentKind::Server, id, generation).await.unwrap();
        running.stop().await;
    }
}

#[tokio::test]
async fn qemu_that_dies_at_once_is_a_failure_with_its_words() {
    let mut world = World::new(3);
    world.spec.memory_mib = 1 << 40;
    let running = world.start_agent().await;
    running.wants(&world.spec, 1, false).await;
    let report = running.until_reported(&world.spec, ReportState::Failed).await;
    let error = report.error.unwrap();
    assert_eq!(error.code, "qemu_exited");
    assert!(error.message.contains("exit status 1"), "{}", error.message);
    assert!(error.message.contains("Cannot allocate memory"), "{}", error.message);
    running.stop().await;
}

/// A file system of its own for a folder of the host, too small for what is to come.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn over(folder: PathBuf) -> SmallDisk {
        std::fs::create_dir_all(&folder).unwrap();
        let (none, flags) = (None::<&str>, nix::mount::MsFlags::empty());
        nix::mount::mount(none, &folder, Some("tmpfs"), flags, Some("size=64k,mode=0711")).unwrap();
        SmallDisk(folder)
    }

    fn grow(&self) {
        let (none, flags) = (None::<&str>, nix::mount::MsFlags::MS_REMOUNT);
        nix::mount::mount(none, &self.0, none, flags, Some("size=64m")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}

/// No space for the disks, and none for the image: each is said, and made up for once there is
/// some.
#[tokio::test]
async fn a_full_disk_is_said_and_made_up_for() {
    if !nix::unistd::geteuid().is_root() {
        // It takes a file system.
        return;
    }
    for (number, folder) in [(4, "servers"), (5, "images")] {
        let world = World::new(number);
        let disk = SmallDisk::over(world.folder.path().join(folder));
        let running = world.start_agent().await;
        running.wants(&world.spec, 1, false).await;
        let report = running.until_reported(&world.spec, ReportState::Failed).await;
        let error = report.error.unwrap();
        assert_eq!(error.code, "disk_full", "{folder}: {}", error.message);
        assert!(error.message.contains("no space"), "{folder}: {}", error.message);
        assert!(error.retrying, "{folder}");
        disk.grow();
        running.until_reported(&world.spec, ReportState::Done).await;
        until("boot", || holds(&world.file("run/console.log"), "M")).await;
        running.wants(&world.spec, 2, true).await;
        running.until_reported(&world.spec, ReportState::Gone).await;
        assert_eq!(std::fs::read_dir(world.servers()).unwrap().count(), 0, "{folder}");
        running.stop().await;
        drop(disk);
    }
}
