//! A machine played in memory: the agent's edges without QEMU, Open vSwitch or disks. It outlives
//! the agents that are started over it, as a real machine does, and can be told to fail. Opened
//! in a directory, it also outlives the process. For tests, and for hosts by the thousand.

mod journal;
#[cfg(test)]
mod suite;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use host_protocol::{ImageFormat, ImageSource, PowerState};
use tokio::sync::{broadcast, mpsc};

pub use self::journal::{Change, Entry, FILE, Standing, history};
use self::journal::{Journal, difference};
use crate::BoxFuture;
use crate::agent::Edges;
use crate::edges::{LinkError, Links, NamespacePort, ResponderTables, Responders};
use crate::hypervisor::{
    Ending, GuestChange, GuestEvent, GuestSeen, Hypervisor, HypervisorError, HypervisorFacts,
    StartRequest, Started,
};
use crate::image_cache::{Cached, ImageError, Images};
use crate::pool::{CachedImage, DiskFile, DiskRequest, Pool, PoolError, PoolServer, PoolSpace};
use crate::switch::{
    Applied, CountedFlow, Switch, SwitchError, SwitchEvent, SwitchPort, SwitchReady, SwitchSetup,
    TableRead, Verified,
};

/// A simulated guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimulatedGuest {
    /// Which start it came from.
    pub incarnation: u64,
    /// Its state.
    pub power: PowerState,
}

/// What the machine does wrong, or differently.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// The next starts fail with these, one after another.
    pub starts: VecDeque<HypervisorError>,
    /// The next disks cannot be made.
    pub disks: VecDeque<PoolError>,
    /// Open vSwitch is down.
    pub switch_down: bool,
    /// Guests do not hear the power button.
    pub deaf_guests: bool,
    /// Images take for ever.
    pub images_hang: bool,
    /// Starts take for ever.
    pub starts_hang: bool,
}

/// What the machine holds.
#[derive(Debug, Default)]
pub struct State {
    /// Guests by server.
    pub guests: BTreeMap<String, SimulatedGuest>,
    /// Every start: server and incarnation.
    pub starts: Vec<(String, u64)>,
    /// Servers that have disks, with their user.
    pub disks: BTreeMap<String, u32>,
    /// Network devices.
    pub devices: BTreeSet<String>,
    /// Ports on the bridge.
    pub ports: Vec<SwitchPort>,
    /// The flow table.
    pub flows: Vec<openflow::Flow>,
    /// Conntrack zones that were flushed.
    pub flushed: Vec<u16>,
    /// What the responders answer from.
    pub tables: ResponderTables,
    /// What goes wrong.
    pub faults: Faults,
    events: Option<mpsc::UnboundedSender<GuestEvent>>,
    kept: Option<Kept>,
}

/// What a machine in a directory has, besides what all have.
#[derive(Debug)]
struct Kept {
    directory: PathBuf,
    journal: Journal,
    cookies: BTreeSet<u64>,
    answered: BTreeSet<String>,
}

impl State {
    /// What was made to go wrong from outside: the text of the file `faults/NAME` in the machine's
    /// directory, for as long as it stands there.
    fn fault(&self, name: &str) -> Option<String> {
        let kept = self.kept.as_ref()?;
        std::fs::read_to_string(kept.directory.join("faults").join(name)).ok()
    }

    fn switch_is_down(&self) -> bool {
        self.faults.switch_down || self.fault("switch_down").is_some()
    }

    /// Appends a change to the journal, if the machine has one.
    fn note(&mut self, change: impl FnOnce() -> Change) {
        if let Some(kept) = &mut self.kept {
            kept.journal.append(&change());
        }
    }
}

/// The machine. Clones are the same one.
#[derive(Clone)]
pub struct SimulatedMachine {
    state: Arc<Mutex<State>>,
    switch_events: broadcast::Sender<SwitchEvent>,
    released: Arc<tokio::sync::Notify>,
}

impl Default for SimulatedMachine {
    fn default() -> Self {
        SimulatedMachine {
            state: Arc::default(),
            switch_events: broadcast::Sender::new(16),
            released: Arc::default(),
        }
    }
}

impl SimulatedMachine {
    /// The machine that lives in a directory: as it was when it was last open.
    ///
    /// # Errors
    /// When its journal cannot be read or written.
    pub fn open(directory: &Path) -> std::io::Result<SimulatedMachine> {
        let journal = Journal::open(directory)?;
        let standing = Standing::read(directory)?;
        let machine = SimulatedMachine::default();
        {
            let mut state = machine.state();
            let guests = standing.guests.into_iter();
            state.guests = guests
                .map(|(id, (incarnation, power))| (id, SimulatedGuest { incarnation, power }))
                .collect();
            state.starts = standing.starts;
            state.disks = standing.disks;
            state.devices = standing.devices;
            let ports = standing.ports.into_iter();
            state.ports = ports.map(|(device, port_id)| SwitchPort { device, port_id }).collect();
            let (cookies, answered) = (standing.cookies, standing.answered);
            let directory = directory.to_owned();
            state.kept = Some(Kept { directory, journal, cookies, answered });
        }
        Ok(machine)
    }

    /// The edges for an agent.
    pub fn edges(&self) -> Edges {
        let machine = Arc::new(self.clone());
        Edges {
            hypervisor: machine.clone(),
            switch: machine.clone(),
            pool: machine.clone(),
            links: machine.clone(),
            responders: machine.clone(),
            images: machine,
        }
    }

    /// Looks into the machine, or changes it.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something happens to a guest by itself.
    pub fn happens(&self, server_id: &str, what: GuestChange) {
        let mut state = self.state();
        let Some(guest) = state.guests.get_mut(server_id) else {
            return;
        };
        let incarnation = guest.incarnation;
        let power = match &what {
            GuestChange::Resumed | GuestChange::Reset => Some(PowerState::Running),
            GuestChange::Paused => Some(PowerState::Paused),
            GuestChange::PoweredOff => Some(PowerState::Shutdown),
            GuestChange::Exited { .. } => None,
        };
        let server = server_id.to_owned();
        match power {
            Some(power) => {
                guest.power = power;
                state.note(|| Change::Power { server, power });
            }
            None => {
                state.guests.remove(server_id);
                state.note(|| Change::Ended { server });
            }
        }
        if let Some(events) = &state.events {
            let server_id = server_id.to_owned();
            let _ = events.send(GuestEvent { server_id, incarnation, what });
        }
    }

    /// Open vSwitch was restarted: its table is empty, its ports have new numbers.
    pub fn restart_switch(&self) {
        let mut state = self.state();
        state.flows.clear();
        state.ports.clear();
        state.faults.switch_down = false;
        let _ = self.switch_events.send(SwitchEvent::Ready);
    }

    /// Lets go of what hangs.
    pub fn release(&self) {
        let mut state = self.state();
        state.faults.images_hang = false;
        state.faults.starts_hang = false;
        self.released.notify_waiters();
    }

    fn make_device(&self, device: &str) {
        let mut state = self.state();
        if state.devices.insert(device.to_owned()) {
            state.note(|| Change::Device { device: device.to_owned() });
        }
    }

    async fn hang_while(&self, hangs: impl Fn(&Faults) -> bool) {
        loop {
            let released = self.released.notified();
            if !hangs(&self.state().faults) {
                return;
            }
            released.await;
        }
    }
}

fn ready<'a, T: Send + 'a>(value: T) -> BoxFuture<'a, T> {
    Box::pin(std::future::ready(value))
}

impl Hypervisor for SimulatedMachine {
    fn describe(&self) -> BoxFuture<'_, Result<HypervisorFacts, HypervisorError>> {
        ready(Ok(HypervisorFacts { accelerator: "tcg".to_owned(), version: "0.0.0".to_owned() }))
    }

    fn adopt(&self) -> BoxFuture<'_, Result<Vec<GuestSeen>, HypervisorError>> {
        let seen = self
            .state()
            .guests
            .iter()
            .map(|(id, guest)| GuestSeen {
                server_id: id.clone(),
                incarnation: guest.incarnation,
                power: guest.power,
                pid: 0,
            })
            .collect();
        ready(Ok(seen))
    }

    fn start(&self, request: StartRequest) -> BoxFuture<'_, Result<Started, HypervisorError>> {
        Box::pin(async move {
            self.hang_while(|faults| faults.starts_hang).await;
            let id = request.spec.server_id.clone();
            let incarnation = request.incarnation;
            let mut state = self.state();
            if state.guests.contains_key(&id) {
                return Err(HypervisorError::AlreadyRunning);
            }
            let fault = state.fault("qemu_dies").map(HypervisorError::Exited);
            if let Some(error) = state.faults.starts.pop_front().or(fault) {
                return Err(error);
            }
            let devices = request.nics.iter().all(|nic| state.devices.contains(&nic.device));
            if !devices || !state.disks.contains_key(&id) {
                return Err(HypervisorError::Host("started before it was prepared".to_owned()));
            }
            let power = PowerState::Running;
            state.guests.insert(id.clone(), SimulatedGuest { incarnation, power });
            state.starts.push((id.clone(), incarnation));
            state.note(|| Change::Started { server: id.clone(), incarnation });
            Ok(Started {
                seen: GuestSeen { server_id: id, incarnation, power, pid: 0 },
                stages: Vec::new(),
            })
        })
    }

    fn power_button<'a>(
        &'a self,
        server_id: &'a str,
    ) -> BoxFuture<'a, Result<(), HypervisorError>> {
        if !self.state().guests.contains_key(server_id) {
            return ready(Err(HypervisorError::NotRunning));
        }
        if !self.state().faults.deaf_guests {
            self.happens(server_id, GuestChange::PoweredOff);
        }
        ready(Ok(()))
    }

    fn resume<'a>(&'a self, server_id: &'a str) -> BoxFuture<'a, Result<(), HypervisorError>> {
        self.happens(server_id, GuestChange::Resumed);
        ready(Ok(()))
    }

    fn end<'a>(
        &'a self,
        server_id: &'a str,
        _ending: Ending,
    ) -> BoxFuture<'a, Result<(), HypervisorError>> {
        self.happens(server_id, GuestChange::Exited { detail: "asked".to_owned() });
        ready(Ok(()))
    }

    fn console_log<'a>(
        &'a self,
        server_id: &'a str,
        _lines: Option<u32>,
    ) -> BoxFuture<'a, Result<String, HypervisorError>> {
        ready(Ok(format!("console of {server_id}\n")))
    }

    fn events(&self) -> Option<mpsc::UnboundedReceiver<GuestEvent>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.state().events = Some(sender);
        Some(receiver)
    }
}

impl Pool for SimulatedMachine {
    fn space(&self) -> BoxFuture<'_, Result<PoolSpace, PoolError>> {
        ready(Ok(PoolSpace { total_bytes: 1 << 40, free_bytes: 1 << 39 }))
    }

    fn ensure_disks(
        &self,
        request: DiskRequest,
    ) -> BoxFuture<'_, Result<Vec<DiskFile>, PoolError>> {
        let mut state = self.state();
        let fault = state.fault("disk_full").map(PoolError::Full);
        if let Some(error) = state.faults.disks.pop_front().or(fault) {
            return ready(Err(error));
        }
        let (server, uid) = (request.spec.server_id.clone(), request.uid);
        if state.disks.insert(server.clone(), uid) != Some(uid) {
            state.note(|| Change::Disks { server, uid });
        }
        let disks = request
            .spec
            .disks
            .iter()
            .zip(request.images)
            .map(|(disk, image)| DiskFile {
                name: disk.name.clone(),
                path: PathBuf::from(&disk.name),
                format: ImageFormat::Qcow2,
                size_bytes: disk.size_mib << 20,
                backing: image,
            })
            .collect();
        ready(Ok(disks))
    }

    fn write_config_drive<'a>(
        &'a self,
        _server_id: &'a str,
        _uid: u32,
        _image: Vec<u8>,
    ) -> BoxFuture<'a, Result<PathBuf, PoolError>> {
        ready(Ok(PathBuf::from("config.iso")))
    }

    fn remove<'a>(&'a self, server_id: &'a str) -> BoxFuture<'a, Result<(), PoolError>> {
        let mut state = self.state();
        assert!(!state.guests.contains_key(server_id), "disks removed under a running guest");
        if state.disks.remove(server_id).is_some() {
            state.note(|| Change::DisksRemoved { server: server_id.to_owned() });
        }
        ready(Ok(()))
    }

    fn servers(&self) -> BoxFuture<'_, Result<Vec<PoolServer>, PoolError>> {
        let servers = self
            .state()
            .disks
            .iter()
            .map(|(id, uid)| PoolServer { server_id: id.clone(), uid: *uid })
            .collect();
        ready(Ok(servers))
    }

    fn images_in_use(&self) -> BoxFuture<'_, Result<Vec<(String, String)>, PoolError>> {
        ready(Ok(Vec::new()))
    }
}

impl Links for SimulatedMachine {
    fn ensure_tap<'a>(
        &'a self,
        device: &'a str,
        _mtu: u16,
    ) -> BoxFuture<'a, Result<(), LinkError>> {
        self.make_device(device);
        ready(Ok(()))
    }

    fn open_tap<'a>(
        &'a self,
        _device: &'a str,
    ) -> BoxFuture<'a, Result<Option<OwnedFd>, LinkError>> {
        ready(Ok(None))
    }

    fn ensure_namespace_port<'a>(
        &'a self,
        device: &'a str,
        _port: &'a NamespacePort,
    ) -> BoxFuture<'a, Result<(), LinkError>> {
        self.make_device(device);
        ready(Ok(()))
    }

    fn remove<'a>(&'a self, device: &'a str) -> BoxFuture<'a, Result<(), LinkError>> {
        let mut state = self.state();
        if state.devices.remove(device) {
            state.note(|| Change::DeviceRemoved { device: device.to_owned() });
        }
        ready(Ok(()))
    }

    fn ensure_responder_link(&self) -> BoxFuture<'_, Result<String, LinkError>> {
        ready(Ok("responder".to_owned()))
    }
}

impl Switch for SimulatedMachine {
    fn ensure_ready<'a>(
        &'a self,
        setup: &'a SwitchSetup,
    ) -> BoxFuture<'a, Result<SwitchReady, SwitchError>> {
        if self.state().switch_is_down() {
            return ready(Err(SwitchError::Unreachable("down".to_owned())));
        }
        ready(Ok(SwitchReady {
            wire_ofport: setup.underlay.as_ref().map(|_| 1),
            responder_ofport: setup.responder.as_ref().map(|_| 2),
            version: "0.0.0".to_owned(),
        }))
    }

    fn set_ports<'a>(
        &'a self,
        ports: &'a [SwitchPort],
    ) -> BoxFuture<'a, Result<BTreeMap<String, u32>, SwitchError>> {
        let mut state = self.state();
        if state.switch_is_down() {
            return ready(Err(SwitchError::Unreachable("down".to_owned())));
        }
        let before = std::mem::replace(&mut state.ports, ports.to_vec());
        state.note(|| {
            let pairs = |ports: &[SwitchPort]| -> BTreeSet<_> {
                ports.iter().map(|port| (port.device.clone(), port.port_id.clone())).collect()
            };
            let (added, removed) = difference(&pairs(&before), &pairs(ports));
            Change::Ports { added, removed }
        });
        let numbers = (10..).zip(ports).map(|(number, port)| (port.device.clone(), number));
        ready(Ok(numbers.collect()))
    }

    fn apply(&self, flows: Vec<openflow::Flow>) -> BoxFuture<'_, Result<Applied, SwitchError>> {
        let mut state = self.state();
        if state.switch_is_down() {
            return ready(Err(SwitchError::Unreachable("down".to_owned())));
        }
        let changed = usize::from(state.flows != flows);
        let total = flows.len();
        if let Some(kept) = &mut state.kept {
            let cookies: BTreeSet<u64> = flows.iter().map(|flow| flow.cookie).collect();
            let (added, removed) = difference(&kept.cookies, &cookies);
            kept.cookies = cookies;
            kept.journal.append(&Change::Flows { total, added, removed });
        }
        state.flows = flows;
        ready(Ok(Applied { total, changed, removed: 0 }))
    }

    fn verify(&self) -> BoxFuture<'_, Result<Verified, SwitchError>> {
        let found = self.state().flows.len();
        ready(Ok(Verified { found, ..Verified::default() }))
    }

    fn read(&self) -> BoxFuture<'_, Result<TableRead, SwitchError>> {
        let state = self.state();
        if state.switch_is_down() {
            return ready(Err(SwitchError::Unreachable("down".to_owned())));
        }
        let wanted = state.flows.clone();
        let counted = |flow: &openflow::Flow| CountedFlow { flow: flow.clone(), packets: 0 };
        let flows = wanted.iter().map(counted).collect();
        ready(Ok(TableRead { flows, foreign: 0, wanted }))
    }

    fn announce(&self, _: u32, _: Vec<Vec<u8>>) -> BoxFuture<'_, Result<(), SwitchError>> {
        ready(Ok(()))
    }

    fn flush_zone(&self, zone: u16) -> BoxFuture<'_, Result<(), SwitchError>> {
        self.state().flushed.push(zone);
        ready(Ok(()))
    }

    fn events(&self) -> broadcast::Receiver<SwitchEvent> {
        self.switch_events.subscribe()
    }
}

impl Responders for SimulatedMachine {
    fn update(&self, tables: ResponderTables) {
        let mut state = self.state();
        if let Some(kept) = &mut state.kept {
            let answered: BTreeSet<String> =
                tables.ports.iter().map(|port| port.port_id.clone()).collect();
            let (added, removed) = difference(&kept.answered, &answered);
            if !added.is_empty() || !removed.is_empty() {
                kept.journal.append(&Change::Answered { added, removed });
            }
            kept.answered = answered;
        }
        state.tables = tables;
    }
}

impl Images for SimulatedMachine {
    fn has(&self, _source: &ImageSource) -> bool {
        !self.state().faults.images_hang
    }

    fn get<'a>(&'a self, source: &'a ImageSource) -> BoxFuture<'a, Result<Cached, ImageError>> {
        Box::pin(async move {
            self.hang_while(|faults| faults.images_hang).await;
            Ok(Cached {
                image: CachedImage {
                    image_id: source.image_id.clone(),
                    sha256: source.sha256.clone(),
                    format: source.format,
                    path: PathBuf::from(&source.image_id),
                },
                fetched: false,
            })
        })
    }

    fn evict(&self, _in_use: Vec<(String, String)>) -> BoxFuture<'_, Result<usize, ImageError>> {
        ready(Ok(0))
    }
}
