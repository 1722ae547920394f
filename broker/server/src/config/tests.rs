use std::fs;
use std::path::Path;

use tempfile::TempDir;
use wardline_core::{ClientLimits, QueueFull};

use super::*;

/// A directory with every file that the example names.
struct Site(TempDir);

impl Site {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        for file in ["server.pem", "server.key", "ca.pem", "ca.crl", "jwks.json", "policy.toml", "rules.toml"]
        {
            fs::write(directory.path().join(file), "").unwrap();
        }
        Self(directory)
    }

    fn load_with(&self, text: &str, environment: &[(&str, &str)]) -> Result<Config, Problems> {
        let path = self.0.path().join("wardline.toml");
        fs::write(&path, text).unwrap();
        Config::load(&path, environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    fn load(&self, text: &str) -> Result<Config, Problems> {
        self.load_with(text, &[])
    }

    /// Problems without the directory, one a line.
    fn problems(&self, text: &str, environment: &[(&str, &str)]) -> String {
        let problems = self.load_with(text, environment).expect_err("the configuration is wrong").to_string();
        problems.replace(&format!("{}/", self.0.path().display()), "")
    }
}

const FULL: &str = r#"
[node]
id = 7
response_information = "responses/"
data = "data"

[[listener]]
name = "ward"
bind = "0.0.0.0:8883"
transport = "tls"
certificate = "server.pem"
key = "server.key"
client_ca = "ca.pem"
crl = ["ca.crl"]
require = ["certificate", "token"]

[[listener]]
name = "lab"
bind = "127.0.0.1:1883"
transport = "tcp"
anonymous = "service:lab"

[[identity.issuer]]
issuer = "https://id.hospital.example"
audience = "wardline"
jwks = "jwks.json"
algorithms = ["EdDSA", "ES256"]

[policy]
file = "policy.toml"

[journal]
commit = "interval:5ms"
quota = "20GiB"
segment = "16MiB"
snapshot = "128MiB"

[audit]
store = "sqlite:audit.db"
payload = "digest"
[[audit.payload_by_topic]]
filter = "alerts/#"
payload = "full"

[plugins]
rules = "rules.toml"

[http]
bind = "127.0.0.1:9180"

[limits]
max_packet = "64KiB"
max_keep_alive = "5m"
connect_timeout = "3s"

[log]
format = "json"
"#;

/// The least that is valid; tests append to it.
const LEAST: &str = r#"
[policy]
file = "policy.toml"
[[listener]]
name = "lab"
bind = "127.0.0.1:1883"
transport = "tcp"
anonymous = "service:lab"
"#;

#[test]
fn every_section_is_understood() {
    let site = Site::new();
    let config = site.load(FULL).unwrap();
    let at = |name: &str| site.0.path().join(name);
    let sys_interval = Some(Duration::from_secs(10));
    let response_information = Some("responses/".to_owned());
    assert_eq!(config.node, Node { id: 7, data: at("data"), sys_interval, response_information });
    let [ward, lab] = config.listeners.as_slice() else { panic!("{:?}", config.listeners) };
    let tls = ward.tls.as_ref().unwrap();
    assert_eq!(
        (&tls.certificate, tls.client_ca.as_ref(), tls.crl.len()),
        (&at("server.pem"), Some(&at("ca.pem")), 1)
    );
    assert_eq!(ward.demand, Demand::Credentials(wardline_acl::Require::Both));
    assert_eq!(lab.demand, Demand::Anonymous("service:lab".parse().unwrap()));
    assert_eq!(lab.bind, "127.0.0.1:1883".parse().unwrap());
    assert_eq!(config.identity.issuers.len(), 1);
    assert_eq!((config.journal.quota_bytes, config.journal.segment_bytes), (20 << 30, 16 << 20));
    assert_eq!(config.snapshot_bytes, 128 << 20);
    assert_eq!(config.journal.commit, wardline_journal::Commit::Interval(Duration::from_millis(5)));
    assert_eq!(config.audit.payload.kept("alerts/x"), wardline_audit::PayloadKept::Full);
    assert_eq!(config.audit.payload.kept("telemetry/x"), wardline_audit::PayloadKept::Digest);
    assert_eq!(config.rules, Some(at("rules.toml")));
    assert_eq!((ward.limits.client.max_packet, ward.limits.client.max_keep_alive), (65_536, 300));
    assert_eq!(ward.limits.connect_timeout, Duration::from_secs(3));
    assert_eq!(config.log, Log { format: LogFormat::Json, level: Level::INFO });
    assert!(config.warnings.is_empty());
}

#[test]
fn what_is_left_out_has_a_default() {
    let config = Site::new().load(LEAST).unwrap();
    assert_eq!(config.node.id, 1);
    assert_eq!(config.http, Some("127.0.0.1:9180".parse().unwrap()));
    assert_eq!(config.rules, None);
    let [lab] = config.listeners.as_slice() else { panic!("{:?}", config.listeners) };
    let client = ClientLimits { listener: "lab".into(), ..ClientLimits::default() };
    assert_eq!(*lab.limits.client, client);
}

#[test]
fn a_listener_takes_from_the_node_what_it_does_not_say() {
    let node = "[limits]\nreceive_max = 10\ntopic_levels = 8\nconnections = 50\npublishes_per_second = 100\n\
                bytes_per_second = \"1MiB\"\nconnections_per_principal = 2\nsessions_per_principal = 4\n";
    let listener = "[listener.limits]\nreceive_max = 20\nconnections = 5\npublishes_per_second = 0\nmax_packet = \"64KiB\"\n\
                    connections_per_second = 30\nsessions_per_principal = 3\n[[listener]]\nname = \"other\"\nbind = \"127.0.0.1:1884\"\ntransport = \"tcp\"\n\
                    anonymous = \"service:lab\"\n";
    let config = Site::new().load(&format!("{LEAST}{listener}{node}")).unwrap();
    assert_eq!(config.limits.connections, 50);
    let [lab, other] = config.listeners.as_slice() else { panic!("{:?}", config.listeners) };
    let (lab, other) = (&lab.limits, &other.limits);
    assert_eq!((lab.client.receive_max, other.client.receive_max), (20, 10));
    assert_eq!((lab.client.topic_levels, other.client.topic_levels), (8, 8));
    assert_eq!((lab.client.max_packet, other.client.max_packet), (64 << 10, 256 << 10));
    assert_eq!((lab.connections, other.connections), (5, 50));
    let rate = std::num::NonZeroU32::new;
    assert_eq!((lab.publishes_per_second, other.publishes_per_second), (None, rate(100)));
    assert_eq!((lab.connections_per_second, other.connections_per_second), (rate(30), None));
    assert_eq!((lab.bytes_per_second, other.bytes_per_second), (rate(1 << 20), rate(1 << 20)));
    assert_eq!(lab.client.connections_per_principal, rate(2));
    assert_eq!((lab.client.sessions_per_principal, other.client.sessions_per_principal), (rate(3), rate(4)));
    assert_eq!((&*lab.client.listener, &*other.client.listener), ("lab", "other"));
    let config = Site::new().load(&format!("{LEAST}limits = {{ receive_max = 30 }}\n")).unwrap();
    assert_eq!(config.listeners.first().map(|lab| lab.limits.client.receive_max), Some(30));
}

#[test]
fn limits_that_cannot_be_kept_are_refused_once_where_they_are_written() {
    let cases = [
        (
            "[listener.limits]\ntopic_levels = 0\n",
            "wardline.toml:10: `topic_levels` in [listener.limits]: `0` is not",
        ),
        (
            "[limits]\nmax_packet = \"1\"\n",
            "wardline.toml:10: `max_packet` in [limits]: `1` is not from 1024",
        ),
        (
            "[limits]\nbytes_per_second = \"1KiB\"\n",
            "wardline.toml:9: `bytes_per_second` is 1024 and `max_packet` 262144",
        ),
        (
            "[listener.limits]\nmax_packet = \"1MiB\"\n[limits]\nbytes_per_second = \"512KiB\"\n",
            "wardline.toml:9: `bytes_per_second` is 524288 and `max_packet` 1048576",
        ),
        (
            "[listener.limits]\nqueued_messages = 5\n",
            "wardline.toml:10: unknown key `queued_messages` in [listener.limits]",
        ),
        (
            "[node]\nsys_interval = \"soon\"\n",
            "wardline.toml:10: `sys_interval` in [node]: `soon` is not a duration",
        ),
    ];
    for (lines, expected) in cases {
        let problems = Site::new().problems(&format!("{LEAST}{lines}"), &[]);
        assert_eq!(problems.lines().count(), 1, "{lines}\n{problems}");
        assert!(problems.starts_with(expected), "{problems}\nis not\n{expected}");
    }
}

#[test]
fn what_may_wait_for_a_session_is_declared() {
    let site = Site::new();
    let core = site.load(LEAST).unwrap().limits.core;
    assert_eq!((core.queued_messages_max, core.queued_bytes_max), (1_000_000, 1 << 30));
    assert_eq!(core.queue_full, QueueFull::DropNewest);
    let limits = "[limits]\nqueued_messages = 5\nqueued_bytes = \"4KiB\"\nqueue_full = \"drop-oldest\"\n\
                  queued_qos0 = 7\nqueued_qos0_bytes = \"8KiB\"\n";
    let core = site.load(&format!("{LEAST}{limits}")).unwrap().limits.core;
    assert_eq!((core.queued_messages_max, core.queued_bytes_max), (5, 4_096));
    assert_eq!((core.queued_qos0_max, core.queued_qos0_bytes_max), (7, 8_192));
    assert_eq!(core.queue_full, QueueFull::DropOldest);
    let wrong = site.problems(&format!("{LEAST}[limits]\nqueue_full = \"drop-all\"\n"), &[]);
    assert!(wrong.contains("`drop-all` is neither \"drop-newest\" nor \"drop-oldest\""), "{wrong}");
}

#[test]
fn how_much_the_node_keeps_is_declared() {
    let site = Site::new();
    let core = site.load(LEAST).unwrap().limits.core;
    assert_eq!(core.sessions_max, 100_000);
    assert_eq!((core.retained_messages_max, core.retained_bytes_max), (1_000_000, 1 << 30));
    let limits = "[limits]\nsessions = 9\nretained_messages = 6\nretained_bytes = \"16KiB\"\n";
    let core = site.load(&format!("{LEAST}{limits}")).unwrap().limits.core;
    assert_eq!(core.sessions_max, 9);
    assert_eq!((core.retained_messages_max, core.retained_bytes_max), (6, 16_384));
    // Unless it is said, who comes and goes leaves room for those who stay away.
    for (connections, sessions) in [(50, 100_000), (20_000, 200_000)] {
        let config = site.load(&format!("{LEAST}[limits]\nconnections = {connections}\n")).unwrap();
        assert_eq!(config.limits.core.sessions_max, sessions);
    }
    let wrong = site.problems(&format!("{LEAST}[listener.limits]\nsessions = 5\n"), &[]);
    assert!(wrong.contains("unknown key `sessions` in [listener.limits]"), "{wrong}");
}

#[test]
fn the_sys_tree_can_be_switched_off() {
    let site = Site::new();
    for off in ["0", "\"off\"", "\"0s\""] {
        let config = site.load(&format!("{LEAST}[node]\nsys_interval = {off}\n")).unwrap();
        assert_eq!(config.node.sys_interval, None, "{off}");
    }
    let config = site.load(&format!("{LEAST}[node]\nsys_interval = \"1m\"\n")).unwrap();
    assert_eq!(config.node.sys_interval, Some(Duration::from_secs(60)));
}

#[test]
fn every_mistake_is_reported_with_its_line_and_its_mend() {
    let text = r#"[node]
id = 0
[policy]
file = "missing.toml"
[[listener]]
name = "ward"
bindd = "0.0.0.0:8883"
transport = "tsl"
require = ["certificate"]
[journal]
commit = "sometimes"
quota = "much"
speed = "high"
[wards]
"#;
    let problems = Site::new().problems(text, &[]);
    let lines: Vec<&str> = problems.lines().collect();
    let expected = [
        "wardline.toml:2: `id` in [node]: `0` is not a whole number from 1 to 65535",
        "wardline.toml:4: `file` in [policy]: cannot read missing.toml: No such file",
        "wardline.toml:5: `bind` is missing in [[listener]]; write bind = \"0.0.0.0:8883\"",
        "wardline.toml:7: unknown key `bindd` in [[listener]]; did you mean `bind`?",
        "wardline.toml:8: `transport` in [[listener]]: `tsl` is none of tcp, tls, ws, wss",
        "wardline.toml:11: `commit` in [journal]: `sometimes` is not a commit mode",
        "wardline.toml:12: `quota` in [journal]: `much` is not a size",
        "wardline.toml:13: unknown key `speed` in [journal]; it has commit, quota, segment, snapshot, key_file",
        "wardline.toml:14: unknown key `wards` in the file",
    ];
    assert_eq!(lines.len(), expected.len(), "{problems}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(expected), "{line}\nis not\n{expected}");
    }
}

#[test]
fn the_journals_keys_are_read_and_what_is_wrong_with_them_is_said() {
    let site = Site::new();
    let key = site.0.path().join("journal.key");
    let made = wardline_journal::KeyRing::add(&key, jiff::Timestamp::UNIX_EPOCH).unwrap();
    let text = format!("{LEAST}[journal]\nkey_file = \"journal.key\"\n");
    let keys = site.load(&text).unwrap().journal.keys.unwrap();
    assert_eq!((keys.ids().collect::<Vec<_>>(), keys.file()), (vec![made], &*key));
    let line = text.lines().count();
    for (content, expected) in
        [("nonsense", "journal.key, line 1, is no key"), ("", "journal.key holds no key")]
    {
        fs::write(&key, content).unwrap();
        let problems = site.problems(&text, &[]);
        assert!(
            problems.starts_with(&format!("wardline.toml:{line}: `key_file` in [journal]: ")),
            "{problems}"
        );
        assert!(problems.contains(expected) && !problems.contains("nonsense"), "{problems}");
    }
    fs::remove_file(&key).unwrap();
    assert!(site.problems(&text, &[]).contains("cannot read the key file journal.key: No such file"));
}

#[test]
fn broken_toml_is_reported_with_its_line() {
    let problems = Site::new().problems("[node]\nid = = 1\n", &[]);
    assert!(problems.lines().all(|line| line.starts_with("wardline.toml:2: not valid TOML: ")), "{problems}");
}

#[test]
fn a_missing_file_is_reported_by_name() {
    let problems =
        Config::load(Path::new("/nowhere/wardline.toml"), std::iter::empty()).unwrap_err().to_string();
    assert!(problems.starts_with("/nowhere/wardline.toml: cannot read the configuration: "), "{problems}");
}

#[test]
fn the_environment_overrides_and_appends() {
    let site = Site::new();
    let environment = [
        ("WARDLINE__NODE__ID", "9"),
        ("WARDLINE__LISTENER__0__BIND", "127.0.0.1:2883"),
        ("WARDLINE__LISTENER__1__NAME", "web"),
        ("WARDLINE__LISTENER__1__BIND", "0.0.0.0:8443"),
        ("WARDLINE__LISTENER__1__TRANSPORT", "wss"),
        ("WARDLINE__LISTENER__1__CERTIFICATE", "server.pem"),
        ("WARDLINE__LISTENER__1__KEY", "server.key"),
        ("WARDLINE__LISTENER__1__CLIENT_CA", "ca.pem"),
        ("WARDLINE__LISTENER__1__REQUIRE", r#"["certificate"]"#),
        ("WARDLINE__LIMITS__MAX_PACKET", "1MiB"),
        ("WARDLINE_SKIP_POSTGRES", "1"),
    ];
    let config = site.load_with(LEAST, &environment).unwrap();
    assert_eq!(config.node.id, 9);
    let [lab, web] = config.listeners.as_slice() else { panic!("{:?}", config.listeners) };
    assert_eq!(lab.bind.port(), 2883);
    assert_eq!((lab.limits.client.max_packet, web.limits.client.max_packet), (1 << 20, 1 << 20));
    assert_eq!((web.name.as_str(), web.transport), ("web", Transport::Wss));
}

#[test]
fn a_wrong_variable_is_reported_by_its_name() {
    let environment = [
        ("WARDLINE__NODE__ID", "nine"),
        ("WARDLINE__LISTENER__5__NAME", "far"),
        ("WARDLINE__JURNAL__COMMIT", "off"),
    ];
    let problems = Site::new().problems(LEAST, &environment);
    let expected = [
        "WARDLINE__JURNAL__COMMIT: unknown key `jurnal` in the file; did you mean `journal`?",
        "WARDLINE__LISTENER__5__NAME: `listener` has 1 elements, so the next is listener 1, not 5",
        "WARDLINE__NODE__ID: `id` in [node]: `nine` is not a whole number from 1 to 65535",
    ];
    assert_eq!(problems.lines().collect::<Vec<_>>(), expected);
}

/// A listener with these lines, after the policy and an issuer.
fn listener_problems(lines: &str) -> String {
    let text = format!(
        "[policy]\nfile = \"policy.toml\"\n[[identity.issuer]]\nissuer = \"i\"\naudience = \"a\"\njwks = \"jwks.json\"\n\
         [[listener]]\nname = \"x\"\n{lines}\n"
    );
    Site::new().problems(&text, &[])
}

#[test]
fn a_listener_fails_closed() {
    let tls = "transport = \"tls\"\ncertificate = \"server.pem\"\nkey = \"server.key\"\n";
    let cases = [
        ("bind = \"127.0.0.1:1\"\ntransport = \"tcp\"".to_owned(), "lets nobody in and says so nowhere"),
        (
            "bind = \"0.0.0.0:1\"\ntransport = \"tcp\"\nanonymous = \"service:lab\"".to_owned(),
            "for loopback only",
        ),
        (
            "bind = \"127.0.0.1:1\"\ntransport = \"tcp\"\nanonymous = \"lab\"".to_owned(),
            "a principal is device:ID",
        ),
        (
            "bind = \"127.0.0.1:1\"\ntransport = \"tcp\"\nanonymous = \"plugin:x\"".to_owned(),
            "part of the broker",
        ),
        ("bind = \"0.0.0.0:1\"\ntransport = \"tcp\"\nrequire = [\"token\"]".to_owned(), "in clear"),
        (
            "bind = \"127.0.0.1:1\"\ntransport = \"ws\"\nrequire = [\"certificate\"]".to_owned(),
            "needs transport tls or wss",
        ),
        (format!("bind = \"0.0.0.0:1\"\n{tls}require = [\"certificate\"]"), "needs `client_ca`"),
        (
            format!("bind = \"0.0.0.0:1\"\n{tls}require = [\"token\"]\ncrl = [\"ca.crl\"]"),
            "`client_ca`, which is missing",
        ),
        (
            format!("bind = \"0.0.0.0:1\"\n{tls}require = [\"password\"]"),
            "neither \"certificate\" nor \"token\"",
        ),
        (
            format!("bind = \"127.0.0.1:1\"\n{tls}require = [\"token\"]\nanonymous = \"service:lab\""),
            "keep the one that is meant",
        ),
        (
            "bind = \"0.0.0.0:1\"\ntransport = \"tls\"\nrequire = [\"token\"]".to_owned(),
            "needs `certificate` and `key`",
        ),
        (
            "bind = \"127.0.0.1:1\"\ntransport = \"tcp\"\nrequire = [\"token\"]\nkey = \"server.key\""
                .to_owned(),
            "has no use for certificate",
        ),
    ];
    for (lines, expected) in cases {
        let problems = listener_problems(&lines);
        assert_eq!(problems.lines().count(), 1, "{lines}\n{problems}");
        assert!(problems.contains(expected), "{problems}\ndoes not say\n{expected}");
    }
}

#[test]
fn a_token_needs_an_issuer() {
    let text = LEAST.replace("anonymous = \"service:lab\"", "require = [\"token\"]");
    let problems = Site::new().problems(&text, &[]);
    assert!(problems.contains("wardline.toml:8: ") && problems.contains("[[identity.issuer]]"), "{problems}");
}

#[test]
fn without_a_listener_nobody_could_connect() {
    let problems = Site::new().problems("[policy]\nfile = \"policy.toml\"\n", &[]);
    assert!(problems.contains("no [[listener]]"), "{problems}");
}

#[test]
fn names_and_addresses_are_taken_once() {
    let again = "[[listener]]\nname = \"lab\"\nbind = \"127.0.0.1:1883\"\ntransport = \"ws\"\nanonymous = \"service:lab\"\n\
                 [http]\nbind = \"0.0.0.0:1883\"\n";
    let problems = Site::new().problems(&format!("{LEAST}{again}"), &[]);
    for expected in
        ["two listeners are named `lab`", "127.0.0.1:1883 is taken by listener `lab`", "is taken by [http]"]
    {
        assert!(problems.contains(expected), "{problems}\ndoes not say\n{expected}");
    }
}

#[test]
fn a_key_set_behind_a_url_is_refused_with_the_way_out() {
    let issuer =
        "[[identity.issuer]]\nissuer = \"i\"\naudience = \"a\"\njwks = \"https://id.example/jwks\"\n";
    let problems = Site::new().problems(&format!("{LEAST}{issuer}"), &[]);
    assert!(problems.contains("does not fetch a URL; download"), "{problems}");
}

#[test]
fn a_database_password_comes_from_a_file_and_is_never_shown() {
    let site = Site::new();
    fs::write(site.0.path().join("db.password"), "p@ss/word\n").unwrap();
    let by_file =
        "[audit]\nstore = \"postgres://wardline@db.example/wardline\"\npassword_file = \"db.password\"\n";
    let config = site.load(&format!("{LEAST}{by_file}")).unwrap();
    assert!(config.warnings.is_empty());
    assert!(!format!("{config:?}").contains("p@ss"), "{config:?}");
    let inline = "[audit]\nstore = \"postgres://wardline:hunter2@db.example/wardline\"\n";
    let config = site.load(&format!("{LEAST}{inline}")).unwrap();
    let [warning] = config.warnings.as_slice() else { panic!("{:?}", config.warnings) };
    assert!(warning.message.contains("password_file") && !warning.message.contains("hunter2"), "{warning}");
    assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
}

#[test]
fn no_record_is_kept_where_it_says_so_and_that_is_warned_of() {
    let site = Site::new();
    assert!(site.load(LEAST).unwrap().audit.store.is_some());
    let config = site.load(&format!("{LEAST}[audit]\nstore = \"none\"\n")).unwrap();
    assert!(config.audit.store.is_none());
    let [warning] = config.warnings.as_slice() else { panic!("{:?}", config.warnings) };
    assert!(warning.to_string().contains("wardline.toml:10: no audit record"), "{warning}");
    fs::write(site.0.path().join("db.password"), "secret").unwrap();
    let lines = "[audit]\nstore = \"none\"\npassword_file = \"db.password\"\n";
    let problems = site.problems(&format!("{LEAST}{lines}"), &[]);
    assert!(problems.contains("`password_file` in [audit] is of no use"), "{problems}");
}

#[test]
fn an_unknown_store_is_refused() {
    let problems = Site::new().problems(&format!("{LEAST}[audit]\nstore = \"mysql://db\"\n"), &[]);
    assert!(problems.starts_with("wardline.toml:10: `store` in [audit]"), "{problems}");
}

/// A listener of `transport` on loopback that asks for a token, with these lines.
fn transport_lines(transport: &str, lines: &str) -> String {
    let tls = if matches!(transport, "tls" | "wss") {
        "certificate = \"server.pem\"\nkey = \"server.key\"\n"
    } else {
        ""
    };
    format!("bind = \"127.0.0.1:1\"\ntransport = \"{transport}\"\nrequire = [\"token\"]\n{tls}{lines}")
}

#[test]
fn the_keys_of_a_transport_fit_it() {
    let cases = [
        ("tcp", "proxy_protocol = true", "lets anybody say"),
        ("tcp", "proxy_protocol = \"v2\"\nproxy_trusted = [\"::1\"]", "neither true nor false"),
        ("tcp", "proxy_trusted = [\"10.0.0.0/8\"]", "of no use without"),
        ("tcp", "proxy_protocol = false\nproxy_trusted = [\"10.0.0.0/8\"]", "of no use without"),
        ("tcp", "proxy_protocol = true\nproxy_trusted = [\"10.0.0.1/8\"]", "bits beyond its prefix"),
        ("tcp", "proxy_protocol = true\nproxy_trusted = [\"0.0.0.0/0\"]", "every address"),
        ("tls", "tls_min = \"1.1\"", "neither \"1.2\" nor \"1.3\""),
        ("ws", "tls_min = \"1.3\"", "is not encrypted"),
        ("tls", "origins = [\"https://board.example\"]", "web pages come by WebSocket"),
        ("wss", "origins = [\"board.example\"]", "no origin"),
    ];
    for (transport, lines, expected) in cases {
        let problems = listener_problems(&transport_lines(transport, lines));
        assert!(problems.contains(expected), "{lines}\n{problems}\ndoes not say\n{expected}");
        assert_eq!(problems.lines().count(), 1, "{lines}\n{problems}");
    }
    let anonymous = LEAST.to_owned() + "proxy_protocol = true\nproxy_trusted = [\"::1\"]\n";
    let problems = Site::new().problems(&anonymous, &[]);
    assert!(problems.contains("`anonymous` do not go together"), "{problems}");
}

#[test]
fn the_keys_of_a_transport_are_understood() {
    let site = Site::new();
    let issuer = "[policy]\nfile = \"policy.toml\"\n[[identity.issuer]]\nissuer = \"i\"\naudience = \"a\"\njwks = \"jwks.json\"\n";
    let lines = "tls_min = 1.3\nproxy_protocol = true\nproxy_trusted = [\"10.0.0.0/8\", \"::1\"]\n\
                 origins = [\"https://Board.example\"]\n";
    let text = format!("{issuer}[[listener]]\nname = \"x\"\n{}", transport_lines("wss", lines));
    let config = site.load(&text).unwrap();
    let [listener] = config.listeners.as_slice() else { panic!("{:?}", config.listeners) };
    let tls = listener.tls.as_ref().unwrap();
    assert_eq!((tls.oldest, tls.protocol), (crate::tls::TlsVersion::V1_3, &b"http/1.1"[..]));
    assert_eq!(listener.origins, Origins::Listed(vec!["https://board.example".to_owned()]));
    let proxies = listener.proxies.as_ref().unwrap();
    assert!(proxies[0].contains("10.1.2.3".parse().unwrap()) && proxies[1].contains("::1".parse().unwrap()));

    let config = site.load(LEAST).unwrap();
    assert_eq!((&config.listeners[0].proxies, &config.listeners[0].origins), (&None, &Origins::Same));
}

#[test]
fn loopback_is_loopback_in_either_family() {
    for address in ["[::1]:1883", "[::ffff:127.0.0.1]:1883", "127.0.0.9:1883"] {
        Site::new().load(&LEAST.replace("127.0.0.1:1883", address)).unwrap();
    }
    for address in ["[::]:1883", "[::ffff:192.0.2.1]:1883", "[2001:db8::1]:1883"] {
        let problems = Site::new().problems(&LEAST.replace("127.0.0.1:1883", address), &[]);
        assert!(problems.contains("for loopback only"), "{problems}");
    }
}
