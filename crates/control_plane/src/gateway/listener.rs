//! Accepting hosts' connections: TLS with an optional client certificate, HTTP/2 inside.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use cloud_types::HostId;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::pki::{KeyPairPem, PkiError};

/// How long a peer may take over its TLS handshake, and over sending a request's head.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// How long open requests have to end at shutdown; document streams end at once.
const DRAIN_DEADLINE: Duration = Duration::from_secs(5);
/// HTTP/2 keep-alive: a dead peer is noticed after interval and timeout together.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The host that a connection's certificate names; absent when it showed none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerHost(pub Option<HostId>);

/// TLS for the gateway: our certificate, and clients checked against our authority.
pub fn tls_config(authority: &str, server: &KeyPairPem) -> Result<rustls::ServerConfig, PkiError> {
    let invalid = |what: &str, why: String| PkiError::Invalid { what: what.into(), why };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
        let certificate = certificate.map_err(|e| invalid("authority", e.to_string()))?;
        roots.add(certificate).map_err(|e| invalid("authority", e.to_string()))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|e| invalid("authority", e.to_string()))?;
    let chain = CertificateDer::pem_slice_iter(server.certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| invalid("gateway certificate", e.to_string()))?;
    let key = PrivateKeyDer::from_pem_slice(server.key.as_bytes())
        .map_err(|e| invalid("gateway key", e.to_string()))?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| invalid("TLS", e.to_string()))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|e| invalid("gateway certificate", e.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Serves hosts until `shutdown`.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    router: Router,
    shutdown: CancellationToken,
) {
    let acceptor = tokio_rustls::TlsAcceptor::from(tls);
    let tracker = TaskTracker::new();
    loop {
        let socket = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => socket,
                Err(error) => {
                    // Out of descriptors, most likely: nothing to gain by spinning.
                    tracing::warn!(%error, "cannot accept a host's connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let (acceptor, router, shutdown) = (acceptor.clone(), router.clone(), shutdown.clone());
        tracker.spawn(async move {
            let _ = socket.set_nodelay(true);
            match tokio::time::timeout(HANDSHAKE_DEADLINE, acceptor.accept(socket)).await {
                Ok(Ok(stream)) => serve_connection(stream, router, shutdown).await,
                Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake with a host failed"),
                Err(_) => tracing::debug!("a TLS handshake with a host took too long"),
            }
        });
    }
    tracker.close();
    if tokio::time::timeout(DRAIN_DEADLINE, tracker.wait()).await.is_err() {
        tracing::debug!("left hosts' connections that did not end in time");
    }
}

async fn serve_connection(
    stream: tokio_rustls::server::TlsStream<tokio::net::TcpStream>,
    router: Router,
    shutdown: CancellationToken,
) {
    let peer = PeerHost(peer_host(stream.get_ref().1));
    let service = TowerToHyperService::new(router.layer(axum::Extension(peer)));
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HANDSHAKE_DEADLINE);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a host's connection ended");
    }
}

/// The host id in the certificate, which the handshake has verified against our authority.
fn peer_host(connection: &rustls::ServerConnection) -> Option<HostId> {
    let certificate = connection.peer_certificates()?.first()?;
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let mut names = parsed.subject().iter_common_name();
    let name = names.next()?.as_str().ok()?;
    name.parse().ok()
}
