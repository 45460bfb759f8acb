//! Connections: how many, and how long a client may keep one waiting.
//!
//! actix's timer covers the head of a connection's first request, and its keep-alive a connection on which nothing
//! arrives. Half a head after a first request, or the rest of a body that nobody reads any more, would hold a connection
//! for ever; so a task watches each one, and shuts the socket when no request has been under way for too long.

use std::any::Any;
use std::cell::Cell;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{Extensions, ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How long a client may take to send the head of its first request.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection is kept without a request: longer than [`HEAD_TIMEOUT`] and actix's keep-alive of 5 s.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// Open files that are not connections: the database's, the log's, the API's, and some to spare.
const OTHER_FILES: u64 = 128;
/// A connection is one file for actix and one for its watch.
const FILES_A_CONNECTION: u64 = 2;

/// Raises the process's limit of open files for `wanted` connections, and answers how many it allows: fewer, if the
/// system gives no more.
#[must_use]
pub fn allowed(wanted: usize) -> usize {
    let files =
        u64::try_from(wanted).unwrap_or(u64::MAX).saturating_mul(FILES_A_CONNECTION).saturating_add(OTHER_FILES);
    // Linux starts processes with 1,024; a system that does not tell is taken at that.
    let connections = fitting(rlimit::increase_nofile_limit(files).unwrap_or(1024), wanted);
    if connections < wanted {
        tracing::warn!(connections, wanted, "the limit of open files allows fewer connections: raise it (ulimit -n)");
    }
    connections
}

fn fitting(files: u64, wanted: usize) -> usize {
    let connections = files.saturating_sub(OTHER_FILES) / FILES_A_CONNECTION;
    usize::try_from(connections).unwrap_or(wanted).clamp(1, wanted.max(1))
}

/// Since when a connection has been without a request; `None` while one is under way.
type IdleSince = Rc<Cell<Option<Instant>>>;

/// What a connection carries; dropped with it.
struct Watched {
    idle_since: IdleSince,
    watch: JoinHandle<()>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        // The watch holds the socket open.
        self.watch.abort();
    }
}

/// Watches a new connection: for `HttpServer::on_connect`.
pub fn watch(connection: &dyn Any, data: &mut Extensions) {
    let Some(stream) = connection.downcast_ref::<actix_web::rt::net::TcpStream>() else { return };
    let socket = match stream.as_fd().try_clone_to_owned() {
        Ok(socket) => TcpStream::from(socket),
        Err(error) => return tracing::warn!(%error, "a connection cannot be watched"),
    };
    let idle_since = Rc::new(Cell::new(Some(Instant::now())));
    let watch = actix_web::rt::spawn(shut_when_idle(Rc::clone(&idle_since), socket));
    data.insert(Watched { idle_since, watch });
}

async fn shut_when_idle(idle_since: IdleSince, socket: TcpStream) {
    loop {
        let until = idle_since.get().unwrap_or_else(Instant::now) + IDLE_TIMEOUT;
        if until <= Instant::now() {
            // actix sees the end of the stream and closes; a client that is gone already needs no more.
            let _ = socket.shutdown(Shutdown::Both);
            return;
        }
        tokio::time::sleep_until(until).await;
    }
}

/// Notes when a request is under way: middleware around every route.
///
/// # Errors
/// Those of the route.
pub async fn note_request(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let idle_since = request.conn_data::<Watched>().map(|watched| Rc::clone(&watched.idle_since));
    if let Some(idle_since) = &idle_since {
        idle_since.set(None);
    }
    let response = next.call(request).await;
    if let Some(idle_since) = idle_since {
        idle_since.set(Some(Instant::now()));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_fit_into_the_files_that_are_allowed() {
        for (files, wanted, connections) in
            [(u64::MAX, 1024, 1024), (2176, 1024, 1024), (1024, 1024, 448), (64, 1024, 1)]
        {
            assert_eq!(fitting(files, wanted), connections, "{files} files");
        }
    }
}
