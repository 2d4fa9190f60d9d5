//! What every machine does, well or badly, whether it is real or played: each way in which the
//! simulated one fails is one that the real one was seen to fail in. The same tests run over QEMU
//! with disks on a file system, and over [`SimulatedMachine`].

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cloud_types::ServerId;
use host_protocol::{DiskSpec, ImageFormat, PowerState, ServerSpec};
use tokio::sync::mpsc;

use crate::BoxFuture;
use crate::config::Accelerator;
use crate::hypervisor::{
    Ending, GuestChange, GuestEvent, Hypervisor, HypervisorError, StartRequest,
};
use crate::pool::{CachedImage, DirectoryPool, DiskRequest, Pool, PoolError};
use crate::qemu::{Qemu, QemuConfig};
use crate::simulated::SimulatedMachine;
use crate::test_support::server_spec;

/// Generous: many tests share two cores.
const DEADLINE: Duration = Duration::from_secs(120);
const UID_BASE: u32 = 1_710_000_000;

/// Halts at once; a guest that does not listen to the power button.
const HALT: &[u8] = &[0xf4, 0xeb, 0xfd];

/// A machine under test.
trait Machine {
    fn hypervisor(&self) -> Arc<dyn Hypervisor>;
    /// The next agent's hypervisor on the same machine.
    fn hypervisor_again(&self) -> Arc<dyn Hypervisor>;
    fn pool(&self) -> Arc<dyn Pool>;
    fn uid(&self) -> u32;
    fn image(&self) -> Option<CachedImage>;
    /// Makes a server that the hypervisor cannot start.
    fn spoil(&self, spec: &mut ServerSpec);
    /// The guest's process ends by itself.
    fn kill<'a>(&'a self, server: &'a str) -> BoxFuture<'a, ()>;
    /// No room is left for disks, or there is again.
    fn fill(&self, full: bool);
}

struct Played(SimulatedMachine);

impl Machine for Played {
    fn hypervisor(&self) -> Arc<dyn Hypervisor> {
        Arc::new(self.0.clone())
    }
    fn hypervisor_again(&self) -> Arc<dyn Hypervisor> {
        self.hypervisor()
    }
    fn pool(&self) -> Arc<dyn Pool> {
        Arc::new(self.0.clone())
    }
    fn uid(&self) -> u32 {
        UID_BASE
    }
    fn image(&self) -> Option<CachedImage> {
        None
    }
    fn spoil(&self, _spec: &mut ServerSpec) {
        let error = HypervisorError::Exited("exit status 1".to_owned());
        self.0.state().faults.starts.push_back(error);
    }
    fn kill<'a>(&'a self, server: &'a str) -> BoxFuture<'a, ()> {
        self.0.happens(server, GuestChange::Exited { detail: "killed".to_owned() });
        Box::pin(std::future::ready(()))
    }
    fn fill(&self, full: bool) {
        let mut state = self.0.state();
        state.faults.disks.clear();
        if full {
            state.faults.disks.push_back(PoolError::Full("no space".to_owned()));
        }
    }
}

struct Real {
    folder: tempfile::TempDir,
    image: CachedImage,
    uid: u32,
}

impl Real {
    fn new(number: u32) -> Real {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        let servers = folder.path().join("servers");
        std::fs::create_dir_all(&servers).unwrap();
        // Of its own, so that it can be full.
        let (none, flags) = (None::<&str>, nix::mount::MsFlags::empty());
        nix::mount::mount(none, &servers, Some("tmpfs"), flags, Some("size=64m,mode=0711"))
            .unwrap();
        let mut sector = HALT.to_vec();
        sector.resize(510, 0);
        sector.extend([0x55, 0xaa]);
        sector.resize(1 << 20, 0);
        let path = folder.path().join("image.raw");
        std::fs::write(&path, sector).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let image = CachedImage {
            image_id: ServerId::random().to_string(),
            sha256: "0".repeat(64),
            format: ImageFormat::Raw,
            path,
        };
        Real { folder, image, uid: UID_BASE + (std::process::id() % 1000) * 100 + number * 10 }
    }

    fn servers(&self) -> PathBuf {
        self.folder.path().join("servers")
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        for found in crate::qemu::process::find_by_user(self.uid..self.uid + 10).unwrap_or_default()
        {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(found.pid).unwrap_or(i32::MAX));
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
        let _ = nix::mount::umount2(&self.servers(), nix::mount::MntFlags::MNT_DETACH);
    }
}

impl Machine for Real {
    fn hypervisor(&self) -> Arc<dyn Hypervisor> {
        Arc::new(Qemu::new(QemuConfig {
            binary: PathBuf::from("/usr/bin/qemu-system-x86_64"),
            accelerator: Accelerator::Tcg,
            servers: self.servers(),
            uids: self.uid..self.uid + 10,
            cgroup_owner: "meridian-test".to_owned(),
        }))
    }
    fn hypervisor_again(&self) -> Arc<dyn Hypervisor> {
        self.hypervisor()
    }
    fn pool(&self) -> Arc<dyn Pool> {
        Arc::new(DirectoryPool::open(&self.servers()).unwrap())
    }
    fn uid(&self) -> u32 {
        self.uid
    }
    fn image(&self) -> Option<CachedImage> {
        Some(self.image.clone())
    }
    fn spoil(&self, spec: &mut ServerSpec) {
        spec.memory_mib = 1 << 40;
    }
    fn kill<'a>(&'a self, _server: &'a str) -> BoxFuture<'a, ()> {
        for found in crate::qemu::process::find_by_user(self.uid..self.uid + 10).unwrap() {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(found.pid).unwrap());
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        }
        Box::pin(std::future::ready(()))
    }
    fn fill(&self, full: bool) {
        let size = if full { "size=4k" } else { "size=64m" };
        let (none, flags) = (None::<&str>, nix::mount::MsFlags::MS_REMOUNT);
        nix::mount::mount(none, &self.servers(), none, flags, Some(size)).unwrap();
    }
}

/// Runs a test over both machines; the real one needs the right to make users' processes.
async fn on_both<F>(number: u32, test: impl Fn(Arc<dyn Machine>) -> F)
where
    F: Future<Output = ()>,
{
    test(Arc::new(Played(SimulatedMachine::default()))).await;
    if nix::unistd::geteuid().is_root() {
        test(Arc::new(Real::new(number))).await;
    }
}

fn spec() -> ServerSpec {
    let mut spec = server_spec(&ServerId::random().to_string());
    spec.disks = vec![DiskSpec { name: "root".to_owned(), size_mib: 2, image: None }];
    spec
}

async fn request(machine: &dyn Machine, spec: &ServerSpec, incarnation: u64) -> StartRequest {
    let images = vec![machine.image()];
    let wanted = DiskRequest { spec: spec.clone(), images, uid: machine.uid() };
    let disks = machine.pool().ensure_disks(wanted).await.unwrap();
    StartRequest {
        spec: spec.clone(),
        incarnation,
        disks,
        config_drive: None,
        nics: Vec::new(),
        uid: machine.uid(),
    }
}

async fn event(events: &mut mpsc::UnboundedReceiver<GuestEvent>) -> GuestEvent {
    tokio::time::timeout(DEADLINE, events.recv()).await.expect("an event").unwrap()
}

#[tokio::test]
async fn a_guest_starts_once_is_adopted_and_ends() {
    on_both(1, |machine| async move {
        let (hypervisor, spec) = (machine.hypervisor(), spec());
        let id = spec.server_id.as_str();
        assert_eq!(hypervisor.adopt().await.unwrap(), []);
        let started = hypervisor.start(request(&*machine, &spec, 3).await).await.unwrap();
        assert_eq!((started.seen.incarnation, started.seen.power), (3, PowerState::Running));
        let twice = hypervisor.start(request(&*machine, &spec, 4).await).await;
        assert!(matches!(twice, Err(HypervisorError::AlreadyRunning)), "{twice:?}");
        let again = machine.hypervisor_again();
        let seen = again.adopt().await.unwrap();
        assert_eq!(seen.len(), 1);
        assert_eq!((seen[0].server_id.as_str(), seen[0].incarnation), (id, 3));
        again.end(id, Ending::Kill).await.unwrap();
        assert_eq!(again.adopt().await.unwrap(), []);
        again.end(id, Ending::Kill).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_guest_that_dies_is_said_to_have_ended() {
    on_both(2, |machine| async move {
        let (hypervisor, spec) = (machine.hypervisor(), spec());
        let mut events = hypervisor.events().unwrap();
        hypervisor.start(request(&*machine, &spec, 1).await).await.unwrap();
        machine.kill(&spec.server_id).await;
        loop {
            let event = event(&mut events).await;
            if matches!(event.what, GuestChange::Exited { .. }) {
                assert_eq!((event.server_id, event.incarnation), (spec.server_id.clone(), 1));
                break;
            }
        }
        assert_eq!(machine.hypervisor_again().adopt().await.unwrap(), []);
    })
    .await;
}

#[tokio::test]
async fn a_start_that_fails_leaves_nothing_and_can_be_tried_again() {
    on_both(3, |machine| async move {
        let (hypervisor, good) = (machine.hypervisor(), spec());
        let mut spoilt = good.clone();
        machine.spoil(&mut spoilt);
        let failed = hypervisor.start(request(&*machine, &spoilt, 1).await).await;
        assert!(matches!(failed, Err(HypervisorError::Exited(_))), "{failed:?}");
        assert_eq!(machine.hypervisor_again().adopt().await.unwrap(), []);
        hypervisor.start(request(&*machine, &good, 2).await).await.unwrap();
        hypervisor.end(&good.server_id, Ending::Kill).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_button_is_pressed_on_a_running_guest_only_and_an_end_is_an_end() {
    on_both(4, |machine| async move {
        let (hypervisor, spec) = (machine.hypervisor(), spec());
        let id = spec.server_id.as_str();
        let absent = hypervisor.power_button(id).await;
        assert!(matches!(absent, Err(HypervisorError::NotRunning)), "{absent:?}");
        hypervisor.start(request(&*machine, &spec, 1).await).await.unwrap();
        hypervisor.end(id, Ending::Quit).await.unwrap();
        assert_eq!(machine.hypervisor_again().adopt().await.unwrap(), []);
    })
    .await;
}

#[tokio::test]
async fn a_full_disk_is_said_and_disks_are_made_once_there_is_room() {
    on_both(5, |machine| async move {
        let (pool, spec) = (machine.pool(), spec());
        machine.fill(true);
        let wanted = || DiskRequest {
            spec: spec.clone(),
            images: vec![machine.image()],
            uid: machine.uid(),
        };
        let full = pool.ensure_disks(wanted()).await;
        assert!(matches!(full, Err(PoolError::Full(_))), "{full:?}");
        machine.fill(false);
        let disks = pool.ensure_disks(wanted()).await.unwrap();
        assert_eq!(disks.len(), 1);
        assert_eq!(pool.ensure_disks(wanted()).await.unwrap(), disks, "they are made once");
        let there: Vec<String> =
            pool.servers().await.unwrap().into_iter().map(|server| server.server_id).collect();
        assert_eq!(there, std::slice::from_ref(&spec.server_id));
        pool.remove(&spec.server_id).await.unwrap();
        pool.remove(&spec.server_id).await.unwrap();
        assert_eq!(pool.servers().await.unwrap(), []);
    })
    .await;
}
