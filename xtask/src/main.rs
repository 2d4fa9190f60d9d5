//! Chores of the workspace that cargo has no command for. `cargo xtask tidy` holds the code to
//! the conventions of docs/ARCHITECTURE.md; each refusal says what to do instead.

mod edges;
mod files;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// One departure from a convention.
pub struct Finding {
    /// Where.
    pub place: String,
    /// What, and what to do instead.
    pub message: String,
}

impl Finding {
    fn new(place: impl Into<String>, message: impl Into<String>) -> Self {
        Finding { place: place.into(), message: message.into() }
    }
}

fn main() -> ExitCode {
    let root = workspace_root();
    match std::env::args().nth(1).as_deref() {
        Some("tidy") => tidy(&root),
        other => {
            if let Some(word) = other {
                eprintln!("xtask: there is no chore named {word:?}");
            }
            eprintln!("usage: cargo xtask tidy");
            ExitCode::from(2)
        }
    }
}

fn tidy(root: &Path) -> ExitCode {
    let mut refused = Vec::new();
    let mut advised = Vec::new();
    let outcome = edges::check(root, &mut refused)
        .and_then(|()| files::check(root, &mut refused, &mut advised));
    if let Err(error) = outcome {
        eprintln!("tidy could not look: {error:#}");
        return ExitCode::from(2);
    }
    for finding in &advised {
        println!("advice: {}: {}", finding.place, finding.message);
    }
    for finding in &refused {
        println!("refused: {}: {}", finding.place, finding.message);
    }
    println!("tidy: {} refused, {} advised", refused.len(), advised.len());
    if refused.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map_or_else(|| PathBuf::from("."), Path::to_owned)
}
