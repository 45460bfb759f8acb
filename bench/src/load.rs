//! The load generator: one thread, a fixed number of connections that stay open, each with one request under way.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use hmac::{Hmac, KeyInit, Mac};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use sha2::Sha256;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, mpsc};

use crate::Result;

/// Connections to the server.
pub const CONNECTIONS: usize = 64;

/// Longer latencies count as this.
const LONGEST_MICROS: u64 = 600_000_000;

/// Where events go, and what they are signed with.
#[derive(Clone)]
pub struct Target {
    /// The server.
    pub address: SocketAddr,
    /// The endpoint's path.
    pub path: &'static str,
    /// The endpoint's secret.
    pub secret: String,
}

/// When requests are sent.
#[derive(Clone, Copy)]
pub enum Pace {
    /// Each connection sends its next as soon as it has an answer.
    Closed,
    /// So many a second, whatever the server does: a request's time runs from when it was due, so that a server that
    /// stalls is charged for every request that should have been sent meanwhile (coordinated omission).
    Rate(f64),
}

/// What came of a load.
pub struct Outcome {
    /// Answers of 200.
    pub acknowledged: u64,
    /// Other answers, and broken connections.
    pub failed: u64,
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// Microseconds from when a request was due to its answer.
    pub latencies: Histogram<u64>,
    /// CPU time of the generator's own thread, in seconds.
    pub cpu_seconds: f64,
}

/// Posts the events in order, until none is left or `limit` is over. Blocks; runs on the calling thread.
pub fn run(target: &Target, events: &Arc<Vec<Bytes>>, pace: Pace, limit: Duration) -> Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, post_all(target, events, pace, limit))
}

/// Signs and posts one event on a connection of its own; the answer's status.
pub async fn post_once(target: &Target, event: Bytes) -> Result<u16> {
    let mut connection = connect(target.address).await?;
    post(&mut connection, target, event).await
}

struct Shared {
    target: Target,
    events: Arc<Vec<Bytes>>,
    next: Cell<usize>,
    ends: Instant,
    latencies: RefCell<Histogram<u64>>,
    failed: Cell<u64>,
}

async fn post_all(target: &Target, events: &Arc<Vec<Bytes>>, pace: Pace, limit: Duration) -> Result<Outcome> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(connect(target.address).await?);
    }
    let started = Instant::now();
    let cpu = thread_cpu_seconds();
    let shared = Rc::new(Shared {
        target: target.clone(),
        events: Arc::clone(events),
        next: Cell::new(0),
        ends: started + limit,
        latencies: RefCell::new(Histogram::new_with_bounds(1, LONGEST_MICROS, 3)?),
        failed: Cell::new(0),
    });
    let due = match pace {
        Pace::Closed => None,
        Pace::Rate(rate) => Some(Arc::new(Mutex::new(pacer(rate, events.len(), started, limit)))),
    };
    let mut tasks = tokio::task::JoinSet::new();
    for connection in connections {
        tasks.spawn_local(serve_connection(connection, Rc::clone(&shared), due.clone()));
    }
    tasks.join_all().await;
    let elapsed = started.elapsed();
    let cpu_seconds = thread_cpu_seconds() - cpu;
    let latencies = shared.latencies.borrow().clone();
    Ok(Outcome { acknowledged: latencies.len(), failed: shared.failed.get(), elapsed, latencies, cpu_seconds })
}

/// Tells of each request at the moment when it is due. A thread, since tokio's timer has steps of a millisecond.
fn pacer(rate: f64, count: usize, started: Instant, limit: Duration) -> mpsc::UnboundedReceiver<(usize, Instant)> {
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for index in 0..count {
            let after = Duration::from_secs_f64(index as f64 / rate);
            if after >= limit {
                break;
            }
            std::thread::sleep((started + after).saturating_duration_since(Instant::now()));
            if sender.send((index, started + after)).is_err() {
                break;
            }
        }
    });
    receiver
}

type Due = Arc<Mutex<mpsc::UnboundedReceiver<(usize, Instant)>>>;

async fn serve_connection(mut connection: SendRequest<Full<Bytes>>, shared: Rc<Shared>, due: Option<Due>) {
    loop {
        let (index, due_at) = match &due {
            Some(due) => match due.lock().await.recv().await {
                Some(next) => next,
                None => return,
            },
            None => {
                let (index, now) = (shared.next.get(), Instant::now());
                if index >= shared.events.len() || now >= shared.ends {
                    return;
                }
                shared.next.set(index + 1);
                (index, now)
            }
        };
        let event = shared.events[index].clone();
        if matches!(post(&mut connection, &shared.target, event).await, Ok(200)) {
            let micros = u64::try_from(due_at.elapsed().as_micros()).unwrap_or(u64::MAX);
            shared.latencies.borrow_mut().saturating_record(micros);
            continue;
        }
        shared.failed.set(shared.failed.get() + 1);
        if connection.is_closed() {
            match connect(shared.target.address).await {
                Ok(another) => connection = another,
                Err(_) => return,
            }
        }
    }
}

async fn connect(address: SocketAddr) -> Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn post(connection: &mut SendRequest<Full<Bytes>>, target: &Target, event: Bytes) -> Result<u16> {
    connection.ready().await?;
    let request = hyper::Request::post(target.path)
        .header("host", "localhost")
        .header("content-type", "application/json")
        .header("workos-signature", sign(&target.secret, &event))
        .body(Full::new(event))?;
    let response = connection.send_request(request).await?;
    let status = response.status().as_u16();
    response.into_body().collect().await?;
    Ok(status)
}

/// `t=<ms>, v1=<hex HMAC-SHA256 of "<ms>.<body>">`; source: WorkOS documentation, "Sync data with webhooks".
fn sign(secret: &str, body: &[u8]) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length (RFC 2104)");
    mac.update(now.to_string().as_bytes());
    mac.update(b".");
    mac.update(body);
    format!("t={now}, v1={}", hex::encode(mac.finalize().into_bytes()))
}

/// Nanoseconds on a CPU are the first field of a thread's `schedstat`.
fn thread_cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split_whitespace().next().and_then(|nanos| nanos.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}
