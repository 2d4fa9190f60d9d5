//! Connections and their settings.
//!
//! The URL may name several servers, of which one is the primary and the others may become it:
//! `postgres://user@a,b/meridian?target_session_attrs=read-write`. After a failover the former
//! primary may come back and believe that it still is one. It is told apart by its *timeline*, which
//! PostgreSQL counts up with each promotion: a server whose timeline is below one that was seen is
//! not spoken to.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::{Client, Config, Connection, NoTls, SimpleQueryMessage, Socket};

use super::classify::classify;
use super::session::PostgresSession;
use crate::DatabaseError;

/// Limits that keep one stuck client from holding up the others: a statement, a wait for a lock,
/// a transaction whose client went quiet (the journal's consumers wait for that one too). The
/// `options` of the URL may set others.
const LIMITS: &str = "-c statement_timeout=30s -c lock_timeout=10s \
     -c idle_in_transaction_session_timeout=30s";
/// What everything here relies on, whatever the URL says.
const SETTINGS: &str = "-c default_transaction_isolation=read\\ committed \
     -c synchronous_commit=on -c client_min_messages=warning -c timezone=UTC";
/// How long one server has to take a connection: a server that was switched off does not refuse.
const CONNECT: Duration = Duration::from_secs(3);
/// A server that acknowledges nothing for so long is gone. Together with [`CONNECT`] well below the
/// ten seconds in which service is to be there again after a promotion.
const SILENCE: Duration = Duration::from_secs(5);

/// A null timeline for a standby, which has none of its own.
const TIMELINE: &str = "SELECT CASE WHEN pg_is_in_recovery() THEN NULL
     ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END";

/// How to connect.
pub(crate) struct Connect {
    /// One for each server.
    servers: Vec<Config>,
    /// Whether only a server that takes writes will do.
    writable: bool,
    /// The server that worked last.
    preferred: AtomicUsize,
    /// The highest timeline that was seen.
    timeline: AtomicU32,
    /// For messages: no password.
    shown: String,
}

type Raw = (Client, Connection<Socket, NoTlsStream>);

impl Connect {
    pub fn parse(url: &str) -> Result<Self, DatabaseError> {
        let config: Config = url.parse().map_err(|error| {
            DatabaseError::Unreachable(format!("the PostgreSQL URL cannot be read: {error}"))
        })?;
        if config.get_ssl_mode() == SslMode::Require {
            return Err(DatabaseError::Unreachable(
                "sslmode=require is not supported; reach PostgreSQL over a local socket or a \
                 private network"
                    .to_owned(),
            ));
        }
        let names: Vec<String> = config
            .get_hosts()
            .iter()
            .map(|host| match host {
                Host::Tcp(name) => name.clone(),
                Host::Unix(path) => path.display().to_string(),
            })
            .collect();
        let shown = format!(
            "PostgreSQL at {}, database {}",
            names.join(", "),
            config.get_dbname().unwrap_or("(default)")
        );
        Ok(Connect {
            servers: servers(&config),
            writable: config.get_target_session_attrs() == TargetSessionAttrs::ReadWrite,
            preferred: AtomicUsize::new(0),
            timeline: AtomicU32::new(0),
            shown,
        })
    }

    /// The servers and the database, without a password.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Asks every server for its timeline, so that the first connection is not to a former primary.
    pub async fn survey(&self) {
        if self.servers.len() < 2 {
            return;
        }
        let timelines = join_all(self.servers.iter().map(|server| async move {
            let (client, mut connection) = server.connect(NoTls).await.ok()?;
            timeline(&client, &mut connection).await.ok().flatten()
        }))
        .await;
        if let Some(highest) = timelines.into_iter().flatten().max() {
            self.timeline.fetch_max(highest, Ordering::SeqCst);
        }
    }

    /// A connection whose messages the caller drives: to the server that worked last, or to the
    /// first other that will do.
    pub async fn raw(&self) -> Result<Raw, DatabaseError> {
        let preferred = self.preferred.load(Ordering::SeqCst);
        let mut why: Vec<String> = Vec::new();
        for step in 0..self.servers.len() {
            let index = (preferred + step) % self.servers.len();
            match self.connect(&self.servers[index]).await {
                Ok(raw) => {
                    self.preferred.store(index, Ordering::SeqCst);
                    return Ok(raw);
                }
                Err(DatabaseError::Sql { message, .. } | DatabaseError::Unreachable(message)) => {
                    if !why.contains(&message) {
                        why.push(message);
                    }
                }
                Err(other) => return Err(other),
            }
        }
        Err(DatabaseError::Unreachable(format!("{}: {}", self.shown, why.join("; "))))
    }

    async fn connect(&self, server: &Config) -> Result<Raw, DatabaseError> {
        let (client, mut connection) =
            server.connect(NoTls).await.map_err(|error| classify(&error, "connect"))?;
        let timeline = timeline(&client, &mut connection).await?;
        match timeline {
            None if self.writable => {
                return Err(DatabaseError::Unreachable(
                    "the server is a standby; none that takes writes was found".to_owned(),
                ));
            }
            None => {}
            Some(own) => {
                let highest = self.timeline.fetch_max(own, Ordering::SeqCst);
                if own < highest {
                    return Err(DatabaseError::Unreachable(format!(
                        "the server is a former primary, on timeline {own} where {highest} was \
                         seen: make it a standby of the new one"
                    )));
                }
            }
        }
        Ok((client, connection))
    }

    /// A connection that runs by itself.
    pub async fn session(&self) -> Result<PostgresSession, DatabaseError> {
        let (client, connection) = self.raw().await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a database connection ended");
            }
        });
        Ok(PostgresSession::new(client))
    }
}

/// The timeline into which a server writes; `None` for a standby.
async fn timeline(
    client: &Client,
    connection: &mut Connection<Socket, NoTlsStream>,
) -> Result<Option<u32>, DatabaseError> {
    let asked = async {
        tokio::select! {
            answer = client.simple_query(TIMELINE) => {
                answer.map_err(|error| classify(&error, TIMELINE))
            }
            ended = connection => Err(match ended {
                Err(error) => classify(&error, TIMELINE),
                Ok(()) => DatabaseError::Unreachable("the server closed the connection".to_owned()),
            }),
        }
    };
    let answer = tokio::time::timeout(CONNECT, asked).await.map_err(|_| {
        DatabaseError::Unreachable("the server takes connections and does not answer".to_owned())
    })??;
    Ok(answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => {
            row.get(0).and_then(|digits| u32::from_str_radix(digits, 16).ok())
        }
        _ => None,
    }))
}

/// One configuration for each server that the URL names.
fn servers(all: &Config) -> Vec<Config> {
    // Of two, the later one counts.
    let options = format!("{LIMITS} {} {SETTINGS}", all.get_options().unwrap_or_default());
    let ports = all.get_ports();
    let count = all.get_hosts().len().max(all.get_hostaddrs().len());
    (0..count)
        .map(|index| {
            let mut one = Config::new();
            if let Some(user) = all.get_user() {
                one.user(user);
            }
            if let Some(password) = all.get_password() {
                one.password(password);
            }
            if let Some(name) = all.get_dbname() {
                one.dbname(name);
            }
            match all.get_hosts().get(index) {
                Some(Host::Tcp(name)) => {
                    one.host(name);
                }
                Some(Host::Unix(path)) => {
                    one.host_path(path);
                }
                None => {}
            }
            if let Some(address) = all.get_hostaddrs().get(index) {
                one.hostaddr(*address);
            }
            // One port for all, or one for each.
            if let Some(port) = ports.get(index).or_else(|| ports.first()) {
                one.port(*port);
            }
            one.ssl_mode(all.get_ssl_mode())
                .channel_binding(all.get_channel_binding())
                .options(&options)
                .application_name("meridian")
                .connect_timeout(CONNECT)
                .keepalives(true)
                .keepalives_idle(SILENCE)
                .keepalives_interval(Duration::from_secs(1))
                .keepalives_retries(3)
                .tcp_user_timeout(SILENCE);
            one
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_of_the_url_has_its_own_port_and_the_common_rest() {
        let url = "postgres://u:secret@a:5433,b:5434/meridian?target_session_attrs=read-write";
        let connect = Connect::parse(url).unwrap();
        assert!(connect.writable);
        assert!(!connect.shown.contains("secret"), "{}", connect.shown);
        let each: Vec<(&[Host], &[u16])> =
            connect.servers.iter().map(|one| (one.get_hosts(), one.get_ports())).collect();
        let [a, b] = [Host::Tcp("a".to_owned()), Host::Tcp("b".to_owned())];
        assert_eq!(each, [(&[a][..], &[5433][..]), (&[b][..], &[5434][..])]);
        assert!(connect.servers.iter().all(|one| one.get_dbname() == Some("meridian")));
    }

    #[test]
    fn one_port_serves_for_all() {
        let connect = Connect::parse("host=a,b port=6000 user=u dbname=d").unwrap();
        assert!(connect.servers.iter().all(|one| one.get_ports() == [6000]));
        assert!(!connect.writable);
    }
}
