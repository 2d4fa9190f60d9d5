//! What to do next about a server: a pure function of what is wanted and what is.
//!
//! ```text
//!                 ┌────────────────────────── start ──────────────────────────┐
//!                 │                                                           ▼
//!   none ◄──end── powered off ◄──guest, button── running ◄──resume── paused   running
//!    │ ▲                                          │   │
//!    │ └───────── crash, end after grace ─────────┘   └──button──► stopping (button pressed)
//!    └──tombstone──► files removed ──► gone
//! ```
//! - Wanted running and nothing runs: start; unless the guest switched itself off under this very
//!   generation, or starting was given up.
//! - Wanted stopped: the power button, the grace of [`STOP_GRACE_SECONDS`], then the end.
//! - Reboot: soft is button, grace, end, start; hard is end, start.
//! - A tombstone ends and removes; nothing else does. What the region does not know is reported
//!   and left alone.

use std::time::Duration;

use host_protocol::{DesiredPower, STOP_GRACE_SECONDS};

/// What the documents say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Whether the region that is followed now has named the server.
    pub known: bool,
    /// Whether the server must go.
    pub tombstone: bool,
    /// What the guest should be doing.
    pub power: DesiredPower,
}

/// A guest's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guest {
    /// Its processors run.
    Running,
    /// They stand still: most often the host's disk was full when it wrote.
    Paused,
    /// The guest switched its machine off; the process waits to be ended.
    PoweredOff,
}

/// A reboot that an operation asked for and that is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reboot {
    /// Ask the guest first.
    Soft,
    /// End it.
    Hard,
}

/// What is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct World {
    /// The guest, if a process of it lives.
    pub guest: Option<Guest>,
    /// The guest switched itself off under the generation that is in force.
    pub powered_off: bool,
    /// How long ago the power button was pressed for this guest.
    pub button: Option<Duration>,
    /// A reboot to do.
    pub reboot: Option<Reboot>,
    /// A former act failed: how long to wait before the next.
    pub backoff: Option<Duration>,
    /// Starting failed too often for this generation.
    pub given_up: bool,
}

/// How to report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// The server is as wanted.
    Done,
    /// On the way.
    Working,
    /// The last act failed.
    Failed,
    /// Nothing is left.
    Gone,
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make disks, wait for ports, start the guest.
    Start,
    /// Press the power button.
    PressButton,
    /// End the process, flushing its disks.
    End,
    /// Kill the process: its disks go too.
    Kill,
    /// Let a paused guest go on.
    Resume,
    /// Remember that the guest switched itself off.
    NotePowerOff,
    /// The pending reboot cannot be done.
    FailReboot(&'static str),
    /// Remove everything of the server.
    Remove,
    /// Say how it stands.
    Report(Word),
    /// Nothing more to do until then, or until something happens.
    Wait(Duration),
}

/// The power button's grace.
pub const GRACE: Duration = Duration::from_secs(STOP_GRACE_SECONDS);

/// Decides. The steps are done in order; after each failure, and after the last, it is asked again.
pub fn plan(wish: Wish, world: World) -> Vec<Action> {
    if !wish.known {
        return vec![Action::Report(Word::Done)];
    }
    if let Some(wait) = world.backoff {
        return vec![Action::Report(Word::Failed), Action::Wait(wait)];
    }
    if wish.tombstone {
        let gone = [Action::Remove, Action::Report(Word::Gone)];
        return match world.guest {
            Some(_) => [&[Action::Kill], &gone[..]].concat(),
            None => gone.to_vec(),
        };
    }
    match (wish.power, world.guest) {
        (DesiredPower::Running, None) => start(world),
        (DesiredPower::Running, Some(Guest::Running)) => match world.reboot {
            None => vec![Action::Report(Word::Done)],
            Some(Reboot::Hard) => vec![Action::End],
            Some(Reboot::Soft) => ask_then_end(world.button),
        },
        (DesiredPower::Running, Some(Guest::Paused)) => match world.reboot {
            None => vec![Action::Resume],
            Some(_) => vec![Action::End],
        },
        // Off because we pressed the button, for a reboot or a stop that was taken back: on again.
        (DesiredPower::Running, Some(Guest::PoweredOff))
            if world.reboot.is_some() || world.button.is_some() =>
        {
            vec![Action::End]
        }
        (DesiredPower::Running, Some(Guest::PoweredOff)) => {
            vec![Action::NotePowerOff, Action::End]
        }
        (DesiredPower::Stopped, Some(Guest::Running)) => ask_then_end(world.button),
        (DesiredPower::Stopped, Some(Guest::Paused | Guest::PoweredOff)) => vec![Action::End],
        (DesiredPower::Stopped, None) => match world.reboot {
            None => vec![Action::Report(Word::Done)],
            Some(_) => {
                vec![Action::FailReboot("the server is stopped"), Action::Report(Word::Done)]
            }
        },
    }
}

fn start(world: World) -> Vec<Action> {
    match (world.given_up, world.reboot) {
        (true, None) => vec![Action::Report(Word::Failed)],
        (true, Some(_)) => {
            vec![Action::FailReboot("the guest does not start"), Action::Report(Word::Failed)]
        }
        (false, None) if world.powered_off => vec![Action::Report(Word::Done)],
        (false, _) => vec![Action::Start],
    }
}

fn ask_then_end(button: Option<Duration>) -> Vec<Action> {
    match button {
        None => vec![Action::PressButton, Action::Report(Word::Working), Action::Wait(GRACE)],
        Some(ago) if ago < GRACE => vec![Action::Wait(GRACE - ago)],
        Some(_) => vec![Action::End],
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wish(power: DesiredPower) -> Wish {
        Wish { known: true, tombstone: false, power }
    }

    fn with(guest: Guest) -> World {
        World { guest: Some(guest), ..World::default() }
    }

    #[test]
    fn running_is_kept_running() {
        let running = wish(DesiredPower::Running);
        assert_eq!(plan(running, World::default()), [Action::Start]);
        assert_eq!(plan(running, with(Guest::Running)), [Action::Report(Word::Done)]);
        assert_eq!(plan(running, with(Guest::Paused)), [Action::Resume]);
    }

    #[test]
    fn a_guest_that_switched_itself_off_stays_off_for_its_generation() {
        let running = wish(DesiredPower::Running);
        let off = plan(running, with(Guest::PoweredOff));
        assert_eq!(off, [Action::NotePowerOff, Action::End]);
        let noted = World { powered_off: true, ..World::default() };
        assert_eq!(plan(running, noted), [Action::Report(Word::Done)]);
        let rebooted = World { reboot: Some(Reboot::Hard), ..noted };
        assert_eq!(plan(running, rebooted), [Action::Start]);
    }

    #[test]
    fn a_stop_asks_waits_and_ends() {
        let stopped = wish(DesiredPower::Stopped);
        let mut world = with(Guest::Running);
        assert_eq!(plan(stopped, world)[0], Action::PressButton);
        world.button = Some(Duration::from_secs(20));
        assert_eq!(plan(stopped, world), [Action::Wait(Duration::from_secs(40))]);
        world.button = Some(GRACE);
        assert_eq!(plan(stopped, world), [Action::End]);
        world.guest = Some(Guest::PoweredOff);
        assert_eq!(plan(stopped, world), [Action::End]);
        assert_eq!(plan(stopped, World::default()), [Action::Report(Word::Done)]);
    }

    #[test]
    fn a_stop_that_is_taken_back_leaves_the_guest_on() {
        let mut world = with(Guest::PoweredOff);
        world.button = Some(Duration::from_secs(1));
        let actions = plan(wish(DesiredPower::Running), world);
        assert_eq!(actions, [Action::End], "and then it is started, for nothing was noted");
    }

    #[test]
    fn a_soft_reboot_asks_first_and_a_hard_one_does_not() {
        let running = wish(DesiredPower::Running);
        let mut world = with(Guest::Running);
        world.reboot = Some(Reboot::Soft);
        assert_eq!(plan(running, world)[0], Action::PressButton);
        world.reboot = Some(Reboot::Hard);
        assert_eq!(plan(running, world), [Action::End]);
        world.guest = None;
        assert_eq!(plan(running, world), [Action::Start]);
        let stopped = plan(wish(DesiredPower::Stopped), world);
        assert!(matches!(stopped[0], Action::FailReboot(_)));
    }

    fn any_world() -> impl Strategy<Value = World> {
        let guest = prop_oneof![
            Just(None),
            Just(Some(Guest::Running)),
            Just(Some(Guest::Paused)),
            Just(Some(Guest::PoweredOff)),
        ];
        let reboot = prop_oneof![Just(None), Just(Some(Reboot::Soft)), Just(Some(Reboot::Hard))];
        let seconds = || proptest::option::of((0u64..120).prop_map(Duration::from_secs));
        (guest, any::<bool>(), seconds(), reboot, seconds(), any::<bool>()).prop_map(
            |(guest, powered_off, button, reboot, backoff, given_up)| World {
                guest,
                powered_off,
                button,
                reboot,
                backoff,
                given_up,
            },
        )
    }

    proptest! {
        #[test]
        fn only_a_known_tombstone_removes_and_never_under_a_guest(
            world in any_world(), known: bool, tombstone: bool, running: bool,
        ) {
            let power = if running { DesiredPower::Running } else { DesiredPower::Stopped };
            let actions = plan(Wish { known, tombstone, power }, world);
            prop_assert!(!actions.is_empty());
            let removal = actions.iter().position(|action| *action == Action::Remove);
            let kill = actions.iter().position(|action| *action == Action::Kill);
            prop_assert_eq!(removal.is_some(), known && tombstone && world.backoff.is_none());
            if let Some(removal) = removal {
                prop_assert_eq!(kill.is_some(), world.guest.is_some());
                prop_assert!(kill.is_none_or(|kill| kill < removal));
            } else {
                prop_assert!(kill.is_none());
            }
            if !known {
                prop_assert_eq!(actions, vec![Action::Report(Word::Done)]);
            }
        }

        #[test]
        fn nothing_is_started_beside_a_guest_or_against_the_wish(
            world in any_world(), tombstone: bool, running: bool,
        ) {
            let power = if running { DesiredPower::Running } else { DesiredPower::Stopped };
            let actions = plan(Wish { known: true, tombstone, power }, world);
            if actions.contains(&Action::Start) {
                prop_assert!(world.guest.is_none() && running && !tombstone);
            }
            if actions.contains(&Action::End) {
                prop_assert!(world.guest.is_some());
            }
        }
    }
}
