//! The states of a server and what may happen in each: pure, total, and the only place that
//! decides. `mod.rs` draws it.

use cloud_types::Fault;
use host_protocol::{DesiredPower, PowerState};
use serde::{Deserialize, Serialize};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident => $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $word)] $variant,)* }

        impl $name {
            /// Every value.
            pub const ALL: &'static [$name] = &[$($name::$variant),*];
            /// The word on the wire and in the database.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word),* }
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl std::str::FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                $name::ALL
                    .iter()
                    .copied()
                    .find(|value| value.as_str() == text)
                    .ok_or_else(|| format!("{text:?} is no {}", stringify!($name)))
            }
        }
    };
}

words! {
    /// The lasting state of a server (`OS-EXT-STS:vm_state`).
    VmState {
        /// It has never run.
        Building => "building",
        /// Its guest should run.
        Active => "active",
        /// Its guest should not run.
        Stopped => "stopped",
        /// It could not be built, or its host gave it up.
        Error => "error",
        /// It is gone; the row remains for those who ask what changed.
        Deleted => "deleted",
    }
}

words! {
    /// What is under way (`OS-EXT-STS:task_state`).
    TaskState {
        /// Accepted, waiting for a host.
        Scheduling => "scheduling",
        /// A host is chosen, its ports are being bound.
        Networking => "networking",
        /// The host is preparing disks and starting the guest.
        Spawning => "spawning",
        /// The guest is being asked to end.
        PoweringOff => "powering-off",
        /// The guest is being started.
        PoweringOn => "powering-on",
        /// The guest is being asked to restart.
        Rebooting => "rebooting",
        /// The guest is being ended and started again.
        RebootingHard => "rebooting_hard",
        /// It is being removed; there is no way back.
        Deleting => "deleting",
    }
}

/// What the host last said of the guest (`OS-EXT-STS:power_state`), in Nova's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Power {
    /// Nothing yet.
    NoState,
    /// Its processors run.
    Running,
    /// Its processors are held.
    Paused,
    /// It is off.
    Shutdown,
    /// It ended without being asked.
    Crashed,
}

impl Power {
    /// Nova's number.
    pub fn code(self) -> i64 {
        match self {
            Power::NoState => 0,
            Power::Running => 1,
            Power::Paused => 3,
            Power::Shutdown => 4,
            Power::Crashed => 6,
        }
    }

    /// Reads Nova's number; what is unknown reads as nothing known.
    pub fn from_code(code: i64) -> Self {
        match code {
            1 => Power::Running,
            3 => Power::Paused,
            4 => Power::Shutdown,
            6 => Power::Crashed,
            _ => Power::NoState,
        }
    }
}

impl From<PowerState> for Power {
    fn from(state: PowerState) -> Self {
        match state {
            PowerState::Running => Power::Running,
            PowerState::Paused => Power::Paused,
            PowerState::Shutdown => Power::Shutdown,
            PowerState::Crashed => Power::Crashed,
        }
    }
}

/// Where a server is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// The lasting state.
    pub vm: VmState,
    /// What is under way, if anything.
    pub task: Option<TaskState>,
}

impl State {
    /// A state with nothing under way.
    pub const fn settled(vm: VmState) -> Self {
        State { vm, task: None }
    }

    /// What a new server begins in.
    pub const NEW: State = State { vm: VmState::Building, task: Some(TaskState::Scheduling) };

    /// The `status` that users see.
    pub fn status(self) -> &'static str {
        use TaskState as T;
        match (self.vm, self.task) {
            (VmState::Building, _) => "BUILD",
            (VmState::Active, Some(T::Rebooting)) => "REBOOT",
            (VmState::Active, Some(T::RebootingHard)) => "HARD_REBOOT",
            (
                VmState::Active,
                None
                | Some(
                    T::Scheduling
                    | T::Networking
                    | T::Spawning
                    | T::PoweringOff
                    | T::PoweringOn
                    | T::Deleting,
                ),
            ) => "ACTIVE",
            (VmState::Stopped, _) => "SHUTOFF",
            (VmState::Error, _) => "ERROR",
            (VmState::Deleted, _) => "DELETED",
        }
    }

    /// Whether the server is gone or going: no request but delete reaches it.
    pub fn is_going(self) -> bool {
        self.vm == VmState::Deleted || self.task == Some(TaskState::Deleting)
    }
}

/// The states whose `status` is one of `statuses` (compared without case), for filters.
pub fn states_with_status(statuses: &[String]) -> Vec<(VmState, Option<TaskState>)> {
    let tasks = || std::iter::once(None).chain(TaskState::ALL.iter().copied().map(Some));
    VmState::ALL
        .iter()
        .flat_map(|vm| tasks().map(move |task| (*vm, task)))
        .filter(|(vm, task)| {
            let status = State { vm: *vm, task: *task }.status();
            statuses.iter().any(|wanted| wanted.eq_ignore_ascii_case(status))
        })
        .collect()
}

/// What a user may ask of an existing server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// `os-start`.
    Start,
    /// `os-stop`.
    Stop,
    /// `reboot` SOFT: the guest is asked.
    RebootSoft,
    /// `reboot` HARD: QEMU is ended and started.
    RebootHard,
    /// `DELETE`.
    Delete,
}

impl Command {
    /// Every command.
    pub const ALL: &'static [Command] =
        &[Command::Start, Command::Stop, Command::RebootSoft, Command::RebootHard, Command::Delete];

    /// Nova's word for it, in refusals and in the record of actions.
    pub fn as_str(self) -> &'static str {
        match self {
            Command::Start => "start",
            Command::Stop => "stop",
            Command::RebootSoft | Command::RebootHard => "reboot",
            Command::Delete => "delete",
        }
    }
}

/// What becomes of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It begins: the server is in this state until it ends.
    Begin(State),
    /// It is under way already; asking again changes nothing.
    UnderWay,
    /// The server is in the wrong lasting state.
    WrongVmState,
    /// Something else is under way.
    Busy,
    /// The server is gone.
    Gone,
}

/// Decides on a command. Total over every state.
pub fn judge(state: State, command: Command) -> Verdict {
    use Verdict::{Begin, Busy, Gone, UnderWay, WrongVmState};
    let begin = |task| Begin(State { vm: state.vm, task: Some(task) });
    match (command, state.vm, state.task) {
        (_, VmState::Deleted, _) => Gone,

        // Delete interrupts whatever is under way, and repeated is the same delete.
        (Command::Delete, _, Some(TaskState::Deleting)) => UnderWay,
        (Command::Delete, _, _) => begin(TaskState::Deleting),

        // Nothing else may begin while something is under way, or before the first boot.
        (_, _, Some(_)) => Busy,
        (_, VmState::Building, None) => WrongVmState,

        (Command::Start, VmState::Stopped, None) => begin(TaskState::PoweringOn),
        (Command::Start, VmState::Active | VmState::Error, None) => WrongVmState,

        (Command::Stop, VmState::Active | VmState::Error, None) => begin(TaskState::PoweringOff),
        (Command::Stop, VmState::Stopped, None) => WrongVmState,

        (Command::RebootSoft, VmState::Active, None) => begin(TaskState::Rebooting),
        (Command::RebootSoft, VmState::Stopped | VmState::Error, None) => WrongVmState,

        (Command::RebootHard, VmState::Active | VmState::Stopped | VmState::Error, None) => {
            begin(TaskState::RebootingHard)
        }
    }
}

/// The refusal that Nova's clients know, for a verdict that is one.
pub fn refusal(id: &str, state: State, command: Command, verdict: Verdict) -> Option<Fault> {
    let word = command.as_str();
    match verdict {
        Verdict::Begin(_) | Verdict::UnderWay => None,
        Verdict::WrongVmState => Some(Fault::conflict(format!(
            "Cannot '{word}' instance {id} while it is in vm_state {}",
            state.vm
        ))),
        Verdict::Busy => Some(Fault::conflict(format!(
            "Cannot '{word}' instance {id} while it is in task_state {}",
            state.task.map_or("none", TaskState::as_str)
        ))),
        Verdict::Gone => Some(Fault::not_found(format!("Instance {id} could not be found."))),
    }
}

/// What a report about a settled server makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// The lasting state from now on.
    pub vm: VmState,
    /// What the host should be told to want, when that changes.
    pub desired: Option<DesiredPower>,
}

/// Decides what a host's word on a guest means while nothing is under way. A guest that powered
/// itself off stays off: what is wanted follows what the guest did, or its host would start it
/// again. A guest that crashed is still wanted; its host starts it again and says so.
pub fn settle(vm: VmState, observed: PowerState) -> Settlement {
    let same = Settlement { vm, desired: None };
    match (vm, observed) {
        (VmState::Active, PowerState::Shutdown) => {
            Settlement { vm: VmState::Stopped, desired: Some(DesiredPower::Stopped) }
        }
        (VmState::Active, PowerState::Running | PowerState::Paused | PowerState::Crashed) => same,
        // The host was told to stop it and is on its way; what it says until then changes nothing.
        (VmState::Stopped, _) => same,
        // Given up earlier, and now it runs: the host got over it.
        (VmState::Error, PowerState::Running) => {
            Settlement { vm: VmState::Active, desired: Some(DesiredPower::Running) }
        }
        (VmState::Error, PowerState::Paused | PowerState::Shutdown | PowerState::Crashed) => same,
        // The workflow that builds it decides; a row that is gone stays gone.
        (VmState::Building | VmState::Deleted, _) => same,
    }
}

/// A server's name as a host name: letters, digits and dashes, at most 63 characters; what has no
/// such letters is named after its id, as Nova does.
pub fn hostname_of(name: &str, id: &str) -> String {
    let mut label = String::new();
    for c in name.chars() {
        match c {
            'a'..='z' | '0'..='9' | '-' => label.push(c),
            'A'..='Z' => label.push(c.to_ascii_lowercase()),
            ' ' | '_' | '.' => label.push('-'),
            _ => {}
        }
    }
    let label: String = label.trim_matches('-').chars().take(63).collect();
    let label = label.trim_end_matches('-');
    if label.is_empty() { format!("server-{id}") } else { label.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_state() -> impl Iterator<Item = State> {
        VmState::ALL.iter().flat_map(|vm| {
            std::iter::once(None)
                .chain(TaskState::ALL.iter().copied().map(Some))
                .map(|task| State { vm: *vm, task })
        })
    }

    #[test]
    fn delete_is_refused_only_by_what_is_gone() {
        for state in every_state() {
            let verdict = judge(state, Command::Delete);
            match (state.vm, state.task) {
                (VmState::Deleted, _) => assert_eq!(verdict, Verdict::Gone),
                (_, Some(TaskState::Deleting)) => assert_eq!(verdict, Verdict::UnderWay),
                _ => assert!(matches!(verdict, Verdict::Begin(s) if s.is_going())),
            }
        }
    }

    #[test]
    fn nothing_begins_over_something_else() {
        for state in every_state().filter(|state| state.task.is_some()) {
            for command in Command::ALL.iter().filter(|command| **command != Command::Delete) {
                assert!(
                    !matches!(judge(state, *command), Verdict::Begin(_)),
                    "{state:?} {command:?}"
                );
            }
        }
    }

    #[test]
    fn what_begins_keeps_the_lasting_state() {
        for state in every_state() {
            for command in Command::ALL {
                if let Verdict::Begin(next) = judge(state, *command) {
                    assert_eq!(next.vm, state.vm);
                    assert!(next.task.is_some());
                }
            }
        }
    }

    #[test]
    fn every_refusal_says_why() {
        for state in every_state() {
            for command in Command::ALL {
                let verdict = judge(state, *command);
                let refused = refusal("x", state, *command, verdict);
                assert_eq!(
                    refused.is_none(),
                    matches!(verdict, Verdict::Begin(_) | Verdict::UnderWay)
                );
            }
        }
    }

    #[test]
    fn statuses_find_their_states_back() {
        for state in every_state() {
            let found = states_with_status(&[state.status().to_lowercase()]);
            assert!(found.contains(&(state.vm, state.task)));
        }
        assert!(states_with_status(&["NO_SUCH".into()]).is_empty());
    }

    #[test]
    fn a_guest_that_powers_off_stays_off_and_one_that_crashes_is_still_wanted() {
        assert_eq!(
            settle(VmState::Active, PowerState::Shutdown),
            Settlement { vm: VmState::Stopped, desired: Some(DesiredPower::Stopped) }
        );
        assert_eq!(
            settle(VmState::Active, PowerState::Crashed),
            Settlement { vm: VmState::Active, desired: None }
        );
        assert_eq!(settle(VmState::Deleted, PowerState::Running).vm, VmState::Deleted);
    }

    #[test]
    fn names_become_host_names() {
        assert_eq!(hostname_of("Web Server_1.example", "i"), "web-server-1-example");
        assert_eq!(hostname_of("-a-", "i"), "a");
        assert_eq!(hostname_of("日本", "i"), "server-i");
        assert_eq!(hostname_of(&"x".repeat(80), "i").len(), 63);
        assert!(!hostname_of(&format!("{}-yy", "x".repeat(62)), "i").ends_with('-'));
    }

    #[test]
    fn words_read_back() {
        for vm in VmState::ALL {
            assert_eq!(vm.as_str().parse::<VmState>().unwrap(), *vm);
        }
        for code in 0..8 {
            let power = Power::from_code(code);
            assert!(power.code() == code || power == Power::NoState);
        }
    }
}
