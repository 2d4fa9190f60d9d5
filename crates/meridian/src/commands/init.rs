//! `meridian init`: a cloud where there was none, with this machine as its first host.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use control_plane::init;
use control_plane::layout::Layout;

use super::host;

/// What the command line says.
pub struct Options {
    /// Where the public API listens.
    pub listen: SocketAddr,
    /// Where hosts connect.
    pub gateway_listen: Option<SocketAddr>,
    /// Name under which clients reach both.
    pub public_name: Option<String>,
    /// First in the names of devices.
    pub prefix: String,
    /// The database's URL.
    pub database: String,
}

/// Makes what is missing.
pub async fn run(layout: &Layout, options: Options) -> Result<()> {
    let next_port = options
        .listen
        .port()
        .checked_add(1)
        .context("the API's port is the last there is; give --gateway-listen")?;
    let gateway_listen =
        options.gateway_listen.unwrap_or_else(|| SocketAddr::new(options.listen.ip(), next_port));
    let config = init::init(
        layout,
        &init::Options {
            listen: options.listen,
            gateway_listen,
            public_name: options.public_name,
            prefix: options.prefix,
            database: options.database,
        },
    )
    .await?;
    if !host::config_path(layout).exists() {
        let token = init::join_token(layout, None, "cluster-1", "l2-1").await?;
        host::join(host::Join {
            state: layout.root().to_owned(),
            url: vec![config.gateway.url.clone()],
            authority: layout.authority(),
            token,
            name: machine_name(),
            underlay: None,
            underlay_ageing: 300,
            prefix: config.instance.prefix.clone(),
            accelerator: None,
            host_ip: Some(config.api.listen.ip()),
            dns: Vec::new(),
        })?;
    }
    println!("API      {}", config.api.public_url);
    println!("clouds   {}", layout.clouds().display());
    Ok(())
}

/// This machine's name, as far as it can be a host's name.
fn machine_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name
        .trim()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-' || *c == '.')
        .collect();
    if name.is_empty() { "host-1".into() } else { name }
}
