//! Rust sources, read line by line.

use std::fs;
use std::path::{Path, PathBuf};

use super::CatalogueError;

/// A source file.
#[derive(Debug)]
pub(super) struct Source {
    /// From the root of the repository.
    pub(super) path: PathBuf,
    pub(super) text: String,
}

/// A statement named in a source.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Citation {
    /// Counted from 1.
    pub(super) line: usize,
    /// Brackets included.
    pub(super) text: String,
}

/// Every Rust source below `rooms` of `root`.
pub(super) fn below(root: &Path, rooms: &[&str]) -> Result<Vec<Source>, CatalogueError> {
    let mut sources = Vec::new();
    let mut directories: Vec<PathBuf> = rooms.iter().map(PathBuf::from).collect();
    while let Some(directory) = directories.pop() {
        let failed = |source| CatalogueError::Read { path: directory.clone(), source };
        for entry in fs::read_dir(root.join(&directory)).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = directory.join(entry.file_name());
            if entry.file_type().map_err(failed)?.is_dir() {
                // What is built is nobody's source.
                if entry.file_name() != "target" {
                    directories.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(root.join(&path))
                    .map_err(|source| CatalogueError::Read { path: path.clone(), source })?;
                sources.push(Source { path, text });
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(sources)
}

impl Source {
    /// Whether this is a part of the server, and no test.
    pub(super) fn is_server_code(&self) -> bool {
        let mut parts = self.path.iter().map(|part| part.to_str());
        parts.next() == Some(Some("broker"))
            && parts.any(|part| part == Some("src"))
            && !parts.any(|part| matches!(part, Some("tests" | "tests.rs")))
    }

    /// The test function `name`: its comments, attributes and body.
    pub(super) fn test(&self, name: &str) -> Option<String> {
        let lines: Vec<&str> = self.text.lines().collect();
        let opening = format!("fn {name}(");
        let at = lines.iter().position(|line| line.contains(&opening))?;
        let heads = lines.get(..at)?.iter().rev().take_while(|line| {
            let line = line.trim_start();
            line.starts_with("//") || line.starts_with("#[")
        });
        let begin = at - heads.count();
        let is_test = lines.get(begin..at)?.iter().any(|line| {
            let attribute = line.trim_start();
            attribute.starts_with("#[test]") || attribute.starts_with("#[tokio::test")
        });
        let indent = lines.get(at)?.len() - lines.get(at)?.trim_start().len();
        // Formatted code closes a function where it began.
        let closing = format!("{}}}", " ".repeat(indent));
        let length = lines.get(at..)?.iter().position(|line| *line == closing)?;
        is_test.then(|| lines.get(begin..=at + length).unwrap_or_default().join("\n"))
    }

    /// Everything that looks like the name of a statement.
    pub(super) fn citations(&self) -> Vec<Citation> {
        let mut found = Vec::new();
        for (line, text) in (1..).zip(self.text.lines()) {
            for (at, _) in text.match_indices("[MQTT") {
                let Some(citation) = text.get(at..).and_then(|rest| rest.split_inclusive(']').next()) else {
                    continue;
                };
                let number = citation.trim_start_matches("[MQTT").trim_start_matches('3').strip_prefix('-');
                if number.is_some_and(|number| number.starts_with(|first: char| first.is_ascii_digit())) {
                    found.push(Citation { line, text: citation.to_owned() });
                }
            }
        }
        found
    }
}
