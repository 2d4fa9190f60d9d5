//! [`ControlPlane`] over HTTP/2 and mutual TLS.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;
use host_protocol::{
    EnrolRequest, EnrolResponse, Frame, HostAnswer, Position, ReportResults, Reports,
};
use reqwest::{Client, Response, StatusCode};
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::de::DeserializeOwned;

use super::enrol::Identity;
use super::{ControlPlane, Gateways, LinkError};
use crate::BoxFuture;
use crate::image_cache::{ImageError, ImageFetcher};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// For requests with one answer; the stream of documents and images have none.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// For the beginning of a stream of documents, where another gateway can be tried instead: one that
/// accepts connections and says nothing is not waited for.
const OPEN_TIMEOUT: Duration = Duration::from_secs(3);
/// Seconds between probes of a connection that carries nothing, and for their answer.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// The longest frame: a server with 64 KiB of user data and a port with thousands of rules fit
/// many times.
const MAX_FRAME_BYTES: usize = 16 << 20;
/// How much of a refusal is kept for the log.
const MAX_MESSAGE: usize = 300;
/// An image's stream that brings nothing for so long is broken.
const IMAGE_SILENCE: Duration = Duration::from_secs(60);
/// How often it is looked whether the gateway of a silent image's stream has been given up.
const IMAGE_LOOK: Duration = Duration::from_secs(1);

/// The real control plane.
#[derive(Clone)]
pub struct HttpControlPlane {
    client: Client,
    gateways: Arc<Gateways>,
}

impl HttpControlPlane {
    /// A client that shows the host's certificate, for the gateways that an operator configured.
    /// Connects on first use.
    pub fn new(urls: &[String], identity: &Identity) -> Result<HttpControlPlane, LinkError> {
        Ok(HttpControlPlane {
            client: client(&identity.authority, Some((&identity.certificate, &identity.key)))?,
            gateways: Arc::new(Gateways::new(&identity.host_id, urls)),
        })
    }

    fn url(&self, path: &str) -> String {
        format!("{}/host/v1/{path}", self.gateways.current())
    }
}

/// A client that trusts this authority alone, with a certificate of its own when it has one.
pub(super) fn client(authority: &str, own: Option<(&str, &str)>) -> Result<Client, LinkError> {
    let wrong = |what: &str, error: String| LinkError::Protocol(format!("{what}: {error}"));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
        let certificate = certificate.map_err(|error| wrong("the authority", error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong("the authority", error.to_string()))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| wrong("TLS", error.to_string()))?
        .with_root_certificates(roots);
    let mut tls = match own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = CertificateDer::pem_slice_iter(certificate.as_bytes())
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| wrong("the host's certificate", error.to_string()))?;
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
                .map_err(|error| wrong("the host's key", error.to_string()))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| wrong("the host's certificate", error.to_string()))?
        }
    };
    tls.alpn_protocols = vec![b"h2".to_vec()];
    Client::builder()
        .tls_backend_preconfigured(tls)
        .https_only(true)
        .no_proxy()
        .http2_prior_knowledge()
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .http2_keep_alive_timeout(KEEP_ALIVE)
        .http2_keep_alive_while_idle(true)
        .http2_adaptive_window(true)
        .user_agent(concat!("meridian-host/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| wrong("the HTTP client", chain_of(&error)))
}

/// An error with its causes: reqwest's own first line says only that something failed.
fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let words = next.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = next.source();
    }
    text
}

fn unreachable(error: reqwest::Error) -> LinkError {
    // Without the address, which is in the configuration and may repeat a query.
    LinkError::Unreachable(chain_of(&error.without_url()))
}

async fn accepted(response: Response) -> Result<Response, LinkError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let text = response.text().await.unwrap_or_default();
    Err(LinkError::Refused {
        status: status.as_u16(),
        message: text.chars().take(MAX_MESSAGE).collect(),
    })
}

async fn read_json<T: DeserializeOwned>(response: Response) -> Result<T, LinkError> {
    let bytes = accepted(response).await?.bytes().await.map_err(unreachable)?;
    serde_json::from_slice(&bytes).map_err(|error| LinkError::Protocol(error.to_string()))
}

/// Trades a token for a certificate.
pub(super) async fn enrol(
    client: &Client,
    url: &str,
    request: &EnrolRequest,
) -> Result<EnrolResponse, LinkError> {
    let response = client
        .post(format!("{}/host/v1/enrol", url.trim_end_matches('/')))
        .timeout(REQUEST_TIMEOUT)
        .json(request)
        .send()
        .await
        .map_err(unreachable)?;
    read_json(response).await
}

impl ControlPlane for HttpControlPlane {
    fn gateways(&self) -> Option<&Gateways> {
        Some(&self.gateways)
    }

    fn documents(
        &self,
        lineage: Option<String>,
        position: Position,
    ) -> BoxFuture<'_, Result<BoxStream<'static, Result<Frame, LinkError>>, LinkError>> {
        Box::pin(async move {
            let mut url = self.url(&format!("documents?position={position}"));
            if let Some(lineage) = lineage {
                // A lineage is made of letters, digits and dashes; anything else is not sent, so
                // that it cannot add parameters. The answer is then a snapshot.
                if lineage.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
                    url.push_str(&format!("&lineage={lineage}"));
                }
            }
            let limit = if self.gateways.are_several() { OPEN_TIMEOUT } else { REQUEST_TIMEOUT };
            let response = tokio::time::timeout(limit, self.client.get(url).send())
                .await
                .map_err(|_| LinkError::Unreachable("no answer in time".to_owned()))?
                .map_err(unreachable)?;
            Ok(frames(accepted(response).await?))
        })
    }

    fn report<'a>(
        &'a self,
        reports: &'a Reports,
    ) -> BoxFuture<'a, Result<ReportResults, LinkError>> {
        Box::pin(async move {
            let request = self.client.post(self.url("reports"));
            let response =
                request.timeout(REQUEST_TIMEOUT).json(reports).send().await.map_err(unreachable)?;
            read_json(response).await
        })
    }

    fn answer<'a>(
        &'a self,
        id: &'a str,
        answer: &'a HostAnswer,
    ) -> BoxFuture<'a, Result<(), LinkError>> {
        Box::pin(async move {
            if !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
                return Err(LinkError::Protocol(format!("{id:?} is no id of a query")));
            }
            let request = self.client.post(self.url(&format!("answers/{id}")));
            let response =
                request.timeout(REQUEST_TIMEOUT).json(answer).send().await.map_err(unreachable)?;
            accepted(response).await.map(|_| ())
        })
    }

    fn image<'a>(
        &'a self,
        image_id: &'a str,
        offset: u64,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<Bytes, String>>, ImageError>> {
        Box::pin(async move {
            let unreachable =
                |why: String| ImageError::Unreachable { image_id: image_id.to_owned(), why };
            let gateway = self.gateways.current();
            let mut request = self.client.get(format!("{gateway}/host/v1/images/{image_id}"));
            if offset > 0 {
                request = request.header("range", format!("bytes={offset}-"));
            }
            let response = tokio::time::timeout(REQUEST_TIMEOUT, request.send())
                .await
                .map_err(|_| unreachable("no answer in time".to_owned()))?
                .map_err(|error| unreachable(chain_of(&error.without_url())))?;
            if response.status() == StatusCode::NOT_FOUND {
                return Err(ImageError::NotFound(image_id.to_owned()));
            }
            let partial = response.status() == StatusCode::PARTIAL_CONTENT;
            let response =
                accepted(response).await.map_err(|error| unreachable(error.to_string()))?;
            let mut skip = if partial { 0 } else { offset };
            let (gateways, from) = (Arc::clone(&self.gateways), gateway);
            let given_up = move || gateways.has_failed(&from);
            let stream = silence_limited(response.bytes_stream(), IMAGE_SILENCE, given_up)
                .filter_map(move |chunk| {
                    // A server that does not know ranges sends the beginning again.
                    let rest = chunk.map(|mut chunk| {
                        let cut = skip.min(chunk.len() as u64);
                        skip -= cut;
                        chunk.split_off(usize::try_from(cut).unwrap_or(chunk.len()))
                    });
                    std::future::ready(match rest {
                        Ok(rest) if rest.is_empty() => None,
                        other => Some(other),
                    })
                })
                .boxed();
            Ok(stream)
        })
    }
}

impl ImageFetcher for HttpControlPlane {
    fn fetch<'a>(
        &'a self,
        image_id: &'a str,
        offset: u64,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<Bytes, String>>, ImageError>> {
        self.image(image_id, offset)
    }
}

/// Ends a stream with an error when nothing comes for too long, or when nothing comes and its
/// gateway was given up.
fn silence_limited(
    stream: impl futures::Stream<Item = reqwest::Result<Bytes>> + Send + 'static,
    limit: Duration,
    given_up: impl Fn() -> bool + Send + Sync + 'static,
) -> impl futures::Stream<Item = Result<Bytes, String>> + Send {
    let state = Some((Box::pin(stream), given_up));
    futures::stream::unfold(state, move |state| async move {
        let (mut stream, given_up) = state?;
        let mut silent = Duration::ZERO;
        loop {
            match tokio::time::timeout(IMAGE_LOOK, stream.next()).await {
                Ok(Some(Ok(chunk))) => return Some((Ok(chunk), Some((stream, given_up)))),
                Ok(Some(Err(error))) => {
                    return Some((Err(chain_of(&error.without_url())), None));
                }
                Ok(None) => return None,
                Err(_) => silent += IMAGE_LOOK,
            }
            if silent >= limit || given_up() {
                return Some((Err(format!("nothing for {} seconds", silent.as_secs())), None));
            }
        }
    })
}

/// Splits the body into frames: one JSON object a line.
fn frames(response: Response) -> BoxStream<'static, Result<Frame, LinkError>> {
    let body = response.bytes_stream().map(|chunk| chunk.map_err(unreachable)).boxed();
    futures::stream::unfold(Some((body, BytesMut::new())), |state| async move {
        let (mut body, mut buffer) = state?;
        let mut searched = 0;
        loop {
            if let Some(at) = buffer[searched..].iter().position(|byte| *byte == b'\n') {
                let line = buffer.split_to(searched + at + 1);
                if line.trim_ascii().is_empty() {
                    searched = 0;
                    continue;
                }
                return Some(match serde_json::from_slice(&line) {
                    Ok(frame) => (Ok(frame), Some((body, buffer))),
                    Err(error) => (Err(LinkError::Protocol(error.to_string())), None),
                });
            }
            searched = buffer.len();
            if searched > MAX_FRAME_BYTES {
                let error = LinkError::Protocol("a frame without end".to_owned());
                return Some((Err(error), None));
            }
            match body.next().await {
                Some(Ok(chunk)) => buffer.extend_from_slice(&chunk),
                Some(Err(error)) => return Some((Err(error), None)),
                None => return None,
            }
        }
    })
    .boxed()
}
