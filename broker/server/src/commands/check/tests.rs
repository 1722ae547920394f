use tempfile::TempDir;
use wardline_certs::Overwrite;

use super::*;

const CONFIG: &str = r#"
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
issuer = "wardline-development"
audience = "wardline"
jwks = "jwks.json"
[policy]
file = "policy.toml"
[plugins]
rules = "rules.toml"
"#;

const POLICY: &str = r##"
[roles.lab]
publish = ["#"]
[principals."service:lab"]
roles = ["lab"]
"##;

const RULES: &str = r#"
[[limit]]
signal = "hr"
low = 50
severity = "death"
onset = "prompt"
delay = "15s"
"#;

fn made() -> Timestamp {
    "2026-11-21T08:00:00Z".parse().unwrap()
}

/// A whole good site.
fn site() -> TempDir {
    let directory = TempDir::new().unwrap();
    wardline_certs::init(directory.path(), &["localhost".to_owned()], Overwrite::No, made()).unwrap();
    for (name, text) in [("wardline.toml", CONFIG), ("policy.toml", POLICY), ("rules.toml", RULES)] {
        fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

fn found(site: &TempDir, now: Timestamp) -> String {
    found_with(site, now, u64::MAX)
}

fn found_with(site: &TempDir, now: Timestamp, descriptors: u64) -> String {
    let path = site.path().join("wardline.toml");
    let report = check(&path, std::iter::empty(), now, descriptors).to_string();
    report.replace(&format!("{}/", site.path().display()), "")
}

#[test]
fn a_good_site_is_said_to_be_good() {
    let report = found(&site(), made());
    assert!(report.starts_with("configuration is good\n"), "{report}");
    for expected in [
        "ward: tls://0.0.0.0:8883, certificate and token",
        "lab: tcp://127.0.0.1:1883, everybody is service:lab",
    ] {
        assert!(report.contains(expected), "{report}");
    }
}

#[test]
fn too_few_descriptors_are_a_warning_and_none_for_clients_a_problem() {
    let site = site();
    let few = found_with(&site, made(), 1_024);
    assert!(few.starts_with("wardline.toml: warning: `connections` in [limits] is 10000, "), "{few}");
    assert!(few.contains("allow for 768") && few.contains("configuration is good"), "{few}");
    let none = found_with(&site, made(), 100);
    assert!(none.contains("100 file descriptors") && !none.contains("is good"), "{none}");
}

#[test]
fn a_key_of_another_certificate_is_found() {
    let (site, other) = (site(), site());
    fs::copy(other.path().join("server.key"), site.path().join("server.key")).unwrap();
    let report = found(&site, made());
    assert!(report.starts_with("wardline.toml:2: listener `ward`: server.pem: "), "{report}");
    assert!(!report.contains("is good"), "{report}");
}

#[test]
fn an_expired_certificate_is_a_problem_and_one_about_to_expire_a_warning() {
    let site = site();
    let [Period { until, .. }] = validity::certificates(&site.path().join("server.pem"))[..] else {
        panic!("one")
    };
    let soon = found(&site, until - SignedDuration::from_hours(24));
    assert!(soon.contains(&format!("server.pem: warning: this certificate expires at {until}")), "{soon}");
    assert!(soon.contains("configuration is good"), "{soon}");
    let late = found(&site, until);
    assert!(late.contains(&format!("server.pem: this certificate expired at {until}")), "{late}");
    assert!(!late.contains("configuration is good"), "{late}");
}

#[test]
fn a_key_that_others_can_read_is_pointed_at() {
    let site = site();
    fs::set_permissions(site.path().join("server.key"), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(found(&site, made()).contains("server.key: warning: other users can read"));
}

#[test]
fn policy_rules_and_keys_are_reported_with_file_and_line() {
    let site = site();
    fs::write(site.path().join("policy.toml"), "[roles.lab]\npublishes = [\"#\"]\n").unwrap();
    fs::write(site.path().join("rules.toml"), RULES.replace("hr", "heart")).unwrap();
    fs::write(site.path().join("jwks.json"), "{}").unwrap();
    let report = found(&site, made());
    for expected in ["policy.toml:2: ", "rules.toml:2: ", "jwks.json: keys of issuer wardline-development: "]
    {
        assert!(report.lines().any(|line| line.starts_with(expected)), "{expected} is missing in\n{report}");
    }
}

#[test]
fn an_anonymous_principal_that_the_policy_does_not_name_is_pointed_at() {
    let site = site();
    fs::write(site.path().join("policy.toml"), POLICY.replace("service:lab", "service:ward")).unwrap();
    assert!(found(&site, made()).contains("warning: nobody can connect to listener `lab`"));
}
