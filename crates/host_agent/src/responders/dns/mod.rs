//! DNS of the tenant's own network: names and addresses of its ports, and for everything else the
//! operator's name servers.
//!
//! ```text
//!   name of this network (NAME or NAME.domain), PTR of its subnets ─► answered from the table
//!   anything else ─► upstream, a new socket and identifier for each question
//! ```
//! The same name in two networks is two names: which network is asked follows from the asking
//! port. Questions that would leave the host are limited per port and in all, and are dropped over
//! the limit: resolvers ask again.

mod local;
mod message;
mod upstream;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::Current;
use super::metadata::PerPort;
use super::socket::IdentifiedUdp;
use message::{Query, ResponseCode};

/// Where name servers listen.
const DNS_PORT: u16 = 53;
/// Longest question or answer over UDP that is read: EDNS answers fit one frame.
const MAX_UDP: usize = 1500;
/// Longest answer over UDP that is sent to a guest that did not say that it takes more.
const PLAIN_UDP: usize = 512;
/// Questions on their way to upstream servers, of all guests and of one port.
const FORWARDED: usize = 512;
const FORWARDED_PER_PORT: usize = 32;
/// TCP connections of all guests and of one port, and how long one may last.
const CONNECTIONS: usize = 128;
const CONNECTIONS_PER_PORT: usize = 4;
const CONNECTION_TIME: Duration = Duration::from_secs(20);

/// Answers questions; shared by UDP and TCP.
pub(crate) struct Resolver {
    current: Current,
    upstream: Vec<SocketAddr>,
    forwarded: Arc<Semaphore>,
    per_port: PerPort,
}

/// What to do with a question.
enum Next {
    Say(Vec<u8>),
    Ask(Query),
    Nothing,
}

impl Resolver {
    pub fn new(current: Current, upstream: &[IpAddr]) -> Self {
        Resolver {
            current,
            upstream: upstream.iter().map(|ip| SocketAddr::new(*ip, DNS_PORT)).collect(),
            forwarded: Arc::new(Semaphore::new(FORWARDED)),
            per_port: PerPort::default(),
        }
    }

    fn decide(&self, port_number: u32, bytes: &[u8], limit: usize) -> Next {
        let table = self.current.get();
        let Some(port) = table.port(port_number) else { return Next::Nothing };
        let query = match Query::read(bytes) {
            Ok(query) => query,
            Err(message::Refusal::Silence) => return Next::Nothing,
            Err(message::Refusal::Answer(bytes)) => return Next::Say(bytes),
        };
        match local::answer(&port.network, &query) {
            Some(answer) => Next::Say(query.reply(&answer, limit.max(query.udp_size()))),
            None => Next::Ask(query),
        }
    }

    /// Asks upstream. `None` when the question was dropped.
    async fn forward(&self, port_number: u32, query: &Query, tcp: bool) -> Option<Vec<u8>> {
        let _turn = self.per_port.enter(port_number, FORWARDED_PER_PORT)?;
        let _permit = self.forwarded.try_acquire().ok()?;
        if self.upstream.is_empty() {
            return Some(query.failure(ResponseCode::Refused));
        }
        let asked = upstream::ask(&self.upstream, query, tcp).await;
        Some(asked.unwrap_or_else(|| query.failure(ResponseCode::ServerFailure)))
    }
}

/// Answers UDP for ever.
pub(crate) async fn serve_udp(socket: IdentifiedUdp, resolver: Arc<Resolver>) {
    let socket = Arc::new(socket);
    let mut buffer = [0; MAX_UDP];
    loop {
        let (length, from) = match socket.receive(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                tracing::warn!(%error, "DNS socket");
                continue;
            }
        };
        let Some(number) = from.port_number() else { continue };
        match resolver.decide(number, &buffer[..length], PLAIN_UDP) {
            Next::Nothing => {}
            Next::Say(answer) => drop(socket.send(&answer, from)),
            // Looked at again in the task; here only so that a flood makes no tasks.
            Next::Ask(_) if resolver.forwarded.available_permits() == 0 => {}
            Next::Ask(query) => {
                let (socket, resolver) = (socket.clone(), resolver.clone());
                tokio::spawn(async move {
                    if let Some(answer) = resolver.forward(number, &query, false).await {
                        drop(socket.send(&answer, from));
                    }
                });
            }
        }
    }
}

/// Answers TCP for ever.
pub(crate) async fn serve_tcp(listener: TcpListener, resolver: Arc<Resolver>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    let counts = PerPort::default();
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "DNS cannot accept");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let number = match peer.ip() {
            IpAddr::V4(ip) => flow_compiler::port_of_identity(ip),
            IpAddr::V6(_) => None,
        };
        let Some(number) = number else { continue };
        let Some(turn) = counts.enter(number, CONNECTIONS_PER_PORT) else { continue };
        let resolver = resolver.clone();
        tokio::spawn(async move {
            let _held = (permit, turn);
            let talk = converse(stream, number, &resolver);
            let _ = tokio::time::timeout(CONNECTION_TIME, talk).await;
        });
    }
}

/// Questions and answers, each after its length (RFC 1035, section 4.2.2).
async fn converse(mut stream: TcpStream, number: u32, resolver: &Resolver) -> std::io::Result<()> {
    loop {
        let length = stream.read_u16().await?;
        let mut question = vec![0; length.into()];
        stream.read_exact(&mut question).await?;
        let answer = match resolver.decide(number, &question, usize::from(u16::MAX)) {
            Next::Nothing => return Ok(()),
            Next::Say(answer) => answer,
            Next::Ask(query) => match resolver.forward(number, &query, true).await {
                Some(answer) => answer,
                None => return Ok(()),
            },
        };
        let Ok(length) = u16::try_from(answer.len()) else { return Ok(()) };
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.extend_from_slice(&answer);
        stream.write_all(&bytes).await?;
    }
}
