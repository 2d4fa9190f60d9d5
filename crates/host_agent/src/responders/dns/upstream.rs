//! Asking the operator's name servers.
//!
//! Each question leaves from a new socket (so from a port that cannot be guessed) with a new
//! identifier, and only an answer to that very question from the server that was asked is given
//! to the guest.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::message::Query;

/// How long one server may take; guests' resolvers ask again after five seconds.
const PATIENCE: Duration = Duration::from_secs(2);
/// Largest answer over UDP.
const MAX_ANSWER: usize = 4096;

/// Asks one server after the other; `None` when none answered.
pub(crate) async fn ask(servers: &[SocketAddr], query: &Query, tcp: bool) -> Option<Vec<u8>> {
    for &server in servers {
        let asked =
            async { if tcp { ask_tcp(server, query).await } else { ask_udp(server, query).await } };
        match timeout(PATIENCE, asked).await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => tracing::debug!(%server, %error, "name server"),
            Err(_) => tracing::debug!(%server, "name server did not answer"),
        }
    }
    None
}

async fn ask_udp(server: SocketAddr, query: &Query) -> io::Result<Vec<u8>> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    let id = rand::random();
    socket.send(&with_id(&query.bytes, id)).await?;
    let mut buffer = vec![0; MAX_ANSWER];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if is_answer(&buffer[..length], id, query) {
            return Ok(with_id(&buffer[..length], query.id()));
        }
    }
}

async fn ask_tcp(server: SocketAddr, query: &Query) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let id = rand::random();
    let mut bytes = (query.bytes.len() as u16).to_be_bytes().to_vec();
    bytes.extend_from_slice(&with_id(&query.bytes, id));
    stream.write_all(&bytes).await?;
    let mut answer = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut answer).await?;
    if is_answer(&answer, id, query) {
        Ok(with_id(&answer, query.id()))
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "an answer to another question"))
    }
}

fn with_id(message: &[u8], id: u16) -> Vec<u8> {
    let mut out = message.to_vec();
    out[..2].copy_from_slice(&id.to_be_bytes());
    out
}

/// A response, to this identifier and this question.
fn is_answer(message: &[u8], id: u16, query: &Query) -> bool {
    let question = query.question();
    message.len() >= 12 + question.len()
        && message[..2] == id.to_be_bytes()
        && message[2] & 0x80 != 0
        && message[12..12 + question.len()].eq_ignore_ascii_case(question)
}

#[cfg(test)]
mod tests {
    use super::super::message::ResponseCode;
    use super::super::message::tests::question;
    use super::*;

    /// A name server that answers each question with what `answers` makes of it.
    async fn server(answers: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddr {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
                for answer in answers(&buffer[..length]) {
                    socket.send_to(&answer, peer).await.unwrap();
                }
            }
        });
        address
    }

    fn response(question: &[u8], code: ResponseCode) -> Vec<u8> {
        Query::read(question).unwrap().failure(code)
    }

    #[tokio::test]
    async fn only_the_answer_to_the_very_question_is_believed() {
        let address = server(|asked| {
            let mut other_id = response(asked, ResponseCode::NoError);
            other_id[0] ^= 0xff;
            let mut other_name = response(asked, ResponseCode::NoError);
            other_name[13] ^= 1;
            vec![other_id, other_name, asked.to_vec(), response(asked, ResponseCode::NameError)]
        })
        .await;
        let query = Query::read(&question("example.org", 1)).unwrap();
        let answer = ask(&[address], &query, false).await.unwrap();
        assert_eq!(answer[3] & 0xf, ResponseCode::NameError as u8);
        assert_eq!(answer[..2], query.id().to_be_bytes());
    }

    #[tokio::test]
    async fn a_silent_server_is_passed_over() {
        let silent = server(|_| Vec::new()).await;
        let speaking = server(|asked| vec![response(asked, ResponseCode::NoError)]).await;
        let query = Query::read(&question("example.org", 1)).unwrap();
        assert!(ask(&[silent, speaking], &query, false).await.is_some());
        assert!(ask(&[silent], &query, false).await.is_none());
    }
}
