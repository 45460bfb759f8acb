//! What a file holds: an event, an array or list of events, lines of events, lines of an exported inbox. Pure.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;

use super::event::{Event, Members, Origin, offset_in};

/// The inbox's export: one such object a line.
const EXPORTED: &str = "inbox_event";

/// Why something that was named cannot be posted.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The file or folder.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] std::io::Error),
    /// A folder with nothing to play.
    #[error("the folder holds no .json, .jsonl or .ndjson file")]
    NothingInFolder,
    /// A file without a value.
    #[error("is empty")]
    Empty,
    /// From which column on.
    #[error("is not JSON (column {0})")]
    NotJson(usize),
    /// JSON, but no event.
    #[error("is not an event: {0}")]
    NotAnEvent(&'static str),
}

/// A fault and its place.
#[derive(Debug)]
pub(super) struct Problem {
    name: Arc<str>,
    line: Option<usize>,
    fault: Fault,
}

impl Problem {
    /// A fault of a whole file or folder.
    pub(super) fn of_whole(path: &Path, fault: impl Into<Fault>) -> Self {
        Self { name: path.to_string_lossy().into(), line: None, fault: fault.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = self.line.map(|line| format!(":{line}")).unwrap_or_default();
        write!(f, "{}{line}: {}", self.name, self.fault)
    }
}

/// Everything that was read.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The events, in the order in which they were read.
    pub(super) events: Vec<Event>,
    /// What is wrong with the rest.
    pub(super) problems: Vec<Problem>,
}

/// Where content comes from.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// As it is shown.
    pub(super) name: Arc<str>,
    /// The file; `None` for standard input.
    pub(super) file: Option<PathBuf>,
    /// It is known to have a value on each line, perhaps on none.
    pub(super) is_lines: bool,
}

/// Reads what a source holds; events and problems go to `found`.
pub(super) fn parse(source: &Source, content: &[u8], found: &mut Found) {
    let mut parser = Parser { source, content, counted: (0, 1), found };
    let values: Result<Vec<&RawValue>, _> = serde_json::Deserializer::from_slice(content).into_iter().collect();
    match values {
        Ok(values) if values.is_empty() && !source.is_lines => parser.fault(None, Fault::Empty),
        Ok(values) => match values[..] {
            [only] if is_event(only.get()) => parser.own_file(only.get()),
            _ => values.into_iter().for_each(|value| parser.value(value.get(), Place::Top)),
        },
        Err(_) if source.is_lines || first_line_stands_alone(content) => parser.lines(),
        Err(error) => parser.fault(Some(error.line()), Fault::NotJson(error.column())),
    }
}

fn is_event(json: &str) -> bool {
    Members::of(json.as_bytes()).is_some_and(|members| event_of(&members).is_ok())
}

/// Tells JSON lines with a broken line from a broken document.
fn first_line_stands_alone(content: &[u8]) -> bool {
    let first = content.split(|byte| *byte == b'\n').find(|line| !line.trim_ascii().is_empty());
    first.is_some_and(|line| Members::of(line).is_some())
}

/// The id and the type; anything that has both is the server's to judge.
fn event_of(members: &Members<'_>) -> Result<(String, String), Fault> {
    let id = members.text("id").ok_or(Fault::NotAnEvent("it has no string `id`"))?;
    let event_type = members.text("event").ok_or(Fault::NotAnEvent("it has no string `event`"))?;
    Ok((id, event_type))
}

/// Whether a value may be a list.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Top,
    InList,
}

struct Parser<'a> {
    source: &'a Source,
    content: &'a [u8],
    /// An offset, and the line it is on: values come in the order of their offsets, so each line is counted once.
    counted: (usize, usize),
    found: &'a mut Found,
}

impl Parser<'_> {
    fn fault(&mut self, line: Option<usize>, fault: Fault) {
        self.found.problems.push(Problem { name: Arc::clone(&self.source.name), line, fault });
    }

    fn event(&mut self, line: Option<usize>, (id, event_type): (String, String), body: Vec<u8>) {
        let file = if line.is_none() { self.source.file.clone() } else { None };
        let origin = Origin { name: Arc::clone(&self.source.name), line, file };
        self.found.events.push(Event { id, event_type, body, origin });
    }

    fn line_of(&mut self, value: &str) -> usize {
        let (counted, line) = self.counted;
        let offset = offset_in(self.content, value);
        let more = self.content[counted..offset].iter().filter(|byte| **byte == b'\n').count();
        self.counted = (offset, line + more);
        line + more
    }

    /// An event that has the file for itself: posted with all its white space.
    fn own_file(&mut self, json: &str) {
        if let Some(Ok(event)) = Members::of(json.as_bytes()).map(|members| event_of(&members)) {
            self.event(None, event, self.content.to_vec());
        }
    }

    fn lines(&mut self) {
        for (index, line) in self.content.split(|byte| *byte == b'\n').enumerate() {
            if line.trim_ascii().is_empty() {
                continue;
            }
            match serde_json::from_slice::<&RawValue>(line) {
                Ok(value) => self.value(value.get(), Place::Top),
                Err(error) => self.fault(Some(index + 1), Fault::NotJson(error.column())),
            }
        }
    }

    fn value(&mut self, json: &str, place: Place) {
        let line = self.line_of(json);
        if place == Place::Top && json.starts_with('[') {
            return self.elements(json);
        }
        let Some(members) = Members::of(json.as_bytes()) else {
            return self.fault(Some(line), Fault::NotAnEvent("it is not a JSON object"));
        };
        let fault = match event_of(&members) {
            Ok(event) => return self.event(Some(line), event, json.as_bytes().to_vec()),
            Err(fault) => fault,
        };
        match (members.text("object").as_deref(), members.raw("data")) {
            (Some(EXPORTED), _) => match exported(&members) {
                Ok((event, body)) => self.event(Some(line), event, body),
                Err(fault) => self.fault(Some(line), fault),
            },
            (Some("list"), Some(data)) if place == Place::Top && data.starts_with('[') => self.elements(data),
            _ => self.fault(Some(line), fault),
        }
    }

    fn elements(&mut self, array: &str) {
        // Read once already, so it is an array.
        let elements: Vec<&RawValue> = serde_json::from_str(array).unwrap_or_default();
        elements.into_iter().for_each(|element| self.value(element.get(), Place::InList));
    }
}

/// The body that an exported inbox row holds. What the inbox once took may be posted again, whatever it says.
fn exported(row: &Members<'_>) -> Result<((String, String), Vec<u8>), Fault> {
    let body = match (row.text("body"), row.text("body_base64")) {
        (Some(body), None) => body.into_bytes(),
        (None, Some(encoded)) => {
            STANDARD.decode(encoded).map_err(|_| Fault::NotAnEvent("its `body_base64` is not base64"))?
        }
        _ => return Err(Fault::NotAnEvent("an exported event has either a string `body` or `body_base64`")),
    };
    let own = Members::of(&body).and_then(|members| event_of(&members).ok());
    let named = || (row.text("event_id").unwrap_or_default(), row.text("event_type").unwrap_or_default());
    Ok((own.unwrap_or_else(named), body))
}

#[cfg(test)]
mod tests;
