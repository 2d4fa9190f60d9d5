//! Servers that say nonsense, nothing, or go away: the client ends with a sentence and never hangs.

use std::time::Duration;

use ovsdb::{Connection, Frames, MonitorTable, Options, OvsdbError};
use proptest::prelude::*;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

struct Server {
    _directory: tempfile::TempDir,
    listener: UnixListener,
    path: std::path::PathBuf,
}

impl Server {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db.sock");
        Self { listener: UnixListener::bind(&path).unwrap(), path, _directory: directory }
    }

    async fn meet(&self, options: Options) -> (Connection, UnixStream) {
        let (client, server) =
            tokio::join!(Connection::connect(&self.path, options), self.listener.accept());
        (client.unwrap(), server.unwrap().0)
    }
}

/// Answers the first request with `bytes` and returns the client's error.
async fn answered_with(bytes: &[u8]) -> OvsdbError {
    let server = Server::new();
    let (client, mut socket) =
        server.meet(Options { max_message: 1000, ..Options::default() }).await;
    let answer = async {
        let mut buffer = [0; 1000];
        let _ = socket.read(&mut buffer).await.unwrap();
        socket.write_all(bytes).await.unwrap();
        // Left open: the client must not need the end of the stream.
        socket
    };
    let (result, _socket) = tokio::join!(client.request("list_dbs", json!([])), answer);
    result.unwrap_err()
}

#[tokio::test]
async fn nonsense_ends_the_connection_with_a_sentence() {
    for (bytes, says) in [
        (&b"hello"[..], "nonsense"),
        (b"{\"id\": }", "nonsense"),
        (b"{\"method\": \"update\", \"params\": [1], \"id\": null}", "update"),
        (b"{\"method\": \"update\", \"params\": [1, {\"T\": {\"x\": {}}}], \"id\": null}", "UUID"),
        (b"{\"id\": 1, \"result\": null, \"error\": \"unknown method\"}", "unknown method"),
    ] {
        let error = answered_with(bytes).await.to_string();
        assert!(error.contains(says), "{error}");
    }
    let long = format!("{{\"a\": \"{}", "x".repeat(2000));
    assert!(answered_with(long.as_bytes()).await.to_string().contains("longer"));
}

#[tokio::test]
async fn silence_and_absence_are_noticed() {
    let server = Server::new();
    let quick = Duration::from_millis(30);
    let options = Options { echo_interval: quick, ..Options::default() };
    let (client, _socket) = server.meet(options).await;
    let why = tokio::time::timeout(Duration::from_secs(60), client.closed()).await.unwrap();
    assert!(why.contains("silent"), "{why}");

    let (client, _socket) =
        server.meet(Options { request_timeout: quick, ..Options::default() }).await;
    let error = client.request("list_dbs", json!([])).await.unwrap_err();
    assert!(matches!(error, OvsdbError::Timeout(_)), "{error}");

    let (client, socket) = server.meet(Options::default()).await;
    drop(socket);
    let tables = [MonitorTable::new("T", &["a"])];
    let error = client.monitor("db", &tables).await.unwrap_err();
    assert!(error.is_disconnected(), "{error}");
}

#[tokio::test]
async fn an_echo_is_answered() {
    let server = Server::new();
    let (_client, mut socket) = server.meet(Options::default()).await;
    socket.write_all(br#"{"method":"echo","params":["x",1],"id":"me"}"#).await.unwrap();
    let mut frames = Frames::new(1000);
    let frame = loop {
        socket.read_buf(frames.buffer()).await.unwrap();
        if let Some(frame) = frames.next_frame().unwrap() {
            break frame;
        }
    };
    let answer: serde_json::Value = serde_json::from_slice(&frame).unwrap();
    assert_eq!(answer, json!({"result": ["x", 1], "error": null, "id": "me"}));
}

proptest! {
    #[test]
    fn framing_takes_any_bytes(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..20)) {
        let mut frames = Frames::new(200);
        for piece in pieces {
            frames.buffer().extend_from_slice(&piece);
            while let Ok(Some(frame)) = frames.next_frame() {
                prop_assert_eq!(frame[0], b'{');
            }
        }
    }

    #[test]
    fn whole_values_survive_any_cut(texts in proptest::collection::vec(".*", 1..6), size in 1usize..20) {
        let values: Vec<_> = texts.iter().map(|t| json!({"a": [t, {"b": t}]})).collect();
        let stream: String = values.iter().map(|v| v.to_string()).collect();
        let mut frames = Frames::new(1 << 20);
        let mut found = Vec::new();
        for piece in stream.as_bytes().chunks(size) {
            frames.buffer().extend_from_slice(piece);
            while let Some(frame) = frames.next_frame().unwrap() {
                found.push(serde_json::from_slice::<serde_json::Value>(&frame).unwrap());
            }
        }
        prop_assert_eq!(found, values);
        prop_assert!(frames.is_between_messages());
    }
}
