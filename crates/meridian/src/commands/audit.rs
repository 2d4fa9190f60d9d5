//! `meridian audit`: what the auditor finds, now.

use anyhow::{Result, bail};
use control_plane::init;
use control_plane::layout::Layout;

/// Audits and prints one finding a line.
///
/// # Errors
/// When something is wrong and was not put right, or the audit could not be done.
pub async fn audit(layout: &Layout, repair: bool) -> Result<()> {
    let findings = init::audit(layout, repair).await?;
    let mut left = 0;
    for (finding, repaired) in &findings {
        let note = match (repaired, finding.kind.needs_patience()) {
            (true, _) => " [repaired]",
            (false, true) => " [a host may merely be slow: look again]",
            (false, false) => "",
        };
        left += usize::from(!repaired);
        println!("{finding}{note}");
    }
    match left {
        0 => {
            println!("nothing is wrong");
            Ok(())
        }
        1 => bail!("1 thing is wrong"),
        count => bail!("{count} things are wrong"),
    }
}
