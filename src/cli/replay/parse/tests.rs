//! Each form of input, and what is said of others.

use serde_json::json;

use super::*;

fn read(content: impl AsRef<[u8]>, name: &str) -> Found {
    let mut found = Found::default();
    let is_lines = name.ends_with(".jsonl");
    let source = Source { name: name.into(), file: Some(PathBuf::from(name)), is_lines };
    parse(&source, content.as_ref(), &mut found);
    found
}

fn problems(content: impl AsRef<[u8]>, name: &str) -> Vec<String> {
    read(content, name).problems.iter().map(ToString::to_string).collect()
}

/// Each event as place, id and body.
fn events(content: impl AsRef<[u8]>, name: &str) -> Vec<(String, String, String)> {
    let found = read(content, name);
    assert!(found.problems.is_empty(), "{:?}", found.problems);
    let text = |event: &Event| String::from_utf8_lossy(&event.body).into_owned();
    found.events.iter().map(|event| (event.origin.to_string(), event.id.clone(), text(event))).collect()
}

fn row(place: &str, id: &str, body: &str) -> (String, String, String) {
    (place.to_owned(), id.to_owned(), body.to_owned())
}

const A: &str = r#"{ "id": "a", "event": "dsync.deleted" }"#;
const B: &str = r#"{"event":"dsync.activated","id":"b","object":"list","data":[1]}"#;

#[test]
fn an_event_in_a_file_of_its_own_keeps_every_byte() {
    let content = format!("\r\n\t{A}\n\n");
    let found = read(&content, "a.json");
    let event = &found.events[0];
    assert_eq!(event.body, content.as_bytes());
    assert_eq!((event.id.as_str(), event.event_type.as_str()), ("a", "dsync.deleted"));
    assert_eq!((event.origin.to_string(), &event.origin.file), ("a.json".to_owned(), &Some("a.json".into())));
    let (id, event) = (r#""\u0069d":"x\u0079""#, r#""ev\u0065nt":"dsync\u002edeleted""#);
    assert_eq!(read(format!("{{{id},{event}}}"), "a.json").events[0].id, "xy");
    assert_eq!(read(format!("{{{id},{event}}}"), "a.json").events[0].event_type, "dsync.deleted");
}

#[test]
fn arrays_and_lists_and_lines_keep_each_events_bytes_and_tell_its_line() {
    let rows = [row("f:2", "a", A), row("f:4", "b", B)];
    assert_eq!(events(format!("[\n {A},\n\n{B} ]\n"), "f"), rows);
    assert_eq!(
        events(format!("{{\"list_metadata\":{{}},\"object\":\"list\",\"data\":[\n{A},\n\n\t{B}\n]}}"), "f"),
        rows
    );
    assert_eq!(events(format!("\n{A}\r\n\n{B}"), "f"), rows);
    assert_eq!(events(format!("{A}\n"), "f.jsonl"), [row("f.jsonl", "a", &format!("{A}\n"))]);
    // Pages of the API, one after the other, and objects over several lines.
    let pages = format!("{{\"object\":\"list\",\"data\":[{A}]}}\n{{\"object\":\"list\",\n\"data\":[{B}]}}");
    assert_eq!(events(pages, "f"), [row("f:1", "a", A), row("f:3", "b", B)]);
    assert_eq!(events("[]", "f"), []);
    assert_eq!(events("\n", "f.jsonl"), []);
}

#[test]
fn an_exported_inbox_gives_the_bodies_as_they_came() {
    let indented = "{\n  \"id\": \"a\",\r\n  \"event\": \"dsync.deleted\"\n}\n";
    let exported = |body: serde_json::Value| {
        let mut row = json!({"object": "inbox_event", "event_id": "sha256_0", "event_type": "", "status": "dead",
            "received_at": "2026-01-01T00:00:00Z", "source": "webhook", "reason": null});
        row.as_object_mut().unwrap().append(&mut body.as_object().unwrap().clone());
        row.to_string()
    };
    let first = exported(json!({"body": indented}));
    assert_eq!(events(&first, "x.jsonl"), [row("x.jsonl:1", "a", indented)]);
    let second = exported(json!({"body_base64": STANDARD.encode([b'{', 0xff])}));
    let found = read(format!("{first}\n{second}\n"), "x.jsonl");
    assert_eq!(found.events.len(), 2);
    assert_eq!((found.events[1].id.as_str(), &found.events[1].body[..]), ("sha256_0", &[b'{', 0xff][..]));
    let broken = [json!({}), json!({"body": {}}), json!({"body_base64": "%"}), json!({"body": "", "body_base64": ""})];
    let content = broken.map(exported).join("\n");
    let problems = problems(content, "x.jsonl");
    assert_eq!(problems.len(), 4, "{problems:?}");
    assert_eq!(problems[2], "x.jsonl:3: is not an event: its `body_base64` is not base64");
}

#[test]
fn every_problem_is_told_with_its_line_and_without_its_content() {
    let content = format!("{A}\n{{\"id\":\"secret\"\n\n{{\"secret\":1}}\n[{{\"event\":\"secret\",\"id\":7}}]\n7\n{B}");
    let told = [
        "x:2: is not JSON (column 14)",
        "x:4: is not an event: it has no string `id`",
        "x:5: is not an event: it has no string `id`",
        "x:6: is not an event: it is not a JSON object",
    ];
    assert_eq!(problems(&content, "x"), told);
    assert_eq!(read(&content, "x").events.len(), 2);
    let broken = "{\n  \"id\": \"a\",\n  \"emails\": [\n    {\"a\": 1}\n  ],\n}\n";
    assert_eq!(problems(broken, "x.json"), ["x.json:6: is not JSON (column 1)"]);
    assert_eq!(problems("[[]]", "x"), ["x:1: is not an event: it is not a JSON object"]);
    assert_eq!(problems(b"{\"id\":\"\xff\"}", "x").len(), 1);
    assert_eq!(problems(" \n", "x"), ["x: is empty"]);
    assert_eq!(problems(r#"{"id":"a"}"#, "x"), ["x:1: is not an event: it has no string `event`"]);
    assert_eq!(problems(r#"{"object":"list","data":7}"#, "x").len(), 1);
}

proptest::proptest! {
    #[test]
    fn nothing_makes_the_parser_panic(content: Vec<u8>, json in r#"[\[\]{}":,ab \n0-9]{0,40}"#) {
        for name in ["x", "x.jsonl"] {
            let _ = (read(&content, name), read(&json, name));
        }
    }
}
