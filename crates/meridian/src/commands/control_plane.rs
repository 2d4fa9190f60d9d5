//! `meridian control-plane`: the role.

use anyhow::Result;
use control_plane::config::Config;
use control_plane::layout::Layout;
use tokio::signal::unix::{SignalKind, signal};

/// Runs the control plane until `SIGTERM` or `SIGINT`.
pub async fn run(layout: &Layout) -> Result<()> {
    let config = Config::read(&layout.config())?;
    let server = control_plane::server::start(layout, config).await?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("ending");
    server.stop().await;
    Ok(())
}
