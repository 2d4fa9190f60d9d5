//! The accept loop on real sockets: slow and oversized heads, TLS, shutdown.

use cloud_types::SystemClock;
use database::{Database, DatabaseConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::{
    Access, FixedTokens, Kit, KitConfig, Method, Policy, RouteOptions, Routes, Service as Place,
};

async fn slow() -> &'static str {
    tokio::time::sleep(Duration::from_millis(200)).await;
    "done"
}

async fn start(
    config: ServeConfig,
    tls: Option<Arc<rustls::ServerConfig>>,
) -> (std::net::SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
    let db = Database::open(&DatabaseConfig::SqliteMemory, Arc::new(SystemClock)).await.unwrap();
    let policy = Policy::new(&[]).unwrap();
    let kit = Kit::new(db, policy, Arc::new(FixedTokens::default()), KitConfig::default());
    let routes: Routes = Routes::new(Place::Meridian).route_with(
        Method::GET,
        "/slow",
        Access::Public,
        RouteOptions::default(),
        slow,
    );
    let app = App::new(kit, vec![routes]).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let server = tokio::spawn(serve(listener, tls, app, config, shutdown.clone()));
    (address, shutdown, server)
}

async fn read_all(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = Vec::new();
    let read = stream.read_to_end(&mut text);
    let _ = tokio::time::timeout(Duration::from_secs(20), read).await.expect("it ends");
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn shutdown_answers_what_is_under_way_and_closes_idle_connections() {
    let (address, shutdown, server) = start(ServeConfig::default(), None).await;
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut head = [0u8; 12];
    idle.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    let mut busy = TcpStream::connect(address).await.unwrap();
    busy.write_all(b"GET /meridian/slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    // The request must have arrived before the shutdown does: ask the server itself.
    let mut probe = TcpStream::connect(address).await.unwrap();
    loop {
        probe.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut bytes = vec![0u8; 65_536];
        let length = probe.read(&mut bytes).await.unwrap();
        let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
        if text.contains("meridian_http_requests_in_flight 2") {
            break;
        }
    }
    shutdown.cancel();
    let answer = read_all(&mut busy).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("done"), "{answer}");
    read_all(&mut idle).await;
    tokio::time::timeout(Duration::from_secs(20), server).await.expect("it ends").unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn slow_and_oversized_heads_are_cut() {
    let config = ServeConfig {
        header_timeout: Duration::from_millis(50),
        max_header_bytes: 8192,
        ..ServeConfig::default()
    };
    let (address, shutdown, server) = start(config, None).await;
    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap();
    let answer = read_all(&mut slow).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    let mut large = TcpStream::connect(address).await.unwrap();
    let head = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "a".repeat(20_000));
    let _ = large.write_all(head.as_bytes()).await;
    let answer = read_all(&mut large).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    shutdown.cancel();
    server.await.unwrap();
}

#[tokio::test]
async fn who_sends_a_body_that_nobody_reads_still_gets_the_whole_answer() {
    let (address, shutdown, server) = start(ServeConfig::default(), None).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    const BYTES: usize = 3 << 20;
    let head = format!("POST /nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: {BYTES}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    // More than the sockets hold, so it is only taken when somebody reads it.
    stream.write_all(&vec![b'x'; BYTES]).await.unwrap();
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let answers = read_all(&mut stream).await;
    assert!(answers.starts_with("HTTP/1.1 404"), "{answers}");
    assert!(answers.contains("HTTP/1.1 200"), "the connection is good for another: {answers}");
    shutdown.cancel();
    server.await.unwrap();
}

#[tokio::test]
async fn tls_is_spoken_and_links_say_so() {
    let directory = tempfile::tempdir().unwrap();
    let signed = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (chain, key) = (directory.path().join("chain.pem"), directory.path().join("key.pem"));
    std::fs::write(&chain, signed.cert.pem()).unwrap();
    std::fs::write(&key, signed.signing_key.serialize_pem()).unwrap();
    assert!(crate::tls::server_config(&key, &key).is_err());
    let config = crate::tls::server_config(&chain, &key).unwrap();
    let (address, shutdown, server) = start(ServeConfig::default(), Some(config)).await;

    let mut roots = rustls::RootCertStore::empty();
    roots.add(signed.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let stream = TcpStream::connect(address).await.unwrap();
    let mut stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
    let ask = b"GET /identity/v3 HTTP/1.1\r\nhost: localhost:1\r\nconnection: close\r\n\r\n";
    stream.write_all(ask).await.unwrap();
    let answer = read_all(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    shutdown.cancel();
    server.await.unwrap();
}
