//! Word of committed changes, to whoever waits for them. A notification is a hint that may be
//! lost when a subscriber is slow or (on PostgreSQL) a connection breaks; the subscriber is then
//! told [`Notification::Lagged`], and looks at everything.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::broadcast;

/// Notifications that a slow subscriber may be behind before it is told that it lagged.
const BACKLOG: usize = 4096;

/// What a subscriber receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notification {
    /// A committed transaction said that this object changed.
    Key(String),
    /// Some notifications were lost: assume that everything changed.
    Lagged,
}

#[derive(Clone, Debug)]
enum Event {
    Key(Arc<str>),
    Lagged,
}

/// Fans out committed notifications within the process.
#[derive(Debug, Default)]
pub(crate) struct Notifier {
    channels: Mutex<HashMap<String, broadcast::Sender<Event>>>,
}

impl Notifier {
    pub fn subscribe(&self, channel: &str) -> Subscription {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let sender =
            channels.entry(channel.to_owned()).or_insert_with(|| broadcast::channel(BACKLOG).0);
        Subscription { receiver: sender.subscribe() }
    }

    pub fn send(&self, channel: &str, key: &str) {
        let channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = channels.get(channel) {
            // An error means that nobody listens any more.
            let _ = sender.send(Event::Key(key.into()));
        }
    }

    pub fn lagged(&self) {
        let channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        for sender in channels.values() {
            let _ = sender.send(Event::Lagged);
        }
    }
}

/// The notifications of one channel from [`crate::Database::subscribe`] on.
#[derive(Debug)]
pub struct Subscription {
    receiver: broadcast::Receiver<Event>,
}

impl Subscription {
    /// Waits for the next notification. Cancel safe. Waits for ever once the database is closed.
    pub async fn recv(&mut self) -> Notification {
        match self.receiver.recv().await {
            Ok(Event::Key(key)) => Notification::Key(key.as_ref().to_owned()),
            Ok(Event::Lagged) | Err(broadcast::error::RecvError::Lagged(_)) => Notification::Lagged,
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }

    /// The next notification if one is there already.
    pub fn try_recv(&mut self) -> Option<Notification> {
        match self.receiver.try_recv() {
            Ok(Event::Key(key)) => Some(Notification::Key(key.as_ref().to_owned())),
            Ok(Event::Lagged) | Err(broadcast::error::TryRecvError::Lagged(_)) => {
                Some(Notification::Lagged)
            }
            Err(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_subscriber_is_told_that_it_lagged() {
        let notifier = Notifier::default();
        let mut slow = notifier.subscribe("servers");
        for _ in 0..=BACKLOG {
            notifier.send("servers", "a");
        }
        assert_eq!(slow.recv().await, Notification::Lagged);
        assert_eq!(slow.recv().await, Notification::Key("a".to_owned()));
        notifier.lagged();
        let mut last = slow.recv().await;
        while let Some(next) = slow.try_recv() {
            last = next;
        }
        assert_eq!(last, Notification::Lagged);
    }
}
