//! Bugs planted by somebody who has read neither the auditor nor the simulation's own checks, so
//! that the simulation is not only shown to find what it was built to find.
//!
//! To plant one, without looking at `crates/auditor` or `crates/simulation`: add its name and a
//! sentence here, and make the mistake behind `planted_bugs::planted("its_name")` where it belongs.
//! `./dev simulate --seeds 1-200 --bug its_name` then says which seed finds it.

use super::Bug;

/// Bugs that were planted blindly.
pub(crate) const BUGS: &[Bug] = &[];
