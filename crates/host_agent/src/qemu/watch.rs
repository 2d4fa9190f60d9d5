//! One task for each guest: it hears the monitor's events and the end of the process, and opens a
//! lost monitor again.

use std::sync::{Arc, Weak};
use std::time::Duration;

use host_protocol::PowerState;
use tokio::sync::mpsc;

use super::qmp::QmpEvent;
use super::{Guest, Inner, forget, greet, lock};
use crate::hypervisor::{GuestChange, GuestEvent};

/// First and longest wait before a lost monitor is opened again.
const RECONNECT_FIRST: Duration = Duration::from_millis(100);
const RECONNECT_LONGEST: Duration = Duration::from_secs(10);

/// Watches a guest until its process ends or the adapter is dropped.
pub(super) fn watch(
    inner: &Arc<Inner>,
    server_id: String,
    guest: Arc<Guest>,
    events: Option<mpsc::UnboundedReceiver<QmpEvent>>,
) {
    let dropped = inner.dropped.clone();
    let inner = Arc::downgrade(inner);
    tokio::spawn(async move {
        let how = tokio::select! {
            how = guest.process.ended() => how,
            () = follow(&inner, &server_id, &guest, events) => return,
            () = dropped.cancelled() => return,
        };
        let Some(inner) = inner.upgrade() else { return };
        let words = guest.files.output_tail();
        let detail = if words.is_empty() { how } else { format!("{how}; QEMU said: {words}") };
        forget(&inner, &server_id, &guest);
        send(&inner, &server_id, &guest, GuestChange::Exited { detail });
    });
}

/// Passes the monitor's events on; returns only when the adapter is gone.
async fn follow(
    inner: &Weak<Inner>,
    server_id: &str,
    guest: &Arc<Guest>,
    mut events: Option<mpsc::UnboundedReceiver<QmpEvent>>,
) {
    let mut wait = RECONNECT_FIRST;
    loop {
        if let Some(stream) = &mut events {
            while let Some(event) = stream.recv().await {
                let Some(inner) = inner.upgrade() else { return };
                take(&inner, server_id, guest, &event);
            }
            *lock(&guest.qmp) = None;
            tracing::warn!(server = %server_id, "lost the monitor of a guest; opening it again");
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RECONNECT_LONGEST);
        let opened = match guest.files.qmp().connect() {
            Ok(stream) => greet(stream).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let Some(inner) = inner.upgrade() else { return };
        match opened {
            Ok((qmp, stream, power)) => {
                *lock(&guest.qmp) = Some(qmp);
                events = Some(stream);
                wait = RECONNECT_FIRST;
                // What happened while nobody listened.
                let before = std::mem::replace(&mut *lock(&guest.state), power);
                if before != power {
                    let change = match power {
                        PowerState::Running => GuestChange::Resumed,
                        PowerState::Paused => GuestChange::Paused,
                        PowerState::Shutdown | PowerState::Crashed => GuestChange::PoweredOff,
                    };
                    send(&inner, server_id, guest, change);
                }
            }
            Err(error) => {
                events = None;
                tracing::debug!(server = %server_id, %error, "the guest's monitor does not answer yet");
            }
        }
    }
}

/// What an event means for the guest's state.
fn take(inner: &Inner, server_id: &str, guest: &Arc<Guest>, event: &QmpEvent) {
    let change = {
        let mut state = lock(&guest.state);
        match change_of(*state, event) {
            Some((next, change)) => {
                *state = next;
                change
            }
            None => return,
        }
    };
    tracing::debug!(server = %server_id, event = %event.name, "guest event");
    send(inner, server_id, guest, change);
}

/// Pure: state and event to the next state and what to tell. A machine that the guest switched
/// off stays so: the STOP that follows is part of it.
fn change_of(state: PowerState, event: &QmpEvent) -> Option<(PowerState, GuestChange)> {
    match (event.name.as_str(), state) {
        ("SHUTDOWN", _) if event.data["guest"].as_bool() == Some(true) => {
            Some((PowerState::Shutdown, GuestChange::PoweredOff))
        }
        ("RESET", PowerState::Shutdown) => Some((PowerState::Running, GuestChange::Reset)),
        ("RESET", state) => Some((state, GuestChange::Reset)),
        (_, PowerState::Shutdown) => None,
        ("STOP", _) => Some((PowerState::Paused, GuestChange::Paused)),
        ("RESUME", _) => Some((PowerState::Running, GuestChange::Resumed)),
        _ => None,
    }
}

fn send(inner: &Inner, server_id: &str, guest: &Guest, what: GuestChange) {
    // The agent is shutting down when nobody listens.
    let _ = inner.events.send(GuestEvent {
        server_id: server_id.to_owned(),
        incarnation: guest.incarnation,
        what,
    });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(name: &str, data: serde_json::Value) -> QmpEvent {
        QmpEvent { name: name.to_owned(), data }
    }

    #[test]
    fn who_switched_the_machine_off_matters() {
        let by_guest = event("SHUTDOWN", json!({ "guest": true, "reason": "guest-shutdown" }));
        assert_eq!(
            change_of(PowerState::Running, &by_guest),
            Some((PowerState::Shutdown, GuestChange::PoweredOff))
        );
        let by_host = event("SHUTDOWN", json!({ "guest": false, "reason": "host-signal" }));
        assert_eq!(change_of(PowerState::Running, &by_host), None);
    }

    #[test]
    fn the_stop_after_a_power_off_is_not_a_pause() {
        let stop = event("STOP", json!(null));
        assert_eq!(change_of(PowerState::Shutdown, &stop), None);
        assert_eq!(
            change_of(PowerState::Running, &stop),
            Some((PowerState::Paused, GuestChange::Paused))
        );
    }
}
