//! Answers of the real services, recorded once, and the comparison of a cloud's answers with them.
//!
//! `tests/recorded/requests/GROUP.json` lists requests, in the order in which they are sent.
//! [`Talk`] sends them to whatever speaks the API: to the real services when answers are recorded
//! (`cargo run -p black_box --bin record`, which writes `tests/recorded/answers/GROUP.json`), and
//! to this cloud in a test. Because one piece of code does both, and writes down both in the same
//! normal form ([`Normal`]), what is left to compare ([`compare`]) is what a client would notice:
//! status, headers, keys, types, nulls, formats and values. Where this cloud differs on purpose,
//! `tests/recorded/differences.toml` says so and why ([`Differences`]); an entry that no longer
//! matches anything fails the test, so that the table stays true.

mod compare;
mod differences;
mod normal;
mod request;
mod talk;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use compare::{Difference, compare};
pub use differences::Differences;
pub use normal::Normal;
pub use request::{Request, read_requests};
pub use talk::{Account, Talk};

/// The groups of requests, in the order in which they are recorded.
pub const GROUPS: [&str; 5] = ["discovery", "identity", "image", "network", "compute"];

/// One answer in normal form.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Recorded {
    /// The HTTP status.
    pub status: u16,
    /// The headers that clients look at, by lower-case name.
    pub headers: BTreeMap<String, String>,
    /// The body: JSON, or a text that says what it was.
    pub body: Value,
}

/// Answers by the name of their request.
pub type Answers = BTreeMap<String, Recorded>;

/// `tests/recorded`, with what was recorded.
pub fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("recorded")
}
