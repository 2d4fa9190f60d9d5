//! DNS of the tenant's own network: names and addresses of its ports, and for everything else the
//! operator's name servers.
//!
//! ```text
//!   name of this network (NAME or NAME.domain), PTR of its subnets ─► answered from the table
//!   anything else ─► kept answers of this network ─► upstream, a new socket and identifier for
//!                    each question
//! ```
//! A name of the outside that claims an address of the asking network, of a link or of a host itself
//! is refused: by such a name a page from elsewhere would speak to the tenant's own servers.
//!
//! The same name in two networks is two names: which network is asked follows from the asking
//! port. Questions that would leave the host are limited per port and in all, and are dropped over
//! the limit: resolvers ask again.

mod cache;
mod local;
mod message;
mod records;
mod upstream;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use host_protocol::NetworkSpec;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::Current;
use super::metadata::PerPort;
use super::socket::{Identified, port_number};
use cache::Cache;
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
    cache: Cache,
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
            cache: Cache::default(),
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
            None => match self.cache.get(port.network.spec.network_number, &query) {
                Some(kept) if kept.len() <= limit.max(query.udp_size()) => Next::Say(kept),
                _ => Next::Ask(query),
            },
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
        let records = asked.as_ref().and_then(|answer| records::read(answer, query.end()));
        let (Some(answer), Some(records)) = (asked, records) else {
            return Some(query.failure(ResponseCode::ServerFailure));
        };
        let table = self.current.get();
        let network = &table.port(port_number)?.network.spec;
        if let Some(inside) =
            records.iter().find_map(|r| r.address.filter(|ip| is_inside(network, *ip)))
        {
            tracing::info!(network = %network.network_id, %inside, "an outside name claims an address of the inside; refused");
            return Some(query.failure(ResponseCode::Refused));
        }
        self.cache.put(network.network_number, query, &answer, &records);
        Some(answer)
    }
}

/// Addresses that are no outside name's to give: the network's own, a link's, a host's.
fn is_inside(network: &NetworkSpec, ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    let special = match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_link_local() || ip.octets()[0] == 0,
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unspecified() || ip.is_unicast_link_local(),
    };
    special || network.subnets.iter().any(|subnet| subnet.cidr.contains(&ip))
}

/// Answers UDP for ever.
pub(crate) async fn serve_udp(socket: Identified, resolver: Arc<Resolver>) {
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
        let Some(number) = port_number(peer.ip()) else { continue };
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

#[cfg(test)]
mod tests {
    use super::message::kind;
    use super::message::tests::question;
    use super::records::Section;
    use super::records::tests::response;
    use super::*;
    use crate::edges::ResponderTables;
    use crate::responders::table::PortTable;
    use crate::responders::table::tests::{network, port};

    /// A resolver whose upstream tells this address for every name, and counts.
    async fn resolver(address: [u8; 4]) -> (Resolver, Arc<std::sync::atomic::AtomicUsize>) {
        let socket = tokio::net::UdpSocket::bind(("127.0.0.1", 0)).await.unwrap();
        let at = socket.local_addr().unwrap();
        let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = asked.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
                count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let record = (Section::Answer, kind::A, 100, &address[..]);
                let said = response(&buffer[..length], 0, &[record]);
                socket.send_to(&said, peer).await.unwrap();
            }
        });
        let current = Current::default();
        current.set(PortTable::new(ResponderTables {
            networks: vec![network()],
            ports: vec![port()],
            ..ResponderTables::default()
        }));
        let mut resolver = Resolver::new(current, &[]);
        resolver.upstream = vec![at];
        (resolver, asked)
    }

    async fn asks(resolver: &Resolver, name: &str) -> Vec<u8> {
        match resolver.decide(5, &question(name, kind::A), PLAIN_UDP) {
            Next::Say(answer) => answer,
            Next::Ask(query) => resolver.forward(5, &query, false).await.unwrap(),
            Next::Nothing => panic!("silence about {name}"),
        }
    }

    #[tokio::test]
    async fn the_same_question_goes_upstream_once() {
        let (resolver, asked) = resolver([192, 0, 2, 1]).await;
        for name in ["www.example.org", "WWW.example.org", "www.example.org"] {
            let answer = asks(&resolver, name).await;
            assert_eq!(answer[answer.len() - 4..], [192, 0, 2, 1]);
        }
        assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_name_of_the_outside_cannot_claim_an_address_of_the_inside() {
        for inside in [[10, 1, 0, 9], [169, 254, 169, 254], [127, 0, 0, 1], [0, 0, 0, 0]] {
            let (resolver, asked) = resolver(inside).await;
            for _ in 0..2 {
                let answer = asks(&resolver, "rebind.example.org").await;
                assert_eq!(answer[3] & 0xf, ResponseCode::Refused as u8, "{inside:?}");
                assert_eq!(answer[6..8], [0, 0], "no records");
            }
            // Nor is the lie kept.
            assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 2);
        }
        let (resolver, _) = resolver([10, 9, 9, 9]).await;
        assert_eq!(asks(&resolver, "office.example.org").await[3] & 0xf, 0);
    }
}
