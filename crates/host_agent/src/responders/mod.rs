//! DHCP, DNS and metadata, answered on the host.
//!
//! ```text
//!   guest ──► bridge: source becomes 10. + port number ──► veth ──► kernel sockets in a namespace
//!                                                                   UDP 67   dhcp
//!   guest ◄── bridge: back to the port's MAC and address ◄── veth ◄ UDP, TCP 53   dns
//!                                                                   TCP 80   metadata
//! ```
//! The peer address that a socket reports is the asking port and nothing else is: a guest cannot
//! write it, and no header that it sends is looked at for it. Everything is answered from the
//! host's own documents, so it goes on when the control plane is gone.
//!
//! A table is built for each change of the documents and swapped in whole: an answer comes from
//! one state of the world, and answering takes no lock for longer than a pointer's copy.

mod dhcp;
mod dns;
pub mod metadata;
mod socket;
mod table;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::task::JoinSet;

use crate::config::RespondersConfig;
use crate::edges::{ResponderTables, Responders};
use crate::links::in_namespace;
use socket::IdentifiedUdp;
use table::PortTable;

/// The current table, shared by all responders.
#[derive(Clone, Default)]
pub(crate) struct Current(Arc<RwLock<Arc<PortTable>>>);

impl Current {
    pub fn get(&self) -> Arc<PortTable> {
        // A writer only swaps a pointer: even after a panic elsewhere what is there is whole.
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, table: PortTable) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
    }
}

/// The responders of this host; they end when it is dropped.
pub struct HostResponders {
    current: Current,
    _tasks: JoinSet<()>,
}

impl HostResponders {
    /// Opens the sockets in the responders' namespace, which [`crate::edges::Links`] has made, and
    /// answers from then on: with silence, until the first [`Responders::update`]. Must be called
    /// inside a tokio runtime. Questions to upstream name servers leave from the agent's own
    /// namespace.
    ///
    /// # Errors
    /// When the namespace is missing, or another process holds a port in it.
    pub fn start(config: &RespondersConfig) -> io::Result<Self> {
        let any = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let (dhcp, dns_udp, dns_tcp, http) = in_namespace(&config.namespace, || {
            Ok((
                std::net::UdpSocket::bind(any(67))?,
                std::net::UdpSocket::bind(any(53))?,
                std::net::TcpListener::bind(any(53))?,
                std::net::TcpListener::bind(any(80))?,
            ))
        })?;
        let current = Current::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(dhcp::serve(IdentifiedUdp::new(dhcp)?, current.clone()));
        let resolver = Arc::new(dns::Resolver::new(current.clone(), &config.upstream_dns));
        tasks.spawn(dns::serve_udp(IdentifiedUdp::new(dns_udp)?, resolver.clone()));
        tasks.spawn(dns::serve_tcp(listener(dns_tcp)?, resolver));
        tasks.spawn(metadata::serve(listener(http)?, current.clone()));
        Ok(HostResponders { current, _tasks: tasks })
    }
}

fn listener(listener: std::net::TcpListener) -> io::Result<tokio::net::TcpListener> {
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}

impl Responders for HostResponders {
    fn update(&self, tables: ResponderTables) {
        self.current.set(PortTable::new(tables));
    }
}
