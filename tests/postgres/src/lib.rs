//! A PostgreSQL server of a test's own: made by `initdb` in a temporary directory, listening on a free loopback port,
//! with `fsync` on, gone when the value is dropped.
//!
//! Not a pool and not a client: a test brings its own driver, or asks [`Postgres::query`] for a line of text.
//! The server is a direct child in the test's process group, so an interrupted test run takes it along. PostgreSQL
//! refuses to run as root; started by root, the server runs as the user `postgres`, or `nobody` where there is none.

#![allow(clippy::expect_used, clippy::panic, reason = "a test's tools assert")]

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use tempfile::TempDir;

/// Set to `1` where there is no PostgreSQL: [`Postgres::start_unless_skipped`] then gives `None`.
pub const SKIP_VARIABLE: &str = "WARDLINE_SKIP_POSTGRES";

/// Longest wait for a server to accept connections; recovery after a crash included.
const READY_WAIT: Duration = Duration::from_secs(60);
/// Another process may take a port between our finding it free and the server's binding it.
const PORT_ATTEMPTS: usize = 5;
/// Between two looks at a process that is ending and is no child of ours.
const POLL: Duration = Duration::from_millis(2);
const SUPERUSER: &str = "wardline";

/// A running (or deliberately stopped) server.
#[derive(Debug)]
pub struct Postgres {
    server: Option<Child>,
    binaries: PathBuf,
    account: Option<Account>,
    port: u16,
    directory: TempDir,
}

/// The unprivileged account that root hands the server to.
#[derive(Clone, Copy, Debug)]
struct Account {
    uid: u32,
    gid: u32,
}

impl Postgres {
    /// Makes and starts a server.
    ///
    /// # Panics
    /// With the reason and its mend, if PostgreSQL is not installed or does not start.
    pub fn start() -> Self {
        let binaries = find_binaries().unwrap_or_else(|| {
            panic!(
                "PostgreSQL is not installed: no `initdb`, `postgres` and `psql` together in /usr/lib/postgresql/*/bin or PATH; \
                 install the package `postgresql`, or set {SKIP_VARIABLE}=1 to leave these tests out"
            )
        });
        let directory =
            TempDir::with_prefix("wardline-postgres-").expect("a temporary directory can be made");
        let account = rustix::process::geteuid().is_root().then(unprivileged_account);
        if let Some(Account { uid, gid }) = account {
            std::os::unix::fs::chown(directory.path(), Some(uid), Some(gid)).expect("root may chown");
        }
        let mut postgres = Self { server: None, binaries, account, port: 0, directory };
        postgres.initialize();
        for _ in 0..PORT_ATTEMPTS {
            postgres.port = free_port();
            match postgres.launch() {
                Ok(()) => return postgres,
                Err(log) if log.contains("Address already in use") => {}
                Err(log) => panic!("PostgreSQL did not start:\n{log}"),
            }
        }
        panic!("PostgreSQL found its port taken {PORT_ATTEMPTS} times");
    }

    /// [`Postgres::start`], or `None` with a word on standard error where `WARDLINE_SKIP_POSTGRES=1`.
    #[expect(clippy::print_stderr, reason = "a test that does not run must say so")]
    pub fn start_unless_skipped() -> Option<Self> {
        if std::env::var(SKIP_VARIABLE).is_ok_and(|value| value == "1") {
            eprintln!("skipped: {SKIP_VARIABLE}=1");
            return None;
        }
        Some(Self::start())
    }

    /// `postgres://…` of its superuser and its default database; the same for the whole life of the value.
    pub fn url(&self) -> String {
        self.url_as(SUPERUSER)
    }

    /// The same for another role; on loopback nobody is asked for a password.
    pub fn url_as(&self, role: &str) -> String {
        format!("postgres://{role}@127.0.0.1:{}/postgres", self.port)
    }

    /// Stops the server as a crash would (`pg_ctl stop -m immediate`): nothing is flushed, the next start recovers.
    pub fn stop_immediate(&mut self) {
        if let Some(mut server) = self.server.take() {
            // An error here means that it is already gone, which is what is wanted.
            let _ = rustix::process::kill_process(Pid::from_child(&server), Signal::QUIT);
            server.wait().expect("a child can be waited for");
        }
    }

    /// `kill -9` of the server and of each of its processes, and waits until they are gone.
    pub fn kill(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        let server_pid = Pid::from_child(&server);
        // The server must not clean up after a child, nor start another, before its own end.
        let _ = rustix::process::kill_process(server_pid, Signal::STOP);
        let backends = children(server_pid);
        for process in [server_pid].iter().chain(&backends) {
            // An error here means that it is already gone, which is what is wanted.
            let _ = rustix::process::kill_process(*process, Signal::KILL);
        }
        server.wait().expect("a child can be waited for");
        let deadline = Instant::now() + READY_WAIT;
        while backends.iter().any(|backend| runs(*backend)) {
            assert!(Instant::now() < deadline, "PostgreSQL's processes {backends:?} do not end");
            std::thread::sleep(POLL);
        }
    }

    /// Process id of the server, which is the parent of all its processes; `None` while it is stopped.
    pub fn id(&self) -> Option<u32> {
        self.server.as_ref().map(Child::id)
    }

    /// Whether it is neither stopped nor killed.
    pub const fn is_running(&self) -> bool {
        self.server.is_some()
    }

    /// Its directory stays when it is dropped, for inspection.
    pub fn keep(&mut self) -> &Path {
        self.directory.disable_cleanup(true);
        self.directory.path()
    }

    /// Starts it again on the same data and port, and waits until it accepts connections.
    ///
    /// # Panics
    /// If it does not start; the message has its log.
    pub fn start_again(&mut self) {
        assert!(self.server.is_none(), "the server is running");
        if let Err(log) = self.launch() {
            panic!("PostgreSQL did not start again:\n{log}");
        }
    }

    /// Runs SQL through `psql`; columns come back separated by `|`, rows by line ends.
    ///
    /// # Panics
    /// If the SQL fails; the message has PostgreSQL's words.
    pub fn query(&self, sql: &str) -> String {
        let mut psql = self.command("psql");
        psql.args([
            "--no-psqlrc",
            "--quiet",
            "--tuples-only",
            "--no-align",
            "--set=ON_ERROR_STOP=1",
            "--command",
            sql,
        ]);
        run(psql.arg(self.url()), sql)
    }

    fn initialize(&self) {
        let mut initdb = self.command("initdb");
        initdb.args([
            "--no-locale",
            "--encoding=UTF8",
            "--auth=trust",
            "--no-sync",
            "--username",
            SUPERUSER,
            "--pgdata",
        ]);
        run(initdb.arg(self.data()), "initdb");
    }

    /// Spawns the server and reads its log up to the line that says it accepts connections; else returns the log.
    fn launch(&mut self) -> Result<(), String> {
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data());
        command.args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-p"]);
        command.arg(self.port.to_string()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut server = command.spawn().expect("the server's binary can be run");
        let lines = lines_of(server.stderr.take().expect("standard error is piped"));
        self.server = Some(server);
        let deadline = Instant::now() + READY_WAIT;
        let mut log = String::new();
        loop {
            match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains("database system is ready to accept connections") => return Ok(()),
                Ok(line) => log = log + &line + "\n",
                Err(RecvTimeoutError::Timeout) => log += "(not ready in time)\n",
                Err(RecvTimeoutError::Disconnected) => {
                    self.stop_immediate();
                    return Err(log);
                }
            }
            if Instant::now() >= deadline {
                self.stop_immediate();
                return Err(log);
            }
        }
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn command(&self, binary: &str) -> Command {
        let mut command = Command::new(self.binaries.join(binary));
        // The log is read by this program, so its language is fixed.
        command.env("LC_ALL", "C").current_dir(self.directory.path());
        if let Some(Account { uid, gid }) = self.account {
            command.uid(uid).gid(gid);
        }
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop_immediate();
    }
}

/// The processes that `parent` has started.
fn children(parent: Pid) -> Vec<Pid> {
    let parent = parent.as_raw_nonzero();
    let listed = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
    let listed = listed.expect("Linux tells a process's children");
    listed.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}

/// Whether a process runs: one that has ended and waits for its parent's notice does not.
fn runs(process: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero()));
    // The state follows the name, which is in parentheses and may hold any.
    stat.is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z')))
}

/// Lines as they come, until the stream ends. The thread reads on when nobody listens, so the writer never blocks.
fn lines_of(stream: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    receiver
}

fn run(command: &mut Command, what: &str) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// The directory of `initdb` and its companions: Debian's with the highest version, else what PATH leads to.
fn find_binaries() -> Option<PathBuf> {
    let complete = |directory: &PathBuf| {
        ["initdb", "postgres", "psql"].iter().all(|name| directory.join(name).is_file())
    };
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let installed = versions.map(|version| version.path().join("bin")).filter(complete);
    installed.max_by_key(|directory| version_of(directory)).or_else(|| {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).find(complete)
    })
}

/// `15` of `/usr/lib/postgresql/15/bin`.
fn version_of(binaries: &Path) -> u32 {
    let version = binaries.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    version.and_then(|version| version.parse().ok()).unwrap_or(0)
}

fn unprivileged_account() -> Account {
    let id = |flag: &str, user: &str| -> Option<u32> {
        let output = Command::new("id").args([flag, user]).output().ok()?;
        String::from_utf8(output.stdout).ok()?.trim().parse().ok()
    };
    let account = |user: &str| Some(Account { uid: id("-u", user)?, gid: id("-g", user)? });
    account("postgres").or_else(|| account("nobody")).expect("a Debian system has the user `nobody`")
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port can be bound");
    listener.local_addr().expect("a bound socket has an address").port()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn committed_rows_survive_an_immediate_stop() {
        let Some(mut postgres) = Postgres::start_unless_skipped() else { return };
        postgres.query("CREATE TABLE kept (id int); INSERT INTO kept VALUES (1), (2)");
        postgres.stop_immediate();
        postgres.start_again();
        assert_eq!(postgres.query("SELECT id FROM kept ORDER BY id"), "1\n2");
        assert_eq!(postgres.query("SHOW fsync"), "on");
    }

    #[test]
    fn committed_rows_survive_kill_9_of_every_process() {
        let Some(mut postgres) = Postgres::start_unless_skipped() else { return };
        postgres.query("CREATE TABLE kept (id int); INSERT INTO kept VALUES (1), (2)");
        let server = Pid::from_child(postgres.server.as_ref().expect("it runs"));
        let processes = children(server);
        assert!(!processes.is_empty());
        postgres.kill();
        assert!(!runs(server) && !processes.iter().any(|process| runs(*process)));
        postgres.start_again();
        assert_eq!(postgres.query("SELECT id FROM kept ORDER BY id"), "1\n2");
    }

    #[test]
    fn nothing_stays_after_drop() {
        let Some(postgres) = Postgres::start_unless_skipped() else { return };
        let (directory, port) = (postgres.directory.path().to_owned(), postgres.port);
        drop(postgres);
        assert!(!directory.exists());
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port is free again");
    }
}
