//! Where the program under test is.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Names the binary to test; without it the one of this build is brought up to date and used.
const BINARY_VARIABLE: &str = "WARDLINE_BINARY";

/// A command that runs `wardline`, with none of this process's own `WARDLINE__` variables.
pub fn wardline() -> Command {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("WARDLINE__")) {
        command.env_remove(name);
    }
    command
}

/// The root of the repository.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are a directory of the workspace")
}

fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os(BINARY_VARIABLE) {
        Some(path) => {
            let path = PathBuf::from(path);
            assert!(path.is_file(), "{BINARY_VARIABLE} names {}, which is not there", path.display());
            path
        }
        None => build(),
    })
}

/// Cargo gives a test the path of a binary only within its own package, so this asks Cargo to build it; when it is up to
/// date that is a matter of milliseconds.
fn build() -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--package", "wardline", "--bin", "wardline"]).current_dir(workspace());
    let test = std::env::current_exe().expect("a running test has a path");
    let profile = test.parent().and_then(Path::parent).expect("a test is in target/PROFILE/deps");
    if profile.file_name().is_some_and(|name| name == "release") {
        cargo.arg("--release");
    }
    let status = cargo.status().expect("cargo can be run");
    assert!(status.success(), "`wardline` does not build: see `cargo build -p wardline`");
    profile.join("wardline")
}
