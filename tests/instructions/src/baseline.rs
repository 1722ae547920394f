//! What each path has taken: the file, and how the present is held against it.

use std::{collections::BTreeMap, fs, io, path::Path, process::Command};

use serde::{Deserialize, Serialize};

/// How much more than in the baseline is no failure, in percent. Runs differ by under 1.
pub(crate) const ALLOWANCE_PERCENT: u64 = 5;
/// The same where another compiler or processor family made the baseline: then only what is wrong in kind is found.
pub(crate) const ALLOWANCE_ELSEWHERE_PERCENT: u64 = 25;

const HEAD: &str =
    "# Instructions of one operation of each hot path. Written by `tests/instructions/run --accept`.\n\n";

/// The file's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Baseline {
    /// Compiler and target that the counts belong to.
    pub(crate) toolchain: String,
    /// By the benchmark's name.
    pub(crate) instructions: BTreeMap<String, u64>,
}

/// How a count stands to the baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Within the allowance, up or down.
    Held,
    /// Below it: better is to be kept by accepting it.
    Fewer,
    /// Beyond it.
    More,
    /// The baseline has none.
    Unknown,
}

/// Why there is no baseline.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BaselineError {
    #[error("{file}: {source}")]
    File { file: String, source: io::Error },
    #[error("{file} cannot be understood: {source}")]
    Content { file: String, source: Box<toml::de::Error> },
    #[error("rustc does not say its version: {0}")]
    Compiler(io::Error),
}

impl Baseline {
    /// Without counts.
    pub(crate) fn empty(toolchain: String) -> Self {
        Self { toolchain, instructions: BTreeMap::new() }
    }

    pub(crate) fn read(file: &Path) -> Result<Self, BaselineError> {
        let text = fs::read_to_string(file).map_err(|source| at(file, source))?;
        toml::from_str(&text).map_err(|source| BaselineError::Content {
            file: file.display().to_string(),
            source: Box::new(source),
        })
    }

    pub(crate) fn write(&self, file: &Path) -> Result<(), BaselineError> {
        let body = toml::to_string(self).map_err(|error| at(file, io::Error::other(error)))?;
        fs::write(file, format!("{HEAD}{body}")).map_err(|source| at(file, source))
    }

    /// In percent, under `toolchain`.
    pub(crate) fn allowance(&self, toolchain: &str) -> u64 {
        if self.toolchain == toolchain { ALLOWANCE_PERCENT } else { ALLOWANCE_ELSEWHERE_PERCENT }
    }

    /// Where `now` stands, with an allowance in percent.
    pub(crate) fn judge(&self, name: &str, now: u64, allowance: u64) -> Verdict {
        match self.instructions.get(name) {
            None => Verdict::Unknown,
            Some(&then) if now * 100 > then * (100 + allowance) => Verdict::More,
            Some(&then) if now * (100 + allowance) < then * 100 => Verdict::Fewer,
            Some(_) => Verdict::Held,
        }
    }
}

fn at(file: &Path, source: io::Error) -> BaselineError {
    BaselineError::File { file: file.display().to_string(), source }
}

/// The compiler's version and its target, as the baseline names them.
pub(crate) fn toolchain() -> Result<String, BaselineError> {
    let said = Command::new("rustc").arg("-vV").output().map_err(BaselineError::Compiler)?;
    let said = String::from_utf8_lossy(&said.stdout);
    let host = said.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or("unknown");
    Ok(format!("{} {host}", said.lines().next().unwrap_or("rustc")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baseline() -> Baseline {
        Baseline { toolchain: "rustc 1".to_owned(), instructions: [("decode".to_owned(), 1_000)].into() }
    }

    #[test]
    fn only_what_is_beyond_the_allowance_is_more() {
        let judge = |now| baseline().judge("decode", now, 5);
        assert_eq!(
            [900, 953, 1_000, 1_050, 1_051].map(judge),
            [Verdict::Fewer, Verdict::Held, Verdict::Held, Verdict::Held, Verdict::More]
        );
        assert_eq!(baseline().judge("encode", 1, 5), Verdict::Unknown);
    }

    #[test]
    fn another_compiler_is_allowed_more() {
        assert_eq!(baseline().allowance("rustc 1"), ALLOWANCE_PERCENT);
        assert_eq!(baseline().allowance("rustc 2"), ALLOWANCE_ELSEWHERE_PERCENT);
    }

    #[test]
    fn a_baseline_is_read_as_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("baseline.toml");
        baseline().write(&file).unwrap();
        assert_eq!(Baseline::read(&file).unwrap(), baseline());
    }
}
