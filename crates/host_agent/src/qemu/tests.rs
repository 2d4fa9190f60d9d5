//! The adapter with a real QEMU. Guests are boot sectors, so that a test takes about a second.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cloud_types::ServerId;
use host_protocol::{ImageFormat, PowerState};
use tokio::sync::mpsc::UnboundedReceiver;

use super::*;
use crate::hypervisor::GuestChange;
use crate::pool::DiskFile;
use crate::test_support::server_spec;

/// Generous: many tests share two cores.
const DEADLINE: Duration = Duration::from_secs(60);

/// Prints `M` on the serial port, then halts.
const HALT: &[u8] = &[0xba, 0xf8, 0x03, 0xb0, b'M', 0xee, 0xf4, 0xeb, 0xfd];
/// Prints `M`, then switches the machine off by ACPI (PM1a control of q35).
const POWER_OFF: &[u8] = &[
    0xba, 0xf8, 0x03, 0xb0, b'M', 0xee, 0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef, 0xf4, 0xeb, 0xfd,
];

struct World {
    folder: tempfile::TempDir,
    server_id: String,
    disk: PathBuf,
    uid: u32,
}

impl World {
    fn new(program: &[u8]) -> World {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        // The guest's user passes through, and reads nothing.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        let server_id = ServerId::random().to_string();
        let uid = 1_800_000_000 + std::process::id() % 60_000;
        let directory = folder.path().join(&server_id);
        std::fs::create_dir(&directory).unwrap();
        let disk = directory.join("root.raw");
        let mut sector = program.to_vec();
        sector.resize(510, 0);
        sector.extend([0x55, 0xaa]);
        sector.resize(1 << 20, 0);
        std::fs::write(&disk, sector).unwrap();
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(&disk, Some(uid), Some(uid)).unwrap();
        }
        World { folder, server_id, disk, uid }
    }

    fn adapter(&self) -> (Qemu, UnboundedReceiver<GuestEvent>) {
        let qemu = Qemu::new(QemuConfig {
            binary: PathBuf::from("/usr/bin/qemu-system-x86_64"),
            accelerator: Accelerator::Tcg,
            servers: self.folder.path().to_owned(),
            uids: 1_800_000_000..1_800_060_000,
            cgroup_owner: "meridian-test".to_owned(),
        });
        let events = qemu.events().unwrap();
        (qemu, events)
    }

    fn request(&self, incarnation: u64) -> StartRequest {
        StartRequest {
            spec: server_spec(&self.server_id),
            incarnation,
            disks: vec![DiskFile {
                name: "root".to_owned(),
                path: self.disk.clone(),
                format: ImageFormat::Raw,
                size_bytes: 1 << 20,
                backing: None,
            }],
            config_drive: None,
            nics: Vec::new(),
            uid: self.uid,
        }
    }

    async fn console_has(&self, qemu: &Qemu, text: &str) {
        let deadline = Instant::now() + DEADLINE;
        while !qemu.console_log(&self.server_id, None).await.unwrap().contains(text) {
            assert!(Instant::now() < deadline, "the guest printed nothing");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A test that fails leaves no guest behind.
impl Drop for World {
    fn drop(&mut self) {
        let files = RunFiles::of(&self.folder.path().join(&self.server_id));
        if let Some(record) = files.read_record()
            && let Ok(Some(process)) = Process::adopt(record.pid, record.start_time)
        {
            let _ = process.kill();
        }
    }
}

async fn wait_for(events: &mut UnboundedReceiver<GuestEvent>, wanted: &GuestChange) {
    let found = async {
        loop {
            if &events.recv().await.unwrap().what == wanted {
                return;
            }
        }
    };
    tokio::time::timeout(DEADLINE, found).await.unwrap();
}

#[tokio::test]
async fn a_guest_outlives_its_agent_and_is_taken_over() {
    let world = World::new(HALT);
    let (first, first_events) = world.adapter();
    let started = first.start(world.request(4)).await.unwrap();
    assert_eq!(started.seen.power, PowerState::Running);
    assert!(matches!(first.start(world.request(5)).await, Err(HypervisorError::AlreadyRunning)));
    world.console_has(&first, "M").await;
    drop(first_events);
    drop(first);

    let (second, mut events) = world.adapter();
    // Not adopted yet, and still not started twice.
    assert!(matches!(second.start(world.request(5)).await, Err(HypervisorError::AlreadyRunning)));
    let seen = second.adopt().await.unwrap();
    assert_eq!(seen, vec![started.seen.clone()]);
    second.end(&world.server_id, Ending::Quit).await.unwrap();
    let exited = tokio::time::timeout(DEADLINE, events.recv()).await.unwrap();
    assert!(matches!(exited.unwrap().what, GuestChange::Exited { .. }));
    assert!(second.adopt().await.unwrap().is_empty());
    second.end(&world.server_id, Ending::Kill).await.unwrap();
}

#[tokio::test]
async fn a_guest_is_found_by_its_user_when_its_record_is_lost() {
    if !nix::unistd::geteuid().is_root() {
        // Without root all guests share the agent's user; nothing can be told apart.
        return;
    }
    let world = World::new(HALT);
    let (first, _events) = world.adapter();
    let started = first.start(world.request(9)).await.unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", started.seen.pid)).unwrap();
    assert!(status.contains(&format!("Uid:\t{0}\t{0}\t{0}\t{0}", world.uid)), "{status}");
    assert!(status.contains("NoNewPrivs:\t1") && status.contains("CapEff:\t0000000000000000"));
    drop(first);
    let run = world.folder.path().join(&world.server_id).join("run");
    std::fs::remove_file(run.join("process.json")).unwrap();

    let (second, _events) = world.adapter();
    assert_eq!(second.adopt().await.unwrap(), vec![started.seen]);
    second.end(&world.server_id, Ending::Kill).await.unwrap();
}

#[tokio::test]
async fn a_power_off_is_seen_also_by_an_agent_that_was_away() {
    let world = World::new(POWER_OFF);
    let (first, mut events) = world.adapter();
    first.start(world.request(1)).await.unwrap();
    wait_for(&mut events, &GuestChange::PoweredOff).await;
    drop(events);
    drop(first);

    let (second, _events) = world.adapter();
    let seen = second.adopt().await.unwrap();
    assert_eq!(seen[0].power, PowerState::Shutdown);
    second.end(&world.server_id, Ending::Quit).await.unwrap();
}

#[tokio::test]
async fn a_killed_guest_is_reported_and_can_start_again() {
    let world = World::new(HALT);
    let (qemu, mut events) = world.adapter();
    let started = qemu.start(world.request(1)).await.unwrap();
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(i32::try_from(started.seen.pid).unwrap()),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    let event = tokio::time::timeout(DEADLINE, events.recv()).await.unwrap().unwrap();
    assert!(
        matches!(&event.what, GuestChange::Exited { detail } if detail.contains("signal 9")),
        "{event:?}"
    );
    let again = qemu.start(world.request(2)).await.unwrap();
    assert_eq!(again.seen.incarnation, 2);
    qemu.end(&world.server_id, Ending::Kill).await.unwrap();
}

#[tokio::test]
async fn qemu_that_dies_at_once_says_why() {
    let world = World::new(HALT);
    let (qemu, _events) = world.adapter();
    let mut request = world.request(1);
    request.disks[0].path = world.folder.path().join("missing.raw");
    let error = qemu.start(request).await.unwrap_err();
    let HypervisorError::Exited(message) = error else {
        panic!("{error:?}");
    };
    assert!(message.contains("missing.raw"), "{message}");
    assert!(message.contains("exit status 1"), "{message}");
    // The failed start left nothing that would stand in the way.
    qemu.start(world.request(2)).await.unwrap();
    qemu.end(&world.server_id, Ending::Kill).await.unwrap();
}

#[tokio::test]
async fn a_lost_monitor_is_opened_again_and_the_guest_left_alone() {
    let world = World::new(HALT);
    let (qemu, mut events) = world.adapter();
    let started = qemu.start(world.request(1)).await.unwrap();
    let guest = qemu.guest(&world.server_id).unwrap();
    // The adapter's own connection goes away with the last handle to it.
    let first: Arc<str> = Arc::from(guest.qmp().unwrap().version());
    guest.qmp().unwrap().execute("system_reset", Value::Null).await.unwrap();
    wait_for(&mut events, &GuestChange::Reset).await;
    *lock(&guest.qmp) = None;
    let deadline = Instant::now() + DEADLINE;
    let again = loop {
        if let Some(again) = guest.qmp() {
            break again;
        }
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(again.version(), &*first);
    assert!(!guest.process.has_ended());
    assert_eq!(guest.process.pid, started.seen.pid);
    qemu.end(&world.server_id, Ending::Quit).await.unwrap();
}

#[test]
fn the_version_is_read_from_qemus_words() {
    assert_eq!(
        parse_version("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg)\nCopyright").as_deref(),
        Some("7.2.22")
    );
    assert_eq!(parse_version("something else"), None);
}

#[test]
fn a_server_id_that_is_no_id_names_no_folder() {
    let servers = Path::new("/servers");
    assert!(server_directory(servers, "../../etc").is_err());
    assert!(server_directory(servers, "6f1c2d3e-4b5a-6978-8796-a5b4c3d2e1f0").is_ok());
}
