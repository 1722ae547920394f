use std::os::unix::fs::PermissionsExt;

use rustls_pki_types::{CertificateRevocationListDer, ServerName, UnixTime};
use tempfile::TempDir;
use webpki::{
    BorrowedCertRevocationList, CertRevocationList, EndEntityCert, KeyUsage, RevocationOptionsBuilder,
};

use super::*;

fn now() -> Timestamp {
    "2026-11-21T08:00:00Z".parse().unwrap()
}

fn days(days: u32) -> Duration {
    DAY * days
}

fn created() -> (TempDir, Authority) {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::create(dir.path(), Overwrite::No, now()).unwrap();
    (dir, authority)
}

/// What a TLS peer would say, with the files in `dir`.
fn verify(dir: &TempDir, pem: &str, usage: KeyUsage, at: Timestamp) -> Result<(), webpki::Error> {
    let ca =
        CertificateDer::from_pem_slice(files::read(&dir.path().join("ca.pem")).unwrap().as_bytes()).unwrap();
    let crl = files::read(&dir.path().join("ca.crl")).unwrap();
    let crl = CertificateRevocationListDer::from_pem_slice(crl.as_bytes()).unwrap();
    let crl = CertRevocationList::from(BorrowedCertRevocationList::from_der(&crl).unwrap());
    let crls = [&crl];
    let revocation = RevocationOptionsBuilder::new(&crls).unwrap();
    let revocation = revocation.with_expiration_policy(webpki::ExpirationPolicy::Enforce).build();
    let anchors = [webpki::anchor_from_trusted_cert(&ca).unwrap()];
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let at = UnixTime::since_unix_epoch(Duration::from_secs(at.as_second().try_into().unwrap()));
    EndEntityCert::try_from(&der)
        .unwrap()
        .verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &anchors, &[], at, usage, Some(revocation), None)
        .map(|_| ())
}

fn issue(authority: &Authority, id: &str) -> IssuedCertificate {
    authority.issue(&Subject::device(id).unwrap(), DEFAULT_LIFETIME, Overwrite::No, now()).unwrap()
}

#[test]
fn a_device_is_let_in_until_it_expires_and_never_as_a_server() {
    let (dir, authority) = created();
    let device = issue(&authority, "mon-12");
    let client = |at| verify(&dir, &device.certificate_pem, KeyUsage::client_auth(), at);
    assert_eq!(client(now()), Ok(()));
    assert_eq!(client(now() - Duration::from_secs(299)), Ok(()), "a clock that is behind");
    assert!(matches!(client(now() + days(366)), Err(webpki::Error::CertExpired { .. })));
    let as_server = verify(&dir, &device.certificate_pem, KeyUsage::server_auth(), now());
    assert!(matches!(as_server, Err(webpki::Error::RequiredEkuNotFoundContext(_))), "{as_server:?}");
    let der = CertificateDer::from_pem_slice(device.certificate_pem.as_bytes()).unwrap();
    let uris: Vec<String> =
        EndEntityCert::try_from(&der).unwrap().valid_uri_names().map(str::to_owned).collect();
    assert_eq!(uris, ["urn:wardline:device:mon-12"]);
}

#[test]
fn a_server_answers_to_its_names() {
    let (dir, authority) = created();
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let server = Subject::server(None, &names).unwrap();
    let server = authority.issue(&server, DEFAULT_LIFETIME, Overwrite::No, now()).unwrap();
    assert_eq!(verify(&dir, &server.certificate_pem, KeyUsage::server_auth(), now()), Ok(()));
    let der = CertificateDer::from_pem_slice(server.certificate_pem.as_bytes()).unwrap();
    let certificate = EndEntityCert::try_from(&der).unwrap();
    for name in names {
        let name = ServerName::try_from(name).unwrap();
        assert_eq!(certificate.verify_is_valid_for_subject_name(&name), Ok(()), "{name:?}");
    }
    let other = ServerName::try_from("elsewhere").unwrap();
    assert!(certificate.verify_is_valid_for_subject_name(&other).is_err());
}

#[test]
fn a_revoked_device_is_refused_and_the_others_are_not() {
    let (dir, authority) = created();
    let (lost, kept) = (issue(&authority, "lost"), issue(&authority, "kept"));
    let first = verify(&dir, &lost.certificate_pem, KeyUsage::client_auth(), now());
    assert_eq!(first, Ok(()));
    // An authority that was closed in between goes on.
    let authority = Authority::open(dir.path()).unwrap();
    let revoked = authority.revoke("device-lost", Reason::KeyCompromise, now()).unwrap();
    assert_eq!(revoked.len(), 1);
    let refused = verify(&dir, &lost.certificate_pem, KeyUsage::client_auth(), now());
    assert_eq!(refused, Err(webpki::Error::CertRevoked));
    assert_eq!(verify(&dir, &kept.certificate_pem, KeyUsage::client_auth(), now()), Ok(()));
    // Again: the first date and reason stay.
    let again = authority.revoke("device-lost", Reason::Superseded, now() + days(1)).unwrap();
    assert_eq!(again, revoked);
    assert!(matches!(
        authority.revoke("device-unknown", Reason::default(), now()),
        Err(CertsError::Unknown(_))
    ));
}

#[test]
fn renewal_keeps_the_key_and_revocation_by_name_takes_both() {
    let (dir, authority) = created();
    let first = issue(&authority, "mon-12");
    let second = authority.renew("device-mon-12", DEFAULT_LIFETIME, now() + days(300)).unwrap();
    assert_eq!(first.key_pem, second.key_pem);
    assert_ne!(first.certificate.serial, second.certificate.serial);
    assert_eq!(files::read(&second.certificate_path).unwrap(), second.certificate_pem);
    let at = now() + days(301);
    authority.refresh(at).unwrap();
    for pem in [&first.certificate_pem, &second.certificate_pem] {
        assert_eq!(
            verify(&dir, pem, KeyUsage::client_auth(), at),
            Ok(()),
            "both, while the new one is carried over"
        );
    }
    assert_eq!(authority.revoke(&first.certificate.serial, Reason::Superseded, at).unwrap().len(), 1);
    assert_eq!(verify(&dir, &second.certificate_pem, KeyUsage::client_auth(), at), Ok(()));
    assert_eq!(authority.revoke("device-mon-12", Reason::KeyCompromise, at).unwrap().len(), 2);
    let refused = verify(&dir, &second.certificate_pem, KeyUsage::client_auth(), at);
    assert_eq!(refused, Err(webpki::Error::CertRevoked));
    assert!(matches!(authority.renew("device-mon-12", DEFAULT_LIFETIME, at), Err(CertsError::Revoked(_))));
    assert!(matches!(authority.renew("device-mon-13", DEFAULT_LIFETIME, at), Err(CertsError::Unknown(_))));
}

#[test]
fn the_list_is_numbered_and_goes_out_of_date() {
    let (dir, authority) = created();
    let device = issue(&authority, "mon-12");
    let number = |dir: &TempDir| Index::read(dir.path()).unwrap().crl_number;
    let before = number(&dir);
    let late = now() + CRL_LIFETIME + days(1);
    let stale = verify(&dir, &device.certificate_pem, KeyUsage::client_auth(), late);
    assert!(matches!(stale, Err(webpki::Error::CrlExpired { .. })), "{stale:?}");
    authority.refresh(late).unwrap();
    assert_eq!(number(&dir), before + 1);
    assert_eq!(verify(&dir, &device.certificate_pem, KeyUsage::client_auth(), late), Ok(()));
}

#[test]
fn no_key_is_replaced_by_accident_or_left_readable() {
    let (dir, authority) = created();
    let device = issue(&authority, "mon-12");
    for key in [dir.path().join("ca.key"), device.key_path.clone()] {
        assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600, "{key:?}");
    }
    let before = std::fs::read(&device.key_path).unwrap();
    let subject = Subject::device("mon-12").unwrap();
    let again = authority.issue(&subject, DEFAULT_LIFETIME, Overwrite::No, now());
    assert!(matches!(again, Err(CertsError::Exists(_))));
    assert_eq!(std::fs::read(&device.key_path).unwrap(), before);
    assert!(matches!(Authority::create(dir.path(), Overwrite::No, now()), Err(CertsError::Exists(_))));
    assert_eq!(authority.list().unwrap().len(), 1);
    authority.issue(&subject, DEFAULT_LIFETIME, Overwrite::Yes, now()).unwrap();
    assert_ne!(std::fs::read(&device.key_path).unwrap(), before);
    assert_eq!(authority.list().unwrap().len(), 2, "the one before can still be revoked");
}

#[test]
fn nothing_outlives_its_authority() {
    let (_dir, authority) = created();
    let subject = Subject::device("mon-12").unwrap();
    let issue = |lifetime| authority.issue(&subject, lifetime, Overwrite::No, now());
    assert!(matches!(issue(AUTHORITY_LIFETIME + days(1)), Err(CertsError::Validity { .. })));
    assert!(matches!(issue(Duration::MAX), Err(CertsError::Time)));
    assert!(authority.list().unwrap().is_empty());
    assert!(issue(AUTHORITY_LIFETIME).is_ok());
}

#[test]
fn what_does_not_belong_together_is_found_when_opened() {
    let (dir, _) = created();
    let (other, _) = created();
    std::fs::copy(other.path().join("ca.pem"), dir.path().join("ca.pem")).unwrap();
    assert!(matches!(Authority::open(dir.path()), Err(CertsError::Damaged { .. })));
    std::fs::write(other.path().join("index.json"), "{").unwrap();
    assert!(matches!(Authority::open(other.path()), Err(CertsError::Damaged { .. })));
    assert!(matches!(Authority::open(&dir.path().join("none")), Err(CertsError::NoAuthority(_))));
}

#[test]
fn changes_at_once_follow_one_another() {
    let (dir, _) = created();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let path = dir.path();
            scope.spawn(move || {
                let authority = Authority::open(path).unwrap();
                for n in 0..5 {
                    issue(&authority, &format!("d{thread}-{n}"));
                }
            });
        }
    });
    assert_eq!(Authority::open(dir.path()).unwrap().list().unwrap().len(), 20);
}

#[test]
fn init_makes_all_or_refuses_before_it_begins() {
    let dir = tempfile::tempdir().unwrap();
    let names = ["localhost".to_owned()];
    crate::init(dir.path(), &names, Overwrite::No, now()).unwrap();
    for file in ["ca.pem", "ca.key", "ca.crl", "server.pem", "server.key", "token.key", "jwks.json"] {
        assert!(dir.path().join(file).exists(), "{file}");
    }
    std::fs::remove_file(dir.path().join("ca.key")).unwrap();
    let before = std::fs::read(dir.path().join("ca.pem")).unwrap();
    assert!(matches!(crate::init(dir.path(), &names, Overwrite::No, now()), Err(CertsError::Exists(_))));
    assert_eq!(std::fs::read(dir.path().join("ca.pem")).unwrap(), before);
    crate::init(dir.path(), &names, Overwrite::Yes, now()).unwrap();
    assert_ne!(std::fs::read(dir.path().join("ca.pem")).unwrap(), before);
}
