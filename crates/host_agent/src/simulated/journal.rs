//! What a simulated machine keeps on disk, so that it outlives the agent's process as a real
//! machine does: every change, appended to a file before the call that made it returns. The file
//! is also the machine's history, for tests that ask what ran when.
//!
//! A killed process loses nothing of it. It is not synced: a power cut is not simulated here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::SystemTime;

use host_protocol::PowerState;
use serde::{Deserialize, Serialize};

/// Name of the file within the machine's directory.
pub const FILE: &str = "machine.journal";

/// A change of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    /// A guest was started.
    Started {
        /// Its server.
        server: String,
        /// Which start of it on this machine.
        incarnation: u64,
    },
    /// A guest is in another state.
    Power {
        /// Its server.
        server: String,
        /// The state.
        power: PowerState,
    },
    /// A guest's process is gone.
    Ended {
        /// Its server.
        server: String,
    },
    /// A server's disks were made, or found.
    Disks {
        /// The server.
        server: String,
        /// The user they belong to.
        uid: u32,
    },
    /// A server's disks were removed.
    DisksRemoved {
        /// The server.
        server: String,
    },
    /// A network device was made.
    Device {
        /// Its name.
        device: String,
    },
    /// A network device was removed.
    DeviceRemoved {
        /// Its name.
        device: String,
    },
    /// The ports on the bridge changed: (device, port).
    Ports {
        /// New ones.
        added: Vec<(String, String)>,
        /// Those that are gone.
        removed: Vec<(String, String)>,
    },
    /// The flow table changed: cookies, which name the object that a flow is for.
    Flows {
        /// Flows in all.
        total: usize,
        /// Cookies that were not there before.
        added: Vec<u64>,
        /// Cookies that are not there any more.
        removed: Vec<u64>,
    },
    /// Other ports are answered by DHCP.
    Answered {
        /// New ones.
        added: Vec<String>,
        /// Those that are not answered any more.
        removed: Vec<String>,
    },
}

/// A change, and when it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Microseconds since 1970.
    pub at: u64,
    /// What changed.
    #[serde(flatten)]
    pub change: Change,
}

/// What stands on the machine after its changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Guests: incarnation and state, by server.
    pub guests: BTreeMap<String, (u64, PowerState)>,
    /// Every start ever: server and incarnation.
    pub starts: Vec<(String, u64)>,
    /// Users of disks, by server.
    pub disks: BTreeMap<String, u32>,
    /// Network devices.
    pub devices: BTreeSet<String>,
    /// Ports on the bridge: device and port.
    pub ports: BTreeSet<(String, String)>,
    /// Flows in all.
    pub flows: usize,
    /// Cookies of the flows.
    pub cookies: BTreeSet<u64>,
    /// Ports that DHCP answers.
    pub answered: BTreeSet<String>,
}

impl Standing {
    /// Takes a change over.
    pub fn take(&mut self, change: &Change) {
        match change.clone() {
            Change::Started { server, incarnation } => {
                self.starts.push((server.clone(), incarnation));
                self.guests.insert(server, (incarnation, PowerState::Running));
            }
            Change::Power { server, power } => {
                if let Some(guest) = self.guests.get_mut(&server) {
                    guest.1 = power;
                }
            }
            Change::Ended { server } => {
                self.guests.remove(&server);
            }
            Change::Disks { server, uid } => {
                self.disks.insert(server, uid);
            }
            Change::DisksRemoved { server } => {
                self.disks.remove(&server);
            }
            Change::Device { device } => {
                self.devices.insert(device);
            }
            Change::DeviceRemoved { device } => {
                self.devices.remove(&device);
            }
            Change::Ports { added, removed } => replace(&mut self.ports, added, &removed),
            Change::Flows { total, added, removed } => {
                self.flows = total;
                replace(&mut self.cookies, added, &removed);
            }
            Change::Answered { added, removed } => replace(&mut self.answered, added, &removed),
        }
    }

    /// What stands on the machine whose directory this is; looked at from outside, at any time.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn read(directory: &Path) -> io::Result<Standing> {
        let mut standing = Standing::default();
        for entry in history(directory)? {
            standing.take(&entry.change);
        }
        Ok(standing)
    }
}

fn replace<T: Ord>(set: &mut BTreeSet<T>, added: Vec<T>, removed: &[T]) {
    for gone in removed {
        set.remove(gone);
    }
    set.extend(added);
}

/// What is in `after` and not in `before`, and the reverse.
pub(super) fn difference<T: Ord + Clone>(
    before: &BTreeSet<T>,
    after: &BTreeSet<T>,
) -> (Vec<T>, Vec<T>) {
    (after.difference(before).cloned().collect(), before.difference(after).cloned().collect())
}

/// Everything that ever happened on a machine, in order. A line that is being written is left out.
///
/// # Errors
/// When the journal cannot be read.
pub fn history(directory: &Path) -> io::Result<Vec<Entry>> {
    let text = match std::fs::read_to_string(directory.join(FILE)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    text.split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .map(|line| serde_json::from_str(line).map_err(io::Error::from))
        .collect()
}

/// The open file.
#[derive(Debug)]
pub(super) struct Journal(File);

impl Journal {
    pub(super) fn open(directory: &Path) -> io::Result<Journal> {
        std::fs::create_dir_all(directory)?;
        let path = directory.join(FILE);
        let file = File::options().create(true).append(true).open(&path)?;
        // A line that was cut by the end of a process did not happen: its call never returned.
        let text = std::fs::read(&path)?;
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        file.set_len(whole as u64)?;
        Ok(Journal(file))
    }

    /// Appends a change.
    ///
    /// # Panics
    /// When the file system refuses: a machine that forgets is no test of anything.
    pub(super) fn append(&mut self, change: &Change) {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let at = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
        let entry = Entry { at, change: change.clone() };
        let mut line = serde_json::to_string(&entry).expect("a change is plain data");
        line.push('\n');
        self.0.write_all(line.as_bytes()).expect("the simulated machine's journal can be written");
    }
}
