//! Places in the code at which a test may end the process as a power cut would: with SIGKILL, at
//! exactly that instant. A test thereby shows that no instant is special, and learns the list of
//! places by running through them once, so that a new step is covered without an edit of the test.
//!
//! In a release build a point is nothing at all: the code below is compiled with debug assertions
//! only.
//!
//! ```text
//!   MERIDIAN_KILL_POINTS=DIR    the process looks at this directory
//!   DIR/passed                  while it exists, the name of each point passed is appended
//!   DIR/at                      NAME:NTH, where the process is to die, or NAME:NTH:stop, where it is
//!                               to stop until SIGCONT; renamed to DIR/died first, so that it is
//!                               met once, also where several processes look at one directory
//!   DIR/victim                  the process that met it
//! ```

use std::fmt;

#[cfg(debug_assertions)]
mod armed;

/// Passes a point. The name is made only where a test looks.
#[inline]
pub fn point(name: fmt::Arguments<'_>) {
    #[cfg(debug_assertions)]
    armed::pass(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

/// Whether a test looks at this process's points.
#[inline]
pub fn watched() -> bool {
    #[cfg(debug_assertions)]
    return armed::watched();
    #[cfg(not(debug_assertions))]
    false
}
