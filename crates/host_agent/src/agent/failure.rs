//! Why something could not be done for a server, in the words of a report, and whether trying
//! again can help.

use std::time::Duration;

use host_protocol::ReportError;
use tokio::time::Instant;

use crate::edges::LinkError;
use crate::hypervisor::HypervisorError;
use crate::image_cache::ImageError;
use crate::pool::PoolError;
use crate::store::StoreError;

/// How often a start is tried when the same words would fail the same way.
const TRIES: u32 = 3;
/// The first and the longest wait between tries.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// A guest that crashes more often than this within the window is not started again by itself.
const MAX_CRASHES: usize = 5;
const CRASH_WINDOW: Duration = Duration::from_secs(600);

/// A failed act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// A stable word for programs.
    pub code: &'static str,
    /// What happened and why, for people.
    pub message: String,
    /// Whether it may pass by itself (a full disk, an unreachable region): tried for ever. Else
    /// it is given up after a few tries.
    pub may_pass: bool,
}

impl Failure {
    fn new(code: &'static str, message: impl Into<String>, may_pass: bool) -> Failure {
        Failure { code, message: message.into(), may_pass }
    }

    /// The report's form of it.
    pub fn report(&self, retrying: bool) -> ReportError {
        ReportError { code: self.code.to_owned(), message: self.message.clone(), retrying }
    }

    /// Ports that are not ready.
    pub fn ports(missing: &[&str]) -> Failure {
        Failure::new(
            "port_not_ready",
            format!(
                "waiting for the switch to take over port {}; see the host's log when this stays",
                missing.join(", ")
            ),
            true,
        )
    }

    /// A guest that ended without being asked.
    pub fn crashed(detail: &str) -> Failure {
        Failure::new("qemu_exited", format!("the guest's QEMU ended unasked: {detail}"), true)
    }

    /// A config drive that cannot be built.
    pub fn config_drive(why: &str) -> Failure {
        Failure::new("bad_config_drive", format!("the config drive cannot be built: {why}"), false)
    }
}

impl From<ImageError> for Failure {
    fn from(error: ImageError) -> Failure {
        let (code, may_pass) = match &error {
            ImageError::NotFound(_) => ("no_such_image", false),
            ImageError::Corrupt { .. } => ("image_corrupt", false),
            ImageError::Unreachable { .. } => ("image_unreachable", true),
            ImageError::Full(_) => ("disk_full", true),
            ImageError::Io(_) => ("host_error", true),
        };
        Failure::new(code, error.to_string(), may_pass)
    }
}

impl From<PoolError> for Failure {
    fn from(error: PoolError) -> Failure {
        let (code, may_pass) = match &error {
            PoolError::Full(_) => ("disk_full", true),
            PoolError::TooSmall(_) => ("disk_too_small", false),
            PoolError::BadImage(_) => ("image_corrupt", false),
            PoolError::Io(_) => ("host_error", true),
        };
        Failure::new(code, error.to_string(), may_pass)
    }
}

impl From<HypervisorError> for Failure {
    fn from(error: HypervisorError) -> Failure {
        let (code, may_pass) = match &error {
            HypervisorError::Exited(_) => ("qemu_exited", false),
            HypervisorError::AlreadyRunning => ("already_running", true),
            HypervisorError::NotRunning => ("not_running", true),
            HypervisorError::Unresponsive(_) => ("qemu_unresponsive", true),
            HypervisorError::Host(_) => ("host_error", false),
        };
        Failure::new(code, error.to_string(), may_pass)
    }
}

impl From<LinkError> for Failure {
    fn from(error: LinkError) -> Failure {
        Failure::new("device_error", error.to_string(), true)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        Failure::new("host_error", error.to_string(), true)
    }
}

/// Counts failures, and says when to try again.
#[derive(Clone, Debug, Default)]
pub struct Retry {
    failures: u32,
    not_before: Option<Instant>,
    given_up: bool,
    crashes: Vec<Instant>,
}

impl Retry {
    /// Begins anew: the document changed, or somebody asked explicitly.
    pub fn reset(&mut self) {
        *self = Retry::default();
    }

    /// An act succeeded; crashes are still counted.
    pub fn succeeded(&mut self) {
        self.failures = 0;
        self.not_before = None;
        self.given_up = false;
    }

    /// An act failed.
    pub fn failed(&mut self, failure: &Failure, now: Instant) {
        self.failures += 1;
        self.not_before = Some(now + wait(self.failures));
        if !failure.may_pass && self.failures >= TRIES {
            self.give_up();
        }
    }

    /// A guest crashed.
    pub fn crashed(&mut self, now: Instant) {
        self.crashes.retain(|then| now.duration_since(*then) < CRASH_WINDOW);
        self.crashes.push(now);
        let crashes = u32::try_from(self.crashes.len()).unwrap_or(u32::MAX);
        self.not_before = Some(now + wait(crashes));
        if self.crashes.len() > MAX_CRASHES {
            self.give_up();
        }
    }

    /// Waits before an act that is not a failure, such as waking a paused guest again.
    pub fn pause(&mut self, until: Instant) {
        self.not_before = Some(until);
    }

    fn give_up(&mut self) {
        self.given_up = true;
        self.not_before = None;
    }

    /// Whether it is no longer tried.
    pub fn given_up(&self) -> bool {
        self.given_up
    }

    /// How long to wait yet.
    pub fn backoff(&self, now: Instant) -> Option<Duration> {
        let wait = self.not_before?.saturating_duration_since(now);
        (!wait.is_zero()).then_some(wait)
    }
}

fn wait(failures: u32) -> Duration {
    FIRST_WAIT.saturating_mul(1 << failures.saturating_sub(1).min(6)).min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_pass_is_given_up_and_what_can_is_not() {
        let now = Instant::now();
        let mut retry = Retry::default();
        let lasting = Failure::from(HypervisorError::Exited("bad".to_owned()));
        for _ in 0..TRIES - 1 {
            retry.failed(&lasting, now);
            assert!(!retry.given_up());
            assert!(retry.backoff(now).is_some());
        }
        retry.failed(&lasting, now);
        assert!(retry.given_up() && retry.backoff(now).is_none());
        retry.reset();
        let passing = Failure::from(PoolError::Full("full".to_owned()));
        for _ in 0..100 {
            retry.failed(&passing, now);
        }
        assert!(!retry.given_up());
        assert_eq!(retry.backoff(now), Some(LONGEST_WAIT));
        assert_eq!(retry.backoff(now + LONGEST_WAIT), None);
    }

    #[test]
    fn a_guest_that_crashes_now_and_then_is_always_started_again() {
        let mut now = Instant::now();
        let mut retry = Retry::default();
        for _ in 0..50 {
            retry.crashed(now);
            retry.succeeded();
            assert!(!retry.given_up());
            now += CRASH_WINDOW / 4;
        }
        for _ in 0..=MAX_CRASHES {
            retry.succeeded();
            retry.crashed(now);
        }
        assert!(retry.given_up());
    }
}
