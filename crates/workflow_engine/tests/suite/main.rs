//! The engine on both databases, working by itself: several kinds, several workers, time that
//! passes, events that come at the worst moment.

mod events;
mod failures;
mod probe;
mod workers;
