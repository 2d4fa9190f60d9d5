//! Connections and their settings.

use std::time::Duration;

use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Client, Config, Connection, NoTls, Socket, tls::NoTlsStream};

use super::classify::classify;
use super::session::PostgresSession;
use crate::DatabaseError;

/// Limits that keep one stuck client from holding up the others: a statement, a wait for a lock,
/// a transaction whose client went quiet (the journal's consumers wait for that one too).
const SETTINGS: &str = "-c statement_timeout=30s -c lock_timeout=10s \
     -c idle_in_transaction_session_timeout=30s -c default_transaction_isolation=read\\ committed \
     -c synchronous_commit=on -c client_min_messages=warning -c timezone=UTC";

/// How to connect.
pub(super) struct Connect {
    config: Config,
    /// For messages: no password.
    shown: String,
}

impl Connect {
    pub fn parse(url: &str) -> Result<Self, DatabaseError> {
        let mut config: Config = url.parse().map_err(|error| {
            DatabaseError::Unreachable(format!("the PostgreSQL URL cannot be read: {error}"))
        })?;
        if config.get_ssl_mode() == SslMode::Require {
            return Err(DatabaseError::Unreachable(
                "sslmode=require is not supported; reach PostgreSQL over a local socket or a \
                 private network"
                    .to_owned(),
            ));
        }
        let options = match config.get_options() {
            None => SETTINGS.to_owned(),
            Some(own) => format!("{own} {SETTINGS}"),
        };
        config
            .options(options)
            .application_name("meridian")
            .connect_timeout(Duration::from_secs(5))
            .keepalives(true)
            .keepalives_idle(Duration::from_secs(20))
            .tcp_user_timeout(Duration::from_secs(20));
        let hosts: Vec<String> = config
            .get_hosts()
            .iter()
            .map(|host| match host {
                Host::Tcp(name) => name.clone(),
                Host::Unix(path) => path.display().to_string(),
            })
            .collect();
        let shown = format!(
            "PostgreSQL at {}, database {}",
            hosts.join(", "),
            config.get_dbname().unwrap_or("(default)")
        );
        Ok(Connect { config, shown })
    }

    /// A connection whose messages the caller drives.
    pub async fn raw(&self) -> Result<(Client, Connection<Socket, NoTlsStream>), DatabaseError> {
        self.config.connect(NoTls).await.map_err(|error| match classify(&error, "connect") {
            DatabaseError::Sql { message, .. } => {
                DatabaseError::Unreachable(format!("{}: {message}", self.shown))
            }
            DatabaseError::Unreachable(message) => {
                DatabaseError::Unreachable(format!("{}: {message}", self.shown))
            }
            other => other,
        })
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
