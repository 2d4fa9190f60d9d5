//! What a point does when a test looks.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use nix::sys::signal::{Signal, kill};
use nix::unistd::getpid;

struct Armed {
    directory: PathBuf,
    /// Where to die, and how often that point was passed since this was asked.
    count: Mutex<(String, u32)>,
}

fn armed() -> Option<&'static Armed> {
    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
    ARMED
        .get_or_init(|| {
            let directory = PathBuf::from(std::env::var_os("MERIDIAN_KILL_POINTS")?);
            Some(Armed { directory, count: Mutex::default() })
        })
        .as_ref()
}

pub fn watched() -> bool {
    armed().is_some()
}

pub fn pass(name: fmt::Arguments<'_>) {
    let Some(armed) = armed() else { return };
    let name = name.to_string();
    // Held to the end: a process passes one point at a time, and dies at one.
    let mut count = armed.count.lock().unwrap_or_else(PoisonError::into_inner);
    if let Ok(mut passed) = OpenOptions::new().append(true).open(armed.directory.join("passed")) {
        // A point that is not written down is not covered; the test sees that it covers nothing.
        let _ = passed.write_all(format!("{name}\n").as_bytes());
    }
    let at = armed.directory.join("at");
    let asked = std::fs::read_to_string(&at).unwrap_or_default();
    if asked != count.0 {
        *count = (asked.clone(), 0);
    }
    let (place, stop) = match asked.trim().strip_suffix(":stop") {
        Some(place) => (place, true),
        None => (asked.trim(), false),
    };
    let (wanted, nth) = match place.rsplit_once(':') {
        Some((wanted, nth)) => (wanted, nth.parse().unwrap_or(1)),
        None => return,
    };
    if wanted != name {
        return;
    }
    count.1 += 1;
    if count.1 == nth && take(&armed.directory, &at) {
        if stop {
            // All threads stand still here until somebody says SIGCONT.
            let _ = kill(getpid(), Signal::SIGSTOP);
            return;
        }
        // Nothing of this process runs after it: the signal cannot be caught.
        let _ = kill(getpid(), Signal::SIGKILL);
        loop {
            std::thread::park();
        }
    }
}

/// Of several processes at the point, one is met.
fn take(directory: &Path, at: &Path) -> bool {
    let own = directory.join(format!("met-by-{}", getpid()));
    std::fs::rename(at, &own).is_ok()
        && std::fs::write(directory.join("victim"), getpid().to_string()).is_ok()
        && std::fs::rename(&own, directory.join("died")).is_ok()
}
