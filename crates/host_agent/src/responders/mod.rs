//! DHCP, router advertisements, DNS and metadata, answered on the host.
//!
//! ```text
//!   guest ──► bridge: source becomes 10. + port number ──► veth ──► kernel sockets in a namespace
//!                                                                   UDP 67   dhcp
//!   guest ◄── bridge: back to the port's MAC and address ◄── veth ◄ UDP, TCP 53   dns
//!                                                                   TCP 80   metadata
//! ```
//! Over IPv6 the same happens with addresses of the host's own ([`flow_compiler::PORT_NETWORK6`]), and
//! a raw socket hears router solicitations; a machine without IPv6 answers over IPv4 alone.
//!
//! The peer address that a socket reports is the asking port and nothing else is: a guest cannot
//! write it, and no header that it sends is looked at for it. Everything is answered from the
//! host's own documents, so it goes on when the control plane is gone.
//!
//! A table is built for each change of the documents and swapped in whole: an answer comes from
//! one state of the world, and answering takes no lock for longer than a pointer's copy.

mod advertise;
mod dhcp;
mod dhcp6;
mod dns;
mod extra;
pub mod metadata;
mod socket;
mod table;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::config::RespondersConfig;
use crate::edges::{ResponderTables, Responders};
use crate::links::in_namespace;
use socket::Identified;
use table::PortTable;

/// The current table, shared by all responders.
#[derive(Clone, Default)]
pub(crate) struct Current {
    table: Arc<RwLock<Arc<PortTable>>>,
    changed: Arc<Notify>,
}

impl Current {
    pub fn get(&self) -> Arc<PortTable> {
        // A writer only swaps a pointer: even after a panic elsewhere what is there is whole.
        self.table.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, table: PortTable) {
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
        self.changed.notify_one();
    }

    /// Waits for another table than the one that was there when this last returned. For one waiter.
    pub async fn changed(&self) {
        self.changed.notified().await;
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
        let (dhcp, four) = in_namespace(&config.namespace, || {
            let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 67));
            Ok((std::net::UdpSocket::bind(any)?, Shared::open(Ipv4Addr::UNSPECIFIED.into())?))
        })?;
        let current = Current::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(dhcp::serve(Identified::udp(dhcp)?, current.clone()));
        let resolver = Arc::new(dns::Resolver::new(current.clone(), &config.upstream_dns));
        four.serve(&mut tasks, &current, &resolver)?;
        match in_namespace(&config.namespace, Six::open) {
            Ok(Some(six)) => {
                tasks.spawn(dhcp6::serve(Identified::udp(six.dhcp)?, current.clone()));
                let solicitations = Identified::raw(six.solicitations)?;
                tasks.spawn(advertise::serve(solicitations, current.clone()));
                six.shared.serve(&mut tasks, &current, &resolver)?;
            }
            Ok(None) => {
                tracing::warn!("this machine has no IPv6; guests are answered over IPv4 alone")
            }
            Err(error) => return Err(error),
        }
        Ok(HostResponders { current, _tasks: tasks })
    }
}

/// The sockets that each family has.
struct Shared {
    dns_udp: std::net::UdpSocket,
    dns_tcp: std::net::TcpListener,
    http: std::net::TcpListener,
}

impl Shared {
    fn open(any: std::net::IpAddr) -> io::Result<Self> {
        Ok(Shared {
            dns_udp: std::net::UdpSocket::bind((any, 53))?,
            dns_tcp: std::net::TcpListener::bind((any, 53))?,
            http: std::net::TcpListener::bind((any, 80))?,
        })
    }

    fn serve(
        self,
        tasks: &mut JoinSet<()>,
        current: &Current,
        resolver: &Arc<dns::Resolver>,
    ) -> io::Result<()> {
        tasks.spawn(dns::serve_udp(Identified::udp(self.dns_udp)?, resolver.clone()));
        tasks.spawn(dns::serve_tcp(listener(self.dns_tcp)?, resolver.clone()));
        tasks.spawn(metadata::serve(listener(self.http)?, current.clone()));
        Ok(())
    }
}

/// What is heard over IPv6 only.
struct Six {
    dhcp: std::net::UdpSocket,
    solicitations: OwnedFd,
    shared: Shared,
}

impl Six {
    /// `None` on a kernel without IPv6. One socket for both families would take IPv4's ports too, so
    /// the namespace's own setting keeps them apart ([`crate::links`]).
    fn open() -> io::Result<Option<Self>> {
        let any = Ipv6Addr::UNSPECIFIED;
        let dhcp = match std::net::UdpSocket::bind((any, 547)) {
            Ok(dhcp) => dhcp,
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => return Ok(None),
            Err(error) => return Err(error),
        };
        let solicitations = socket::router_solicitations()?;
        Ok(Some(Six { dhcp, solicitations, shared: Shared::open(any.into())? }))
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
