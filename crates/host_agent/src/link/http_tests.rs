//! Enrolment and the real link against a real TLS server.

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use futures::StreamExt;
use host_protocol::*;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, IsCa, Issuer,
    KeyPair,
};
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::enrol::{EnrolError, Identity, identity};
use super::{ControlPlane, HttpControlPlane, LinkError};
use crate::config::{HostConfig, JoinConfig};
use crate::image_cache::ImageError;

const IMAGE: &[u8] = b"0123456789";

/// A region with an authority of its own.
struct Region {
    authority: String,
    issuer: Issuer<'static, KeyPair>,
    enrolled: AtomicUsize,
    reports: Mutex<Vec<Reports>>,
    queries: Mutex<Vec<String>>,
}

impl Region {
    fn new() -> Arc<Region> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&key).unwrap().pem();
        Arc::new(Region {
            authority,
            issuer: Issuer::new(params, key),
            enrolled: AtomicUsize::new(0),
            reports: Mutex::default(),
            queries: Mutex::default(),
        })
    }

    /// Serves on a port of the loopback, and returns the URL.
    async fn serve(self: &Arc<Region>) -> String {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .allow_unauthenticated()
                .build()
                .unwrap();
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients)
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
            )
            .unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let router = Router::new()
            .route("/host/v1/enrol", post(enrol))
            .route("/host/v1/documents", get(documents))
            .route("/host/v1/reports", post(report))
            .route("/host/v1/images/{id}", get(image))
            .with_state(Arc::clone(self));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (acceptor, router) = (acceptor.clone(), router.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(socket).await else { return };
                    let known = stream.get_ref().1.peer_certificates().is_some();
                    let service = TowerToHyperService::new(router.layer(axum::Extension(known)));
                    let _ = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        url
    }
}

async fn enrol(State(region): State<Arc<Region>>, Json(request): Json<EnrolRequest>) -> Response {
    if request.token != "once" || region.enrolled.fetch_add(1, Ordering::SeqCst) > 0 {
        return (StatusCode::FORBIDDEN, "the token is used up").into_response();
    }
    let mut csr = CertificateSigningRequestParams::from_pem(&request.csr).unwrap();
    csr.params.distinguished_name = rcgen::DistinguishedName::new();
    csr.params.distinguished_name.push(DnType::CommonName, "host-1");
    Json(EnrolResponse {
        host_id: "host-1".to_owned(),
        certificate: csr.signed_by(&region.issuer).unwrap().pem(),
        authority: region.authority.clone(),
    })
    .into_response()
}

async fn documents(
    State(region): State<Arc<Region>>,
    axum::Extension(known): axum::Extension<bool>,
    RawQuery(query): RawQuery,
) -> Response {
    if !known {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    region.queries.lock().unwrap().push(query.unwrap_or_default());
    // Cut where it hurts: within a line, and two lines in one piece.
    let pieces = [
        "{\"frame\":\"welcome\",\"lin",
        "eage\":\"one\",\"snapshot\":true}\n{\"frame\":\"ping\"}\n{\"frame\":",
        "\"snapshot_end\",\"position\":7}\n",
        "not a frame\n",
    ];
    let stream = futures::stream::iter(pieces.map(Ok::<_, std::io::Error>));
    Body::from_stream(stream).into_response()
}

async fn report(State(region): State<Arc<Region>>, Json(reports): Json<Reports>) -> Response {
    region.reports.lock().unwrap().push(reports);
    Json(ReportResults { results: vec![ReportResult::Accepted] }).into_response()
}

async fn image(Path(id): Path<String>, headers: HeaderMap) -> Response {
    if id == "missing" {
        return StatusCode::NOT_FOUND.into_response();
    }
    let from = headers
        .get("range")
        .and_then(|range| range.to_str().ok()?.strip_prefix("bytes=")?.strip_suffix('-'))
        .and_then(|from| from.parse::<usize>().ok());
    match from {
        // One that does not know ranges sends everything.
        Some(from) if id == "ranged" => {
            (StatusCode::PARTIAL_CONTENT, IMAGE[from..].to_vec()).into_response()
        }
        _ => IMAGE.to_vec().into_response(),
    }
}

fn config(folder: &std::path::Path, url: &str, authority: &str, token: &str) -> HostConfig {
    let path = folder.join("authority.pem");
    std::fs::write(&path, authority).unwrap();
    let mut config: HostConfig = serde_json::from_value(serde_json::json!({
        "state_dir": folder.join("state"),
        "control_plane_url": url,
        "authority": path,
    }))
    .unwrap();
    config.join = Some(JoinConfig { token: token.to_owned(), name: "name".to_owned() });
    config
}

async fn joined(region: &Arc<Region>) -> (tempfile::TempDir, String, Identity) {
    let url = region.serve().await;
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), &url, &region.authority, "once");
    let identity = identity(&config).await.unwrap();
    (folder, url, identity)
}

#[tokio::test]
async fn a_token_is_traded_once_and_the_key_stays_here() {
    let region = Region::new();
    let (folder, url, first) = joined(&region).await;
    assert_eq!(first.host_id, "host-1");
    for name in ["host.key", "host.pem", "authority.pem", "host_id"] {
        let path = folder.path().join("state/identity").join(name);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let directory = std::fs::metadata(folder.path().join("state/identity")).unwrap();
    assert_eq!(directory.permissions().mode() & 0o777, 0o700);
    // A restart needs no token.
    let mut config = config(folder.path(), &url, &region.authority, "used up");
    config.join = None;
    let again = identity(&config).await.unwrap();
    assert_eq!((again.certificate, again.key), (first.certificate, first.key));
    assert_eq!(region.enrolled.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_used_token_is_refused_with_what_to_do() {
    let region = Region::new();
    let url = region.serve().await;
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), &url, &region.authority, "stolen");
    let Err(EnrolError::Refused(error)) = identity(&config).await else {
        panic!("it joined");
    };
    assert!(error.to_string().contains("used up"), "{error}");
    assert!(!folder.path().join("state/identity/host_id").exists());
}

#[tokio::test]
async fn frames_are_read_however_they_are_cut() {
    let region = Region::new();
    let (_folder, url, identity) = joined(&region).await;
    let link = HttpControlPlane::new(std::slice::from_ref(&url), &identity).unwrap();
    let lineage = Some("one&position=0".to_owned());
    drop(link.documents(lineage, 4).await.unwrap());
    let stream = link.documents(Some("one-1".to_owned()), 4).await.unwrap();
    let frames: Vec<_> = stream.collect().await;
    assert_eq!(
        frames[..3],
        [
            Ok(Frame::Welcome {
                lineage: "one".to_owned(),
                snapshot: true,
                terms: StreamTerms::default(),
            }),
            Ok(Frame::Ping { terms: None }),
            Ok(Frame::SnapshotEnd { position: 7 }),
        ]
    );
    assert!(matches!(frames[3], Err(LinkError::Protocol(_))));
    assert_eq!(frames.len(), 4);
    let queries = region.queries.lock().unwrap().clone();
    assert_eq!(queries, ["position=4", "position=4&lineage=one-1"]);
}

#[tokio::test]
async fn reports_are_sent_and_answered() {
    let region = Region::new();
    let (_folder, url, identity) = joined(&region).await;
    let link = HttpControlPlane::new(std::slice::from_ref(&url), &identity).unwrap();
    let reports = Reports { lineage: "one".to_owned(), session: 0, reports: Vec::new() };
    let answer = link.report(&reports).await.unwrap();
    assert_eq!(answer.results, [ReportResult::Accepted]);
    assert_eq!(region.reports.lock().unwrap().clone(), [reports]);
}

#[tokio::test]
async fn images_go_on_where_they_broke_off() {
    let region = Region::new();
    let (_folder, url, identity) = joined(&region).await;
    let link = HttpControlPlane::new(std::slice::from_ref(&url), &identity).unwrap();
    for id in ["ranged", "unranged"] {
        let chunks: Vec<Result<Bytes, String>> = link.image(id, 4).await.unwrap().collect().await;
        let bytes: Vec<u8> = chunks.into_iter().flat_map(Result::unwrap).collect();
        assert_eq!(bytes, &IMAGE[4..], "{id}");
    }
    let missing = link.image("missing", 0).await;
    assert!(matches!(missing, Err(ImageError::NotFound(_))));
}

#[tokio::test]
async fn strangers_are_not_spoken_to() {
    let region = Region::new();
    let (folder, url, identity) = joined(&region).await;
    // A host without a certificate is told nothing.
    let client = super::http::client(&region.authority, None).unwrap();
    let response = client.get(format!("{url}/host/v1/documents")).send().await.unwrap();
    assert_eq!(response.status(), 401);
    // A server of another authority is not believed.
    let other = Region::new();
    let stranger = Identity { authority: other.authority.clone(), ..identity };
    let link = HttpControlPlane::new(std::slice::from_ref(&url), &stranger).unwrap();
    let result = link.documents(None, 0).await;
    assert!(matches!(result, Err(LinkError::Unreachable(_))));
    drop(folder);
}
