//! Notifications of the other processes, by LISTEN on one connection. While that is down some are
//! lost; so every subscriber is told that it lagged once it is up again.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, Client};

use super::Inner;
use crate::DatabaseError;

/// NOTIFY's limit is 8000 bytes with its terminator.
const LONGEST: usize = 7900;
/// Pauses between attempts to connect again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// What is sent for one notification. Without a key when the key is too long: then everybody
/// looks at everything.
pub(super) fn payload(instance: &str, channel: &str, key: &str) -> String {
    let whole = format!("{instance}\t{channel}\t{key}");
    if whole.len() <= LONGEST { whole } else { format!("{instance}\t") }
}

/// Listens from now on.
pub(super) async fn start(inner: &Arc<Inner>) -> Result<JoinHandle<()>, DatabaseError> {
    let mut listening = listen(inner).await?;
    let weak = Arc::downgrade(inner);
    Ok(tokio::spawn(async move {
        loop {
            // Until the connection ends.
            while let Some(text) = listening.1.recv().await {
                match weak.upgrade() {
                    Some(inner) => deliver(&inner, &text),
                    None => return,
                }
            }
            match reconnect(&weak).await {
                Some(again) => listening = again,
                None => return,
            }
        }
    }))
}

async fn reconnect(weak: &Weak<Inner>) -> Option<Listening> {
    let mut pause = PAUSE.0;
    loop {
        let inner = weak.upgrade()?;
        match listen(&inner).await {
            Ok(again) => {
                tracing::info!("listening for notifications again");
                inner.shared.notifier.lagged();
                return Some(again);
            }
            Err(error) => {
                tracing::warn!(%error, "notifications of other processes are not heard");
                drop(inner);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE.1);
            }
        }
    }
}

type Listening = (Client, mpsc::UnboundedReceiver<String>);

async fn listen(inner: &Inner) -> Result<Listening, DatabaseError> {
    let (client, mut connection) = inner.config.raw().await?;
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut messages = stream::poll_fn(move |context| connection.poll_message(context));
        while let Some(message) = messages.next().await {
            match message {
                Ok(AsyncMessage::Notification(notification)) => {
                    if sender.send(notification.payload().to_owned()).is_err() {
                        return;
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%error, "the listening connection ended");
                    return;
                }
            }
        }
    });
    client
        .batch_execute("LISTEN meridian")
        .await
        .map_err(|error| super::classify::classify(&error, "LISTEN meridian"))?;
    Ok((client, receiver))
}

fn deliver(inner: &Inner, text: &str) {
    let mut parts = text.splitn(3, '\t');
    let (instance, channel, key) = (parts.next(), parts.next(), parts.next());
    if instance == Some(&inner.instance) {
        // Told within the process already.
        return;
    }
    match (channel, key) {
        (Some(channel), Some(key)) => inner.shared.notifier.send(channel, key),
        _ => inner.shared.notifier.lagged(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_fit() {
        assert_eq!(payload("i", "c", "k"), "i\tc\tk");
        assert_eq!(payload("i", "c", &"k".repeat(8000)), "i\t");
    }
}
