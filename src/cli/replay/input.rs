//! Reads files, folders and standard input.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::parse::{Fault, Found, Problem, Source, parse};

const STANDARD_INPUT: &str = "-";
/// What is played of a folder.
const EXTENSIONS: [&str; 3] = ["json", "jsonl", "ndjson"];
const EXTENSIONS_OF_LINES: [&str; 2] = ["jsonl", "ndjson"];

/// Reads all inputs, in their order; a folder's files by their sorted paths.
pub(super) fn read(inputs: &[PathBuf], standard_input: &mut dyn Read) -> Found {
    let mut found = Found::default();
    for input in inputs {
        if input.as_os_str() == STANDARD_INPUT {
            read_standard_input(standard_input, &mut found);
        } else if input.is_dir() {
            read_folder(input, &mut found);
        } else {
            read_file(input, &mut found);
        }
    }
    found
}

fn read_standard_input(standard_input: &mut dyn Read, found: &mut Found) {
    let mut content = Vec::new();
    match standard_input.read_to_end(&mut content) {
        Ok(_) => parse(&Source { name: "standard input".into(), file: None, is_lines: false }, &content, found),
        Err(error) => found.problems.push(Problem::of_whole(Path::new("standard input"), error)),
    }
}

fn read_folder(folder: &Path, found: &mut Found) {
    let mut files = Vec::new();
    list(folder, &mut files, &mut found.problems);
    files.sort();
    if files.is_empty() {
        found.problems.push(Problem::of_whole(folder, Fault::NothingInFolder));
    }
    files.iter().for_each(|file| read_file(file, found));
}

fn list(folder: &Path, files: &mut Vec<PathBuf>, problems: &mut Vec<Problem>) {
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = match entries {
        Ok(entries) => entries,
        Err(error) => return problems.push(Problem::of_whole(folder, error)),
    };
    for entry in entries {
        let path = entry.path();
        // A link to a folder is not followed: it may lead back up.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            list(&path, files, problems);
        } else if has_extension(&path, &EXTENSIONS) && !path.is_dir() {
            files.push(path);
        }
    }
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    path.extension().is_some_and(|own| extensions.iter().any(|known| own.eq_ignore_ascii_case(known)))
}

fn read_file(file: &Path, found: &mut Found) {
    let source = Source {
        name: file.to_string_lossy().into(),
        file: Some(file.to_owned()),
        is_lines: has_extension(file, &EXTENSIONS_OF_LINES),
    };
    match fs::read(file) {
        Ok(content) => parse(&source, &content, found),
        Err(error) => found.problems.push(Problem::of_whole(file, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: &str) -> String {
        format!(r#"{{"id":"{id}","event":"dsync.deleted"}}"#)
    }

    #[test]
    fn a_folder_is_read_whole_by_sorted_path_and_inputs_in_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("b/c")).unwrap();
        for (file, content) in [
            ("z.json", event("5")),
            ("b/c/1.ndjson", format!("{}\n{}\n", event("2"), event("3"))),
            ("b/2.JSON", event("1")),
            ("b/readme.md", "# no event".to_owned()),
            ("c.jsonl", event("4")),
        ] {
            fs::write(root.join(file), content).unwrap();
        }
        #[cfg(unix)]
        std::os::unix::fs::symlink(root, root.join("b/up.json")).unwrap();
        let inputs = [root.join("z.json"), "-".into(), root.to_owned()];
        let found = read(&inputs, &mut event("0").as_bytes());
        assert!(found.problems.is_empty(), "{:?}", found.problems);
        let ids: Vec<&str> = found.events.iter().map(|event| event.id.as_str()).collect();
        assert_eq!(ids, ["5", "0", "1", "2", "3", "4", "5"]);
    }

    #[test]
    fn what_cannot_be_read_is_told_all_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let inputs = [folder.path().join("none.json"), folder.path().to_owned(), "-".into()];
        let found = read(&inputs, &mut "7".as_bytes());
        let problems: Vec<String> = found.problems.iter().map(ToString::to_string).collect();
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems[0].contains("none.json: cannot be read: "));
        assert!(problems[1].ends_with("the folder holds no .json, .jsonl or .ndjson file"));
        assert!(problems[2].starts_with("standard input:1: is not an event"));
    }
}
