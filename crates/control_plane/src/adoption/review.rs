//! The control plane while a restored database is under review: hosts connect, are told nothing and
//! asked what they have; users are told why nothing is served.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use cloud_types::{Fault, HostId};
use database::{Database, Origin};
use host_documents::inventories;
use host_protocol::{HostAnswer, HostQuery};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::service::is_pending;
use crate::config::Config;
use crate::gateway::{self, Connections};
use crate::init;
use crate::layout::Layout;
use crate::pki::Authority;

/// How often it is looked whether an operator has ended the review.
const LOOK: Duration = Duration::from_secs(1);

/// Serves until the review is over, or `shutdown`; false for the latter.
pub async fn review(
    layout: &Layout,
    config: &Config,
    db: &Database,
    shutdown: &CancellationToken,
) -> Result<bool> {
    tracing::warn!(
        "the database was restored from a backup: nothing is changed until an operator has \
         compared it with what hosts have (`meridian adopt`)"
    );
    let stop = shutdown.child_token();
    let tasks = TaskTracker::new();
    let connections = Arc::new(Connections::default());
    let authority = Arc::new(Authority::open_or_create(&layout.pki(), "Meridian")?);
    let tls = gateway::tls_config(
        authority.certificate(),
        &init::server_certificate(layout, "gateway")?,
    )?;
    let listener = TcpListener::bind(config.gateway.listen)
        .await
        .with_context(|| format!("listening on {} for hosts", config.gateway.listen))?;
    let router = gateway::review_router(db.clone(), connections.clone(), stop.clone());
    tasks.spawn(gateway::serve(listener, Arc::new(tls), router, stop.clone()));

    let tls = service_kit::tls::server_config(
        &layout.pki().join("api.pem"),
        &layout.pki().join("api.key"),
    )?;
    let listener = TcpListener::bind(config.api.listen)
        .await
        .with_context(|| format!("listening on {} for the API", config.api.listen))?;
    let api = Router::new().fallback(refuse);
    tasks.spawn(gateway::serve(listener, tls, api, stop.clone()));
    tasks.close();

    let over = loop {
        tokio::select! {
            () = shutdown.cancelled() => break false,
            () = tokio::time::sleep(LOOK) => {}
        }
        match is_pending(db).await {
            Ok(true) => {}
            Ok(false) => break true,
            Err(error) => tracing::warn!(%error, "cannot see whether the review is over"),
        }
    };
    stop.cancel();
    tasks.wait().await;
    Ok(over)
}

async fn refuse() -> impl IntoResponse {
    let body = serde_json::json!({"error": {
        "code": 503, "title": "Service Unavailable",
        "message": "The cloud's database was restored from a backup. Servers run on; nothing can be \
                    changed until the operator has compared the backup with the hosts.",
    }});
    (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "60")], axum::Json(body))
}

/// Asks a host that has connected what it has, and keeps the answer.
pub async fn ask(db: Database, connections: Arc<Connections>, host: HostId) {
    let asked = async {
        let HostAnswer::Inventory { held } =
            connections.ask_now(host, HostQuery::Inventory).await?
        else {
            return Err(Fault::unavailable("the host cannot say what it has"));
        };
        db.transact(&Origin::system("adopt"), move |tx| {
            let held = held.clone();
            Box::pin(async move { Ok::<_, Fault>(inventories::put(tx, &host, &held).await?) })
        })
        .await
    };
    match asked.await {
        Ok(()) => tracing::info!(%host, "a host has said what it has"),
        Err(fault) => {
            tracing::warn!(%host, %fault, "a host was not heard; it is asked again when it connects")
        }
    }
}
