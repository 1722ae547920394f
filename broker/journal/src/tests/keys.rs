use std::os::unix::fs::PermissionsExt;

use super::*;

const OLD: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("journal.key");
    std::fs::write(&file, text).unwrap();
    set_mode(&file, 0o600);
    (directory, file)
}

fn set_mode(file: &Path, mode: u32) {
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(file: &Path) -> u32 {
    std::fs::metadata(file).unwrap().permissions().mode() & 0o777
}

fn ids(keys: &KeyRing) -> Vec<String> {
    keys.ids().map(|id| id.to_string()).collect()
}

#[test]
fn a_made_key_is_its_owners_only_and_a_second_one_goes_in_front() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("journal.key");
    let now = "2026-11-21T08:00:00Z".parse().unwrap();
    let first = KeyRing::add(&file, now).unwrap();
    assert_eq!(mode(&file), 0o600);
    assert_eq!(ids(&KeyRing::read(&file).unwrap()), [first.to_string()]);

    set_mode(&file, 0o640);
    let second = KeyRing::add(&file, now).unwrap();
    assert_ne!(first, second);
    assert_eq!(mode(&file), 0o640, "who could read it still can");
    assert_eq!(ids(&KeyRing::read(&file).unwrap()), [second.to_string(), first.to_string()]);
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.lines().next().unwrap().ends_with(&format!("# {second} 2026-11-21")), "{text}");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing else is left");
}

#[test]
fn the_name_of_a_key_never_changes() {
    // HKDF-SHA-256 without salt over the key, computed elsewhere.
    let (_directory, file) = written(&format!("# both\n\n  {OLD} # old\r\n"));
    assert_eq!(ids(&KeyRing::read(&file).unwrap()), ["fcce7f74"]);
}

#[test]
fn what_is_no_key_file_is_refused_with_its_line_and_never_shown() {
    let many: String =
        (0..65).map(|n| format!("{OLD}\n").replacen("AAEC", &format!("AA{n:02}"), 1)).collect();
    for (text, expected) in [
        ("# nothing\n", "holds no key; `wardline journal key --out "),
        (&format!("{OLD}\nsecret\n"), ", line 2, is no key: one is 32 random bytes in base64, 44 characters"),
        (&OLD[..43], ", line 1, is no key"),
        (&format!("{OLD}\n\n{OLD}\n"), ", line 3, is key fcce7f74 again"),
        (&many, "64 keys"),
        (&"#".repeat(70_000), "65536 bytes"),
    ] {
        let (_directory, file) = written(text);
        let error = KeyRing::read(&file).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("journal.key"), "{error}");
        assert!(!error.contains("secret") && !error.contains(&OLD[..20]), "{error}");
    }
    let (_directory, file) = written(OLD);
    let keys = format!("{:?}", KeyRing::read(&file).unwrap());
    assert!(
        keys.contains("journal.key") && !keys.contains(&OLD[..20]) && !keys.contains("1, 2, 3"),
        "{keys}"
    );
}

#[test]
fn a_key_file_that_everybody_can_read_is_refused() {
    let (_directory, file) = written(OLD);
    for exposed in [0o604, 0o602, 0o601] {
        set_mode(&file, exposed);
        let error = KeyRing::read(&file).unwrap_err();
        assert!(matches!(error, KeyError::Exposed { .. }), "{error}");
        assert!(KeyRing::add(&file, Timestamp::UNIX_EPOCH).is_err());
    }
    set_mode(&file, 0o640);
    KeyRing::read(&file).unwrap();
    assert!(matches!(KeyRing::read(&file.with_extension("none")), Err(KeyError::Io { .. })));
}

#[test]
fn a_new_key_is_not_put_before_what_is_no_key() {
    let (_directory, file) = written("secret\n");
    KeyRing::add(&file, Timestamp::UNIX_EPOCH).unwrap_err();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "secret\n");
}
