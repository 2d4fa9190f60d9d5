//! What a source file may hold, judged by its name and its crate.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::Finding;

const ADVISED_LINES: usize = 500;
const MAX_LINES: usize = 800;

/// Crates whose folders are resources: SQL only in `store.rs`, HTTP only in `api.rs`.
const SERVICES: &[&str] = &["identity", "network", "storage", "compute"];

/// Crates in which SQL may also stand elsewhere: the layer beneath the stores.
const BELOW_STORES: &[&str] = &["database"];

const SQL_STARTS: &[&str] =
    &["\"SELECT ", "\"INSERT INTO ", "\"UPDATE ", "\"DELETE FROM ", "\"CREATE TABLE "];

/// Checks every Rust file of the workspace.
pub fn check(root: &Path, refused: &mut Vec<Finding>, advised: &mut Vec<Finding>) -> Result<()> {
    let mut files = Vec::new();
    for folder in ["crates", "xtask", "tests", "bench"] {
        collect(&root.join(folder), &mut files)?;
    }
    files.sort();
    for path in files {
        let text = std::fs::read_to_string(&path)?;
        let place = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        check_file(&place, &text, refused, advised);
    }
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            if path.file_name().is_none_or(|name| name != "target") {
                collect(&path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

fn check_file(place: &str, text: &str, refused: &mut Vec<Finding>, advised: &mut Vec<Finding>) {
    let lines = text.lines().count();
    if lines > MAX_LINES {
        refused.push(Finding::new(
            place,
            format!("{lines} lines; {MAX_LINES} is the limit. Turn the file into a folder of the same name, one idea a file"),
        ));
    } else if lines > ADVISED_LINES {
        advised.push(Finding::new(place, format!("{lines} lines; {ADVISED_LINES} read better")));
    }
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    if !first.starts_with("//!") {
        refused.push(Finding::new(place, "a module begins with //! and says why it exists"));
    }
    let mut parts = place.split('/');
    let krate = match (parts.next(), parts.next()) {
        (Some("crates"), Some(name)) => name,
        _ => return,
    };
    let in_source = place.contains("/src/");
    let name = place.rsplit('/').next().unwrap_or_default();
    let is_test =
        name == "tests.rs" || place.contains("/tests/") || name.starts_with("test_support");
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    if in_source && !is_test && !BELOW_STORES.contains(&krate) && krate != "host_agent" {
        let in_store = name == "store.rs"
            || place.contains("/store/")
            || place.contains("/migrations/")
            || name == "migrations.rs";
        if !in_store && code.lines().any(holds_sql) {
            refused.push(Finding::new(
                place,
                "SQL stands only in store.rs: move the statement there and call it",
            ));
        }
    }
    if in_source && !is_test && SERVICES.contains(&krate) {
        let may_speak_http = name == "api.rs" || place.contains("/api/") || name == "lib.rs";
        if !may_speak_http && code.lines().any(|line| line.trim_start().starts_with("use axum")) {
            refused.push(Finding::new(
                place,
                "HTTP types stand only in api.rs: return a value or a Fault, and shape it there",
            ));
        }
    }
}

fn holds_sql(line: &str) -> bool {
    let line = line.trim_start();
    !line.starts_with("//") && SQL_STARTS.iter().any(|start| line.contains(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusals(place: &str, text: &str) -> Vec<String> {
        let (mut refused, mut advised) = (Vec::new(), Vec::new());
        check_file(place, text, &mut refused, &mut advised);
        refused.into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn sql_belongs_in_the_store() {
        let text = "//! why\nfn f() { q(\"SELECT 1\"); }\n";
        assert_eq!(refusals("crates/network/src/port/service.rs", text).len(), 1);
        assert!(refusals("crates/network/src/port/store.rs", text).is_empty());
    }

    #[test]
    fn http_belongs_in_the_api() {
        let text = "//! why\nuse axum::Json;\n";
        assert_eq!(refusals("crates/compute/src/server/service.rs", text).len(), 1);
        assert!(refusals("crates/compute/src/server/api.rs", text).is_empty());
    }

    #[test]
    fn a_module_says_why() {
        assert_eq!(refusals("crates/openflow/src/lib.rs", "pub mod x;\n").len(), 1);
    }

    #[test]
    fn a_file_ends_at_the_limit() {
        let text = format!("//! why\n{}", "\n".repeat(MAX_LINES));
        assert_eq!(refusals("crates/openflow/src/lib.rs", &text).len(), 1);
    }
}
