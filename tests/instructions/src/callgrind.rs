//! Counts the instructions of a benchmark: this program again, under valgrind's callgrind.
//!
//! Nothing of the machine's load comes into it. What does is the compiler, the C library's choice of `memcpy` for the processor,
//! and the seeds of hash tables.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
};

use crate::operation::COUNTED;

/// The argument with which this program runs one benchmark, whose name follows.
pub(crate) const RUN: &str = "--run";
/// The function in which instructions are counted, as callgrind knows it: a hash follows.
const TOGGLE: &str = "--toggle-collect=wardline_instructions::operation::counted*";
/// Where callgrind writes the sum.
const TOTALS: &str = "totals: ";

/// Why there is no count.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CountError {
    #[error("valgrind cannot be run; install it with: sudo apt-get install valgrind")]
    NoValgrind(#[source] io::Error),
    #[error("{name} failed under valgrind ({status}):\n{output}")]
    Failed { name: &'static str, status: ExitStatus, output: String },
    #[error("callgrind has counted nothing in {profile}; has the counted function another name?", profile = .0.display())]
    Nothing(PathBuf),
    #[error(transparent)]
    File(#[from] io::Error),
}

/// Instructions of one operation of the benchmark. Its profile stays in `directory`, for `callgrind_annotate`.
pub(crate) fn count(name: &'static str, directory: &Path) -> Result<u64, CountError> {
    let profile = profile(name, directory);
    let valgrind = Command::new("valgrind")
        .args(["--tool=callgrind", TOGGLE])
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(env::current_exe()?)
        .args([RUN, name])
        // The environment lies on the stack, and so moves everything on it.
        .env_clear()
        .env("PATH", env::var_os("PATH").unwrap_or_default())
        .output()
        .map_err(CountError::NoValgrind)?;
    if !valgrind.status.success() {
        let output = String::from_utf8_lossy(&valgrind.stderr).into_owned();
        return Err(CountError::Failed { name, status: valgrind.status, output });
    }
    match total(&fs::read_to_string(&profile)?) {
        Some(total) if total > 0 => Ok(total / COUNTED as u64),
        _ => Err(CountError::Nothing(profile)),
    }
}

fn profile(name: &str, directory: &Path) -> PathBuf {
    directory.join(format!("{}.callgrind", name.replace('/', "-")))
}

fn total(profile: &str) -> Option<u64> {
    profile.lines().find_map(|line| line.strip_prefix(TOTALS)?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_read_from_a_profile() {
        assert_eq!(total("events: Ir\nsummary: 7\n\ntotals: 4200\n"), Some(4_200));
        assert_eq!(total("events: Ir\n"), None);
    }
}
