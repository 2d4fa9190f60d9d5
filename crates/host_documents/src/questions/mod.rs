//! Questions to hosts (a console's text) that one process passes on to another: a host has its
//! stream with one replica of the control plane, and a request may come to any.
//!
//! ```text
//!   ask ──▶ asked ──take──▶ taken ──answer──▶ answered ──collect──▶ (gone)
//!             │ the asker gives up, or its process dies: forgotten after a while
//!             └──────────────────────────────────────────────────────────▶ (gone)
//! ```
//! A question changes nothing, so one that is lost is asked again by whoever wants to know.

mod service;
mod store;

pub use service::{answer, ask, collect, forget, take};

/// Notified with a question's id and its host when it was asked.
pub const ASKED: &str = "host_questions";
/// Notified with a question's id when it was answered.
pub const ANSWERED: &str = "host_answers";

#[cfg(test)]
mod tests;
