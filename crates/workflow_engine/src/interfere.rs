//! Where tests reach into the engine: a step can be made to fail, to run again, or to take its
//! worker with it.

use std::sync::Arc;

use crate::model::Direction;
use crate::step::Outcome;

/// What a test does to a step. Nobody interferes but tests.
#[cfg_attr(not(feature = "test_support"), allow(dead_code))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interference {
    /// Nothing happens.
    None,
    /// The step fails as if by itself.
    Fail,
    /// The step's outcome is lost after it was carried out: it runs again.
    Repeat,
    /// The worker dies before its transaction is stored.
    Die,
}

/// Asks for interference: (step, direction, outcome; `None` before the step runs).
pub(crate) type Interfere =
    Arc<dyn Fn(&'static str, Direction, Option<&Outcome>) -> Interference + Send + Sync>;
