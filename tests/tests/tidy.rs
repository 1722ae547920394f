//! The rules of the repository that no other tool checks.

#![allow(clippy::unwrap_used, reason = "helpers of tests assert as tests do")]

use std::fs;
use std::path::{Path, PathBuf};

use wardline_tests::workspace;

/// Beyond this a file has more than one reason to exist.
const LINES_MAX: usize = 1_000;

/// Rust sources of the repository, with their text.
fn sources() -> Vec<(PathBuf, String)> {
    let mut sources = Vec::new();
    let mut directories = vec![workspace().to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let entry = entry.unwrap();
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            if entry.file_type().unwrap().is_dir() {
                // What is built, and what is nobody's.
                if name != "target" && !name.starts_with('.') {
                    directories.push(path);
                }
            } else if name.ends_with(".rs") {
                let text = fs::read_to_string(&path).unwrap();
                sources.push((path, text));
            }
        }
    }
    assert!(sources.len() > 50, "the sources were not found");
    sources
}

/// Lines that contain `forbidden`, as `file:line`; this file, which has to name it, left out.
fn lines_with(forbidden: &str) -> Vec<String> {
    let this = Path::new(file!()).file_name().unwrap();
    let mut found = Vec::new();
    for (path, text) in sources() {
        if path.file_name() == Some(this) {
            continue;
        }
        for (number, line) in (1..).zip(text.lines()) {
            if line.contains(forbidden) {
                found.push(format!("{}:{number}", path.display()));
            }
        }
    }
    found
}

#[test]
fn no_file_is_too_long() {
    let long: Vec<_> = sources()
        .into_iter()
        .filter(|(_, text)| text.lines().count() > LINES_MAX)
        .map(|(path, _)| path)
        .collect();
    assert!(long.is_empty(), "over {LINES_MAX} lines: {long:?}");
}

#[test]
fn nothing_is_left_to_do() {
    for forbidden in ["todo!(", "unimplemented!(", "FIXME", "XXX"] {
        let found = lines_with(forbidden);
        assert!(found.is_empty(), "{forbidden} at {found:?}");
    }
}

#[test]
fn no_test_is_ignored() {
    let found = lines_with("#[ignore");
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn nothing_is_unsafe() {
    let found = lines_with("unsafe {");
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn every_crate_says_what_it_is() {
    for (path, text) in sources() {
        let is_root = path.ends_with("src/lib.rs") || path.ends_with("src/main.rs");
        assert!(!is_root || text.starts_with("//! "), "{} does not begin with what it is", path.display());
    }
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    let manifest = fs::read_to_string(workspace().join("Cargo.toml")).unwrap();
    let members = manifest.split_once("members = [").and_then(|(_, rest)| rest.split_once(']')).unwrap().0;
    let members: Vec<_> = members.split('"').skip(1).step_by(2).collect();
    assert!(members.len() > 5, "{members:?}");
    for member in members {
        let manifest = fs::read_to_string(workspace().join(member).join("Cargo.toml")).unwrap();
        assert!(manifest.contains("[lints]\nworkspace = true"), "{member}");
    }
}
