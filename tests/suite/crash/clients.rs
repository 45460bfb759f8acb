//! Clients that do not behave.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::SECRET;

const PATH: &str = "/api/webhooks/workos/directory-sync";

/// A request as it goes over the wire, signed with `secret`.
pub fn signed_request(body: &[u8], secret: &str) -> Vec<u8> {
    let signature = workos_emulator::sign(secret, chrono::Utc::now().timestamp_millis(), body);
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nhost: x\r\nworkos-signature: {signature}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Sends the beginning of a request, up to `share` thousandths of it, and hangs up without reading an answer.
pub async fn hang_up(address: &str, body: &[u8], share: usize) {
    let request = signed_request(body, SECRET);
    // The process may be gone or busy: that is the play's business, not this client's.
    if let Ok(mut stream) = TcpStream::connect(address).await {
        let _ = stream.write_all(&request[..request.len() * share / 1000]).await;
    }
}

/// The ways of keeping a connection waiting.
#[derive(Debug, Clone, Copy)]
pub enum Slowness {
    /// Nothing is sent at all.
    Silent,
    /// Half a head.
    HalfHead,
    /// A head and half a body.
    HalfBody,
    /// A byte of the body, then after a while the next.
    Trickle,
    /// A chunk, and never the last one.
    Chunked,
    /// A chunked body for a route that reads none.
    Unread,
    /// A whole request, and after its answer half a head.
    HalfSecondHead,
}

impl Slowness {
    pub const ALL: [Self; 7] = [
        Self::Silent,
        Self::HalfHead,
        Self::HalfBody,
        Self::Trickle,
        Self::Chunked,
        Self::Unread,
        Self::HalfSecondHead,
    ];

    /// Keeps a connection waiting until the service ends it; answers what the service said.
    pub async fn keep_waiting(self, address: &str) -> String {
        let Ok(mut stream) = TcpStream::connect(address).await else { return String::new() };
        let request = signed_request(&[b'x'; 4000], SECRET);
        let head = request.len() - 4000;
        let signature = workos_emulator::sign(SECRET, chrono::Utc::now().timestamp_millis(), b"");
        let chunked = format!("POST {PATH} HTTP/1.1\r\nhost: x\r\nworkos-signature: {signature}\r\n");
        let begin: Vec<u8> = match self {
            Self::Silent => Vec::new(),
            Self::HalfHead => request[..head / 2].to_vec(),
            Self::HalfBody => request[..head + 2000].to_vec(),
            Self::Trickle => request[..=head].to_vec(),
            Self::Chunked => format!("{chunked}transfer-encoding: chunked\r\n\r\n4\r\nbody\r\n").into_bytes(),
            Self::Unread => {
                b"GET /health/live HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n".to_vec()
            }
            Self::HalfSecondHead => {
                b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\nGET /health/live HTTP/1.1\r\nho".to_vec()
            }
        };
        let mut answer = Vec::new();
        if stream.write_all(&begin).await.is_ok() {
            let (mut reader, mut writer) = stream.split();
            let trickle = async {
                // The pace of a slow client, not a wait for something to happen.
                let mut pace = tokio::time::interval(Duration::from_millis(500));
                loop {
                    pace.tick().await;
                    if matches!(self, Self::Trickle) && writer.write_all(b"x").await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                // A reset is an end too.
                _ = reader.read_to_end(&mut answer) => {}
                () = trickle => {}
            }
        }
        String::from_utf8_lossy(&answer).into_owned()
    }
}

/// Posts a body, whole, and answers the status and whether the answer says when to come again; `None` if the connection
/// broke off before there was an answer.
pub async fn post(client: &reqwest::Client, address: &str, body: Vec<u8>, secret: &str) -> Option<(u16, bool)> {
    let signature = workos_emulator::sign(secret, chrono::Utc::now().timestamp_millis(), &body);
    let request = client.post(format!("http://{address}{PATH}")).header("workos-signature", signature).body(body);
    let answer = request.send().await.ok()?;
    Some((answer.status().as_u16(), answer.headers().contains_key("retry-after")))
}
