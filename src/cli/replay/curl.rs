//! The command that posts an event without us.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::event::Event;
use crate::webhook::signature;

/// A line for a POSIX shell that posts `event` to `url` under the signature `header`.
///
/// The body comes from the event's own file; of an event that has none it stands in the line itself, as base64, since
/// a shell's variables and quotes do not keep every byte.
pub(super) fn command(event: &Event, url: &str, header: &str) -> String {
    let file = event.origin.file.as_ref().and_then(|file| file.to_str());
    let (before, data) = match file {
        Some(file) => (String::new(), quoted(&format!("@{file}"))),
        None => (format!("printf %s {} | base64 -d | ", quoted(&STANDARD.encode(&event.body))), "@-".to_owned()),
    };
    let signature = quoted(&format!("{}: {header}", signature::HEADER));
    let url = quoted(url);
    format!("{before}curl -sS -w '\\n' -H 'Content-Type: application/json' -H {signature} --data-binary {data} {url}")
}

/// A word that the shell takes as it is.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::process::Command;

    use super::super::event::Origin;
    use super::*;

    /// Runs the command in a shell in which `curl` writes its last three arguments, and then the data it would post.
    fn run(body: &[u8], file: Option<PathBuf>) -> Vec<u8> {
        let origin = Origin { name: "x".into(), line: None, file };
        let event = Event { id: "a".to_owned(), event_type: "b".to_owned(), body: body.to_vec(), origin };
        let command = command(&event, "http://h/it's?a=$HOME&b", "t=1, v1=ab");
        let curl = r#"curl() { [ "$1$2$3" = '-sS-w\n' ] && shift 5
            printf '%s|' "$2" "$5"; if [ "$4" = @- ]; then cat; else cat "${4#@}"; fi; }"#;
        Command::new("sh").args(["-c", &format!("{curl}\n{command}")]).output().unwrap().stdout
    }

    #[test]
    fn a_shell_gives_curl_every_byte() {
        let head = b"WorkOS-Signature: t=1, v1=ab|http://h/it's?a=$HOME&b|";
        let body = b"{\r\n\t\"a\": \"it's $HOME `id` \\n\",\x00\xff}\n\n";
        let expected = [&head[..], body].concat();
        assert_eq!(run(body, None), expected);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("it's a $file; name.json");
        std::fs::write(&file, body).unwrap();
        assert_eq!(run(b"another", Some(file)), expected);
    }
}
