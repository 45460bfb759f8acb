use std::io::{Read, Write};
use std::net::TcpListener;

use super::*;
use crate::config::Secret;

/// A client of a server that answers each connection by one of these.
fn client_of(answers: Vec<Vec<u8>>) -> (WorkosClient, std::thread::JoinHandle<Vec<String>>) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = ApiConfig {
        key: Some(Secret::new("sk_test_key")),
        base_url: format!("http://{}", listener.local_addr().unwrap()),
        requests_per_minute: 0,
        directory_users_per_second: 0,
        events_poll_interval: None,
    };
    let server = std::thread::spawn(move || {
        let answer = |answer: Vec<u8>| {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut request, mut part) = (Vec::new(), [0; 4096]);
            while !request.ends_with(b"\r\n\r\n") {
                let read = stream.read(&mut part).unwrap();
                request.extend_from_slice(&part[..read]);
            }
            // A client that has read enough closes the connection.
            let _ = stream.write_all(&answer);
            String::from_utf8(request).unwrap().lines().next().unwrap().to_owned()
        };
        answers.into_iter().map(answer).collect()
    });
    (WorkosClient::new(&config, Clock::system()).unwrap().unwrap(), server)
}

fn answer(head: &str, body: &[u8]) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    answer.reserve(body.len());
    let mut answer = answer.into_bytes();
    answer.extend_from_slice(body);
    answer
}

fn too_large() -> Vec<u8> {
    answer("200 OK", &vec![b' '; MOST_BYTES + 1])
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_not_read_and_a_page_is_asked_for_in_smaller_parts() {
    let list = answer("200 OK", br#"{"data": [], "list_metadata": {"after": null}}"#);
    let (client, server) = client_of(vec![too_large(), list, too_large()]);
    let directory = DirectoryId::from_stored("d".to_owned());
    let caller = client.on_behalf_of(&directory, Priority::Small);
    let page = caller.users(ListFilter::Directory(&directory), None).await.unwrap();
    assert!(page.records.is_empty());
    let error = caller.user(&DirectoryUserId::from_stored("u".to_owned())).await.unwrap_err();
    assert_eq!(error, ApiError::Undecodable("the API's answer is larger than 64 MiB".to_owned()));
    let asked = server.join().unwrap();
    assert!(asked[0].contains("limit=100&") && asked[1].contains("limit=10&"), "{asked:?}");
}

#[test]
fn a_pause_is_told_in_seconds_or_by_an_instant_and_has_a_limit() {
    let now = "2026-11-25T12:00:00Z".parse::<Timestamp>().unwrap();
    for (text, seconds) in [
        ("0", Some(0)),
        (" 120 ", Some(120)),
        ("301", Some(301)),
        ("3601", Some(3600)),
        ("99999999999999999999", None),
        ("Wed, 25 Nov 2026 12:10:00 GMT", Some(600)),
        ("Wed, 25 Nov 2026 11:00:00 GMT", Some(0)),
        ("Thu, 26 Nov 2026 12:00:00 GMT", Some(3600)),
        ("soon", None),
    ] {
        assert_eq!(pause_of(text, now), seconds.map(Duration::from_secs), "{text}");
    }
}

#[tokio::test]
async fn a_503_that_tells_when_to_come_back_pauses_its_directory() {
    let unavailable = "503 Service Unavailable";
    for (headers, pauses) in [("", None), ("\r\nretry-after: 600", Some(30))] {
        let (client, server) = client_of(vec![answer(&format!("{unavailable}{headers}"), b"{}")]);
        let client = {
            // Long enough ago that no process before this one matters.
            let gate = Gate::new(Limits::new(0, 4, tokio::time::Instant::now() - Duration::from_secs(60)));
            WorkosClient { gate, ..client }
        };
        let [directory, other] = ["d", "e"].map(|id| DirectoryId::from_stored(id.to_owned()));
        let answered = client.on_behalf_of(&directory, Priority::Small).record().await;
        assert_eq!(answered, Err(ApiError::Status(503)));
        server.join().unwrap();
        let paused = client.users_room(&directory, 1).err().map(|until| until - tokio::time::Instant::now());
        assert_eq!(paused.map(|length| length.as_secs().div_ceil(10) * 10), pauses);
        assert!(client.users_room(&other, 1).is_ok());
    }
}
