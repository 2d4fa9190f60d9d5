//! The accept loop. Written out because the limits matter: how many connections, how long a
//! client may take for its handshake and its headers, how large these may be, how many streams a
//! connection carries, and what happens at shutdown: no new connections, requests under way are
//! answered within the grace period, then the rest is cut.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::app::{App, Peer};

/// Limits of a listener. Each bounds what a hostile client can hold.
#[derive(Clone, Copy, Debug)]
pub struct ServeConfig {
    /// Connections at once; more wait in the kernel's queue.
    pub max_connections: usize,
    /// For the TLS handshake.
    pub handshake_timeout: Duration,
    /// For the whole head of a request, and for an idle HTTP/1 connection's next one.
    pub header_timeout: Duration,
    /// Bytes of a request's head. Tokens of other clouds have 8 KiB, so twice that and room.
    pub max_header_bytes: usize,
    /// Requests at once on one HTTP/2 connection.
    pub max_streams: u32,
    /// How long requests under way may take after shutdown began.
    pub grace: Duration,
}

impl Default for ServeConfig {
    fn default() -> Self {
        ServeConfig {
            max_connections: 8192,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(30),
            max_header_bytes: 32 * 1024,
            max_streams: 128,
            grace: Duration::from_secs(20),
        }
    }
}

/// Serves the app on a listener until `shutdown` is cancelled and the grace period is over.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    app: App,
    config: ServeConfig,
    shutdown: CancellationToken,
) {
    let acceptor = tls.map(TlsAcceptor::from);
    let room = Arc::new(Semaphore::new(config.max_connections));
    let tasks = tokio_util::task::TaskTracker::new();
    loop {
        let permit = tokio::select! {
            () = shutdown.cancelled() => break,
            permit = room.clone().acquire_owned() => permit,
        };
        let Ok(permit) = permit else { break };
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(connection) => connection,
            Err(error) => {
                // Out of file descriptors, mostly: wait for connections to end rather than spin.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let peer = Peer { address, tls: acceptor.is_some() };
        let connection = Connection {
            app: app.clone(),
            config,
            peer,
            shutdown: shutdown.clone(),
            _permit: permit,
        };
        tasks.spawn(connection.run(stream, acceptor.clone()));
    }
    drop(listener);
    app.set_ready(false);
    tasks.close();
    tracing::info!("no new connections; waiting for requests under way");
    if tokio::time::timeout(config.grace, tasks.wait()).await.is_err() {
        tracing::warn!("some requests did not end within the grace period and are cut");
    }
}

struct Connection {
    app: App,
    config: ServeConfig,
    peer: Peer,
    shutdown: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    async fn run(self, stream: TcpStream, acceptor: Option<TlsAcceptor>) {
        // Answers are small and whole; waiting to fill a segment only adds latency.
        let _ = stream.set_nodelay(true);
        match acceptor {
            None => self.speak(stream).await,
            Some(acceptor) => {
                let handshake = acceptor.accept(stream);
                match tokio::time::timeout(self.config.handshake_timeout, handshake).await {
                    Ok(Ok(stream)) => self.speak(stream).await,
                    Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
                    Err(_) => tracing::debug!("TLS handshake timed out"),
                }
            }
        }
    }

    async fn speak<T>(self, stream: T)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Connection { app, config, peer, shutdown, _permit } = self;
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(config.header_timeout)
            .max_buf_size(config.max_header_bytes.max(8192))
            .max_headers(100);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(config.max_streams)
            .max_header_list_size(u32::try_from(config.max_header_bytes).unwrap_or(u32::MAX))
            .keep_alive_interval(Some(Duration::from_secs(30)))
            .keep_alive_timeout(Duration::from_secs(20));
        let service = service_fn(move |request: http::Request<Incoming>| {
            let mut app = app.clone();
            let (mut parts, body) = request.into_parts();
            parts.extensions.insert(peer);
            app.call(http::Request::from_parts(parts, Body::new(body)))
        });
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "connection ended");
        }
    }
}

#[cfg(test)]
mod tests;
