//! The clock that the control plane decides by. It is the machine's, except in a debug build that a
//! test started: then the test can make it jump.

use std::sync::Arc;

use cloud_types::{Clock, SystemClock};

/// The clock.
///
/// In debug builds, `MERIDIAN_CLOCK_SHIFT` names a file with a number of seconds, which are added
/// to the machine's time from the moment they stand there.
pub fn clock() -> Arc<dyn Clock> {
    #[cfg(debug_assertions)]
    if let Some(file) = std::env::var_os("MERIDIAN_CLOCK_SHIFT") {
        return Arc::new(shifted::Shifted(file.into()));
    }
    Arc::new(SystemClock)
}

#[cfg(debug_assertions)]
mod shifted {
    use std::path::PathBuf;

    use cloud_types::{Clock, SystemClock, Timestamp};

    pub struct Shifted(pub PathBuf);

    impl Clock for Shifted {
        fn now(&self) -> Timestamp {
            let text = std::fs::read_to_string(&self.0).unwrap_or_default();
            let seconds: i64 = text.trim().parse().unwrap_or_default();
            Timestamp(SystemClock.now().0.saturating_add(seconds.saturating_mul(1_000_000)))
        }
    }
}
