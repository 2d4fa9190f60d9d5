//! Bugs planted by somebody who has read neither the auditor nor the simulation's own checks, so
//! that the simulation is not only shown to find what it was built to find.
//!
//! To plant one, without looking at `crates/auditor` or `crates/simulation`: add its name and a
//! sentence here, and make the mistake behind `planted_bugs::planted("its_name")` where it belongs.
//! `./dev simulate --seeds 1-200 --bug its_name` then says which seed finds it.

use super::Bug;

/// Bugs that were planted blindly.
pub(crate) const BUGS: &[Bug] = &[
    Bug {
        name: "skip_undo_of_failed_step",
        what: "A workflow that fails or is cancelled in a step is undone from the step before it, so what that step left stays.",
    },
    Bug {
        name: "let_tombstone_stand",
        what: "What a host should have again, unchanged, is not said while the tombstone of it is on its way, so the host loses it.",
    },
    Bug {
        name: "leave_neighbours_behind",
        what: "When the last port of a network leaves a host, the host keeps the neighbours, and is not told when they go.",
    },
    Bug {
        name: "keep_power_off_from_host",
        what: "A guest that switched itself off is shown as off, but its host's document goes on wanting it to run.",
    },
    Bug {
        name: "reboot_again_after_restart",
        what: "A restarted agent does not look up what it did for a reboot that still stands, and does it a second time.",
    },
];
