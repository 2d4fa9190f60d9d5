//! Operators' commands about identity that need no running cloud.

use std::path::Path;

use anyhow::{Context, Result, bail};

/// `meridian identity mapping test`: what a mapping makes of an assertion, and why. Fails when nobody
/// could log in with it, so that scripts can rely on it.
pub fn test_mapping(rules: &Path, input: &Path) -> Result<()> {
    let read = |path: &Path| {
        std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
    };
    match control_plane::explain_mapping(&read(rules)?, &read(input)?) {
        Ok(text) => {
            print!("{text}");
            Ok(())
        }
        Err(text) => bail!("{text}"),
    }
}
