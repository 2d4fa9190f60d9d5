//! Identity alone, on a database in memory: for trying a client against it.
//!
//! `cargo run -p identity --example identity_server -- 127.0.0.1:5000`, then
//! `OS_AUTH_URL=http://127.0.0.1:5000/identity/v3 OS_USERNAME=admin OS_PASSWORD=admin
//! OS_PROJECT_NAME=admin OS_USER_DOMAIN_ID=default OS_PROJECT_DOMAIN_ID=default openstack …`

use std::sync::Arc;

use cloud_types::SystemClock;
use database::{Database, DatabaseConfig};
use identity::{
    BootstrapConfig, DemoConfig, HashParams, Identity, IdentityConfig, KeySource, POLICY, Tokens,
    bootstrap, routes,
};
use service_kit::{App, Kit, KitConfig, Policy, ServeConfig, serve};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:5000".to_owned());
    let db = Database::open(&DatabaseConfig::SqliteMemory, Arc::new(SystemClock)).await?;
    db.migrate(&[service_kit::MIGRATIONS, identity::MIGRATIONS]).await?;
    let config = BootstrapConfig {
        admin_password: "admin".to_owned(),
        region: "region-1".to_owned(),
        base_url: format!("http://{address}"),
        demo: Some(DemoConfig { name: "demo".to_owned(), password: "demo".to_owned() }),
        hashing: HashParams::default(),
    };
    bootstrap(&db, &config).await?;
    let tokens = Tokens::open(&db, &KeySource::Ephemeral).await?;
    let kit = Kit::new(db, Policy::new(&[POLICY])?, tokens.clone(), KitConfig::default());
    let identity = Identity::new(kit.clone(), tokens, IdentityConfig::default());
    let shutdown = CancellationToken::new();
    let follower = {
        let (identity, shutdown) = (identity.clone(), shutdown.clone());
        tokio::spawn(async move { identity.run(shutdown).await })
    };
    let app = App::new(kit, vec![routes(identity)])?;
    let listener = tokio::net::TcpListener::bind(&address).await?;
    let stop = shutdown.clone();
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        stop.cancel();
    });
    println!("identity at http://{address}/identity/v3");
    serve(listener, None, app, ServeConfig::default(), shutdown).await;
    follower.await?;
    Ok(())
}
