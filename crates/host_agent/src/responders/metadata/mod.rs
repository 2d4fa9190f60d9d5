//! The metadata service: a guest asks 169.254.169.254 about itself.
//!
//! Who asks follows from the peer's address alone, which the bridge wrote; headers such as
//! `X-Forwarded-For` are not read. The server is small on purpose: `GET` and `HEAD`, no bodies, and
//! limits on connections, header size and time, as every guest of the host can reach it.

pub mod model;
mod tree;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use http::{Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rand::RngCore;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::Current;
use super::socket::port_number;
use super::table::PortTable;
use model::Guest;

/// Connections at once, of all guests; more wait in the kernel's queue.
const CONNECTIONS: usize = 256;
/// Connections at once of one port; more are closed at once, so that one guest cannot take all.
const CONNECTIONS_PER_PORT: usize = 8;
/// A connection's whole life: what a guest asks takes milliseconds.
const CONNECTION_TIME: Duration = Duration::from_secs(30);
/// Time to send the head of a request.
const HEADER_TIME: Duration = Duration::from_secs(5);
/// Octets of a request's head.
const HEADER_SIZE: usize = 16 * 1024;

/// Answers for ever.
pub(crate) async fn serve(listener: TcpListener, current: Current) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    let counts = PerPort::default();
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: give others time to close theirs.
                tracing::warn!(%error, "metadata service cannot accept");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Some(number) = port_number(peer.ip()) else { continue };
        let Some(turn) = counts.enter(number, CONNECTIONS_PER_PORT) else { continue };
        let current = current.clone();
        tokio::spawn(async move {
            let _held = (permit, turn);
            let _ =
                tokio::time::timeout(CONNECTION_TIME, connection(stream, number, current)).await;
        });
    }
}

async fn connection(stream: TcpStream, port_number: u32, current: Current) {
    let service = service_fn(move |request: Request<Incoming>| {
        let table = current.get();
        async move {
            Ok::<_, Infallible>(respond(
                &table,
                port_number,
                request.method(),
                request.uri().path(),
            ))
        }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(HEADER_SIZE)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(port_number, %error, "metadata connection ended");
    }
}

/// The answer to one request of the port with this number.
fn respond(table: &PortTable, port_number: u32, method: &Method, path: &str) -> Response<Body> {
    let plain = |status: StatusCode, text: &'static str| {
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = status;
        response
    };
    if !matches!(*method, Method::GET | Method::HEAD) {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "Only GET is understood here.\n");
    }
    let Some(server) = table.port(port_number).and_then(|port| port.server.as_ref()) else {
        return plain(StatusCode::NOT_FOUND, "This port belongs to no server on this host.\n");
    };
    let nics: Vec<_> = server.nics.iter().map(|(p, n)| (p.as_ref(), &n.spec)).collect();
    let guest = Guest { server: &server.spec, nics: &nics };
    match tree::page(&guest, path, |buffer| rand::rng().fill_bytes(buffer)) {
        Some(page) => {
            let mut response = Response::new(Body::from(page.body));
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(page.media_type));
            response
        }
        None => plain(StatusCode::NOT_FOUND, "There is nothing at this path.\n"),
    }
}

/// Counts what each port has under way.
#[derive(Clone, Default)]
pub(crate) struct PerPort(Arc<Mutex<HashMap<u32, usize>>>);

impl PerPort {
    /// One more for this port, until the turn is dropped; `None` when it has `limit` already.
    pub fn enter(&self, port_number: u32, limit: usize) -> Option<Turn> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(port_number).or_default();
        (*count < limit).then(|| {
            *count += 1;
            Turn { counts: self.clone(), port_number }
        })
    }
}

/// One thing that a port has under way.
pub(crate) struct Turn {
    counts: PerPort,
    port_number: u32,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut counts = self.counts.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.port_number) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.port_number);
            }
        }
    }
}

#[cfg(test)]
mod tests;
