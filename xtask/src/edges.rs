//! Which crate may see which. The arrows are the architecture: a service that reaches around
//! another's `service.rs`, or an agent that sees the database, is caught here.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::Finding;

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    dependencies: BTreeMap<String, toml::Value>,
}

/// Our crates that each crate may depend on. A crate that is not listed is refused, so that a new
/// one is placed on purpose.
const ALLOWED: &[(&str, &[&str])] = &[
    ("cloud_types", &[]),
    ("kill_points", &[]),
    ("planted_bugs", &[]),
    ("openflow", &[]),
    ("ovsdb", &[]),
    ("host_protocol", &["cloud_types"]),
    ("database", &["cloud_types", "planted_bugs"]),
    ("workflow_engine", &["cloud_types", "database", "kill_points", "planted_bugs"]),
    ("host_documents", &["cloud_types", "database", "host_protocol", "planted_bugs"]),
    ("service_kit", &["cloud_types", "database", "workflow_engine", "planted_bugs"]),
    ("identity", &["cloud_types", "database", "workflow_engine", "service_kit", "planted_bugs"]),
    (
        "network",
        &[
            "cloud_types",
            "database",
            "workflow_engine",
            "service_kit",
            "identity",
            "host_protocol",
            "host_documents",
            "planted_bugs",
        ],
    ),
    (
        "storage",
        &["cloud_types", "database", "workflow_engine", "service_kit", "identity", "planted_bugs"],
    ),
    (
        "compute",
        &[
            "cloud_types",
            "database",
            "workflow_engine",
            "service_kit",
            "identity",
            "host_protocol",
            "host_documents",
            "network",
            "storage",
            "planted_bugs",
        ],
    ),
    ("flow_compiler", &["cloud_types", "host_protocol", "openflow"]),
    (
        "host_agent",
        &[
            "cloud_types",
            "host_protocol",
            "flow_compiler",
            "kill_points",
            "planted_bugs",
            "openflow",
            "ovsdb",
        ],
    ),
    ("auditor", &["cloud_types", "database", "service_kit"]),
    (
        "control_plane",
        &[
            "auditor",
            "cloud_types",
            "database",
            "workflow_engine",
            "service_kit",
            "host_documents",
            "host_protocol",
            "identity",
            "kill_points",
            "network",
            "storage",
            "compute",
            "planted_bugs",
        ],
    ),
    (
        "simulated_cloud",
        &["cloud_types", "host_protocol", "host_agent", "control_plane", "openflow"],
    ),
    (
        "simulation",
        &[
            "auditor",
            "cloud_types",
            "compute",
            "control_plane",
            "database",
            "host_agent",
            "host_documents",
            "host_protocol",
            "identity",
            "planted_bugs",
            "service_kit",
            "storage",
        ],
    ),
    ("meridian", &["cloud_types", "control_plane", "host_agent", "host_protocol"]),
];

/// Checks every crate under `crates/`.
pub fn check(root: &Path, refused: &mut Vec<Finding>) -> Result<()> {
    for entry in std::fs::read_dir(root.join("crates"))? {
        let path = entry?.path().join("Cargo.toml");
        if !path.exists() {
            continue;
        }
        let name = path
            .parent()
            .and_then(Path::file_name)
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let manifest: Manifest = toml::from_str(&std::fs::read_to_string(&path)?)
            .with_context(|| path.display().to_string())?;
        let Some((_, allowed)) = ALLOWED.iter().find(|(crate_name, _)| *crate_name == name) else {
            refused.push(Finding::new(
                format!("crates/{name}"),
                "a new crate: give it its place among the arrows in xtask/src/edges.rs and docs/ARCHITECTURE.md",
            ));
            continue;
        };
        for dependency in manifest.dependencies.keys() {
            let ours = ALLOWED.iter().any(|(crate_name, _)| crate_name == dependency);
            if ours && !allowed.contains(&dependency.as_str()) {
                refused.push(Finding::new(
                    format!("crates/{name}/Cargo.toml"),
                    format!(
                        "{name} may not see {dependency}; pass what it needs as a trait or a value from a crate that sees both"
                    ),
                ));
            }
        }
    }
    Ok(())
}
