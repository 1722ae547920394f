//! A PostgreSQL server of the test's own: in a temporary directory, on a Unix socket there, ended on drop.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// Set to 1 where no PostgreSQL can be installed.
const SKIP: &str = "WARDLINE_SKIP_POSTGRES";
/// Only names the socket: the server listens on no network.
const PORT: u16 = 5432;

/// A running server with the database `postgres`; its superuser is `wardline`.
pub(crate) struct Postgres {
    binaries: PathBuf,
    directory: TempDir,
    /// User and group that the server runs as, when the tests run as root, which PostgreSQL refuses.
    account: Option<(u32, u32)>,
}

impl Postgres {
    /// Starts a server, or `None` where the environment says to do without.
    pub(crate) fn start() -> Option<Self> {
        if std::env::var_os(SKIP).is_some_and(|value| value == "1") {
            return None;
        }
        let binaries = find_binaries().unwrap_or_else(|| {
            panic!(
                "no PostgreSQL server found in /usr/lib/postgresql/*/bin or PATH: install it, or set {SKIP}=1"
            )
        });
        let directory = tempfile::Builder::new().prefix("wl-pg").tempdir_in("/tmp").unwrap();
        let account = account();
        if let Some((user, group)) = account {
            chown(directory.path(), Some(user), Some(group)).unwrap();
        }
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let server = Self { binaries, directory, account };
        let data = server.data();
        server
            .run("initdb", &["-D", &data, "-U", "wardline", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]);
        server.launch();
        Some(server)
    }

    /// The address to connect to.
    pub(crate) fn url(&self) -> String {
        self.url_as("wardline")
    }

    /// The address for another role.
    pub(crate) fn url_as(&self, role: &str) -> String {
        let socket = self.directory.path().display().to_string().replace('/', "%2F");
        format!("postgres://{role}@{socket}:{PORT}/postgres")
    }

    /// Starts the server again after [`Self::crash`].
    pub(crate) fn launch(&self) {
        let options = format!(
            "-c listen_addresses='' -c unix_socket_directories='{}' -c port={PORT} -c fsync=on -c \
             shared_buffers=16MB",
            self.directory.path().display()
        );
        let log = self.directory.path().join("log").display().to_string();
        self.run("pg_ctl", &["-D", &self.data(), "-l", &log, "-w", "-t", "60", "-o", &options, "start"]);
    }

    /// Ends the server as a power failure would: no checkpoint, no goodbye.
    pub(crate) fn crash(&self) {
        self.run("pg_ctl", &["-D", &self.data(), "-m", "immediate", "-w", "stop"]);
    }

    fn data(&self) -> String {
        self.directory.path().join("data").display().to_string()
    }

    fn command(&self, program: &str) -> Command {
        let program = self.binaries.join(program);
        let Some((user, group)) = self.account else { return Command::new(program) };
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", &user.to_string(), "--regid", &group.to_string(), "--clear-groups"])
            .arg(program);
        command
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let mut command = self.command(program);
        let command = command.args(arguments).current_dir(self.directory.path()).stdout(Stdio::null());
        let done = command.output().unwrap_or_else(|error| panic!("{program}: {error}"));
        let log = std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        assert!(done.status.success(), "{program}: {}\n{log}", String::from_utf8_lossy(&done.stderr));
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let mut command = self.command("pg_ctl");
        let command = command.args(["-D", &self.data(), "-m", "immediate", "-w", "stop"]).current_dir("/");
        // It may be down already: a test that crashed it on purpose and failed then.
        let _ = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

fn find_binaries() -> Option<PathBuf> {
    let is_server =
        |directory: &PathBuf| directory.join("initdb").exists() && directory.join("pg_ctl").exists();
    let mut installed: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .filter(is_server)
        .collect();
    installed.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    installed.pop().or_else(|| std::env::split_paths(&path).find(is_server))
}

/// `postgres`, else `nobody`, when this process is root.
fn account() -> Option<(u32, u32)> {
    let own = std::fs::metadata("/proc/self").unwrap();
    if std::os::unix::fs::MetadataExt::uid(&own) != 0 {
        return None;
    }
    let accounts = std::fs::read_to_string(Path::new("/etc/passwd")).unwrap();
    let ids = |name: &str| {
        let line = accounts.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    Some(ids("postgres").or_else(|| ids("nobody")).expect("an account that is not root"))
}
