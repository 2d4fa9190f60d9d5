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
use serde::Deserialize;
use storage::image::Images;
use tokio_util::sync::CancellationToken;

use super::connections::Connections;
use super::images::may_read;
use super::listener::PeerHost;
use super::reports::ReportRouter;
use super::stream::{self, Known};
use crate::pki::{Authority, HostRequest};

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
    // Registered before the first read, so that nothing written in between goes unnoticed.
    let connection = gateway.connections.open(host);
    let origin = Origin::system("host-connect");
    gateway
        .db
        .transact(&origin, move |tx| Box::pin(async move { hosts::connected(tx, &host).await }))
        .await?;
    let known = Known { lineage: query.lineage, position: query.position };
    let lines =
        stream::start(gateway.db.clone(), connection, host, known, gateway.shutdown.clone());
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
    if body.lineage != gateway.db.lineage() {
        return Err(Fault::conflict(
            "These reports follow another lineage of the database; open the document stream again.",
        )
        .into());
    }
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
