//! The gateway's routes. Faults are JSON: `{"error": {"code", "message"}}`.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use cloud_types::{Fault, HostId, ImageId};
use database::{Database, Origin};
use host_documents::{hosts, reports};
use host_protocol::{
    EnrolRequest, EnrolResponse, HostAnswer, MAX_REPORTS, ReportResult, ReportResults, Reports,
};
use kill_points::point;
use planted_bugs::planted;
use serde::Deserialize;
use storage::image::Images;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::connections::Connections;
use super::images::may_read;
use super::listener::PeerHost;
use super::reports::ReportRouter;
use super::stream::{self, Known};
use crate::adoption;
use crate::pki::{Authority, HostRequest};
use crate::replica::View;

/// Largest body of an enrolment.
const ENROL_LIMIT_BYTES: usize = 32 * 1024;
/// Largest body of a batch of reports, and of an answer (a console's text).
const REPORT_LIMIT_BYTES: usize = 16 * 1024 * 1024;

/// What the routes need.
#[derive(Clone)]
pub struct Gateway {
    /// Rows.
    pub db: Database,
    /// Signs hosts' certificates.
    pub authority: Arc<Authority>,
    /// Open streams and questions.
    pub connections: Arc<Connections>,
    /// Who hears of reports.
    pub reports: Arc<ReportRouter>,
    /// The zone's images.
    pub images: Images,
    /// What is known of this replica and of others.
    pub view: watch::Receiver<View>,
    /// Ends streams.
    pub shutdown: CancellationToken,
}

/// The routes, below `/host/v1`.
pub fn router(gateway: Gateway) -> Router {
    Router::new()
        .route("/host/v1/enrol", post(enrol).layer(DefaultBodyLimit::max(ENROL_LIMIT_BYTES)))
        .route("/host/v1/documents", get(documents))
        .route("/host/v1/reports", post(report))
        .route("/host/v1/answers/{id}", post(answer))
        .route("/host/v1/images/{id}", get(image))
        .layer(DefaultBodyLimit::max(REPORT_LIMIT_BYTES))
        .with_state(gateway)
}

/// What the routes need while a restored database is under review.
#[derive(Clone)]
struct Review {
    db: Database,
    connections: Arc<Connections>,
    shutdown: CancellationToken,
}

/// The routes while a restored database is under review: hosts are told nothing, and asked.
pub fn review_router(
    db: Database,
    connections: Arc<Connections>,
    shutdown: CancellationToken,
) -> Router {
    Router::new()
        .route("/host/v1/documents", get(review_documents))
        .route("/host/v1/answers/{id}", post(review_answer))
        .fallback(under_review)
        .layer(DefaultBodyLimit::max(REPORT_LIMIT_BYTES))
        .with_state(Review { db, connections, shutdown })
}

async fn under_review() -> GatewayFault {
    GatewayFault(Fault::unavailable(
        "The region's database was restored and is under review. Keep what you have, and try again.",
    ))
}

async fn review_documents(
    State(review): State<Review>,
    Extension(peer): Extension<PeerHost>,
) -> GatewayResult<Response> {
    let host = host_of(peer)?;
    // A host that joined after the backup was made has no row: it is told nothing, like the others.
    let known = review
        .db
        .read(move |tx| Box::pin(async move { Ok::<_, Fault>(hosts::get(tx, &host).await?) }))
        .await?;
    let connection = review.connections.open(host);
    let lines = stream::start_review(review.db.lineage(), connection, review.shutdown.clone());
    if known.is_some() {
        tokio::spawn(adoption::ask(review.db.clone(), review.connections.clone(), host));
    } else {
        tracing::warn!(%host, "a host connects that the backup does not know");
    }
    let body = Body::from_stream(futures::stream::unfold(lines, |mut lines| async move {
        lines.recv().await.map(|line| (line, lines))
    }));
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

async fn review_answer(
    State(review): State<Review>,
    Extension(peer): Extension<PeerHost>,
    Path(id): Path<String>,
    Json(answer): Json<HostAnswer>,
) -> GatewayResult<StatusCode> {
    let host = host_of(peer)?;
    if review.connections.answer(host, &id, answer) {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Fault::not_found("No question of that id waits for this host's answer.").into())
    }
}

struct GatewayFault(Fault);

impl From<Fault> for GatewayFault {
    fn from(fault: Fault) -> Self {
        GatewayFault(fault)
    }
}

impl IntoResponse for GatewayFault {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.0.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body =
            serde_json::json!({"error": {"code": self.0.status(), "message": self.0.message}});
        (status, Json(body)).into_response()
    }
}

type GatewayResult<T> = Result<T, GatewayFault>;

fn host_of(peer: PeerHost) -> Result<HostId, Fault> {
    peer.0.ok_or_else(|| {
        Fault::unauthorized(
            "This needs a host's certificate. A new host gets one from POST /host/v1/enrol with a join token.",
        )
    })
}

async fn enrol(
    State(gateway): State<Gateway>,
    Json(request): Json<EnrolRequest>,
) -> GatewayResult<Json<EnrolResponse>> {
    // The request is checked whole before the token is used up; its signature shows that who asks
    // holds the key, which is what allows to ask again.
    let wanted = HostRequest::read(&request.csr).map_err(|error| {
        Fault::bad_request(format!("The certificate signing request is not usable: {error}"))
    })?;
    let key = wanted.public_key();
    let origin = Origin::system("host-enrolment");
    let (token, name) = (request.token.clone(), request.name.clone());
    let host = gateway
        .db
        .transact(&origin, move |tx| {
            let (token, name, key) = (token.clone(), name.clone(), key.clone());
            Box::pin(async move { hosts::enrol(tx, &token, &name, &key).await })
        })
        .await?;
    let certificate =
        gateway.authority.sign_host(&wanted, &host.id.to_string()).map_err(|error| {
            tracing::error!(%error, "signing a host's certificate failed");
            Fault::internal(
                "The host's certificate could not be signed; see the control plane's log.",
            )
        })?;
    tracing::info!(host = %host.id, name = %host.name, "a host joined");
    Ok(Json(EnrolResponse {
        host_id: host.id.to_string(),
        certificate,
        authority: gateway.authority.certificate().to_owned(),
    }))
}

#[derive(Deserialize)]
struct DocumentsQuery {
    #[serde(default)]
    position: u64,
    lineage: Option<String>,
}

async fn documents(
    State(gateway): State<Gateway>,
    Extension(peer): Extension<PeerHost>,
    Query(query): Query<DocumentsQuery>,
) -> GatewayResult<Response> {
    let host = host_of(peer)?;
    if !gateway.view.borrow().in_touch {
        return Err(Fault::unavailable(
            "This replica of the control plane is out of touch with the database. Go to another.",
        )
        .into());
    }
    // Registered before the first read, so that nothing written in between goes unnoticed.
    let connection = gateway.connections.open(host);
    let origin = Origin::system("host-connect");
    let session = gateway
        .db
        .transact(&origin, move |tx| Box::pin(async move { hosts::connected(tx, &host).await }))
        .await?;
    connection.begin_session(session);
    let known = Known { lineage: query.lineage, position: query.position };
    let lines = stream::start(
        gateway.db.clone(),
        connection,
        (host, session),
        known,
        gateway.view.clone(),
        gateway.shutdown.clone(),
    );
    let body = Body::from_stream(futures::stream::unfold(lines, |mut lines| async move {
        lines.recv().await.map(|line| (line, lines))
    }));
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

async fn report(
    State(gateway): State<Gateway>,
    Extension(peer): Extension<PeerHost>,
    Json(body): Json<Reports>,
) -> GatewayResult<Json<ReportResults>> {
    let host = host_of(peer)?;
    if body.reports.len() > MAX_REPORTS {
        return Err(Fault::bad_request(format!(
            "{} reports in one request; the most is {MAX_REPORTS}.",
            body.reports.len()
        ))
        .into());
    }
    if body.lineage != gateway.db.lineage() && !planted("accept_old_lineage") {
        return Err(Fault::conflict(
            "These reports follow another lineage of the database; open the document stream again.",
        )
        .into());
    }
    let session = body.session;
    let mut results = Vec::with_capacity(body.reports.len());
    for report in body.reports {
        let report = Arc::new(report);
        let sink = gateway.reports.clone();
        let origin = Origin::system("host-report");
        let (kind, state) = (report.kind, report.state.as_str());
        let result: Result<ReportResult, Fault> = gateway
            .db
            .transact(&origin, move |tx| {
                let (report, sink) = (report.clone(), sink.clone());
                Box::pin(async move {
                    hosts::check_session(tx, &host, session).await?;
                    let result = reports::apply(tx, &host, &report, &*sink).await?;
                    point(format_args!("region.report.{kind}.{state}.applied"));
                    Ok(result)
                })
            })
            .await;
        results.push(result?);
        point(format_args!("region.report.{kind}.{state}.committed"));
    }
    Ok(Json(ReportResults { results }))
}

async fn answer(
    State(gateway): State<Gateway>,
    Extension(peer): Extension<PeerHost>,
    Path(id): Path<String>,
    Json(answer): Json<HostAnswer>,
) -> GatewayResult<StatusCode> {
    let host = host_of(peer)?;
    if gateway.connections.answer(host, &id, answer) {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Fault::not_found("No question of that id waits for this host's answer.").into())
    }
}

async fn image(
    State(gateway): State<Gateway>,
    Extension(peer): Extension<PeerHost>,
    Path(id): Path<String>,
) -> GatewayResult<Response> {
    let host = host_of(peer)?;
    let absent = || Fault::not_found(format!("No server on this host uses an image {id}."));
    let image: ImageId = id.parse().map_err(|_| absent())?;
    if !may_read(&gateway.db, host, image).await? {
        return Err(absent().into());
    }
    let file = gateway.images.open_file(image).await?;
    let stream = futures::TryStreamExt::map_ok(file.stream, Bytes::from);
    Ok((
        [
            (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
            (header::CONTENT_LENGTH, file.size_bytes.to_string()),
        ],
        Body::from_stream(stream),
    )
        .into_response())
}
