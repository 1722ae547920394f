use super::*;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_entry_survives_encoding(sample in sample()) {
        let body = sample.body();
        let bytes = encoded(&body);
        prop_assert_eq!(decode(&bytes), Ok(body));
    }

    #[test]
    fn a_shortened_or_lengthened_entry_is_refused(sample in sample(), cut in any::<prop::sample::Index>()) {
        let mut bytes = encoded(&sample.body());
        prop_assert!(decode(&bytes[..cut.index(bytes.len())]).is_err());
        bytes.push(0);
        prop_assert_eq!(decode(&bytes), Err(DecodeError::Trailing(1)));
    }

    #[test]
    fn what_decodes_has_only_that_encoding(bytes in prop::collection::vec(any::<u8>(), 0..80), kind in 0u8..24) {
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut() {
            *first = kind;
        }
        if let Ok(body) = decode(&bytes) {
            prop_assert_eq!(encoded(&body), bytes);
        }
    }

    #[test]
    fn the_canonical_form_tells_records_apart(one in sample(), other in sample(), hash in any::<[u8; 32]>()) {
        if let (Body::Record(one), Body::Record(other)) = (one.body(), other.body()) {
            let form = |record: &Record<'_>, offset| {
                let mut out = Vec::new();
                canonical(1, Offset(offset), record, &hash, &mut out);
                out
            };
            prop_assert_eq!(form(&one, 5), form(&one, 5));
            prop_assert_ne!(form(&one, 5), form(&one, 6));
            prop_assert_eq!(one == other, form(&one, 5) == form(&other, 5));
        }
    }
}

/// The layout that audit leaves depend on for ever.
#[test]
fn the_canonical_form_of_a_publish_is_this() {
    let mut out = Vec::new();
    canonical(0x0102, Offset(3), &publish(b"97"), &[0xAB; 32], &mut out);
    let mut want = vec![1, 0x02, 0x01, 3, 0, 0, 0, 0, 0, 0, 0];
    want.push(1);
    want.extend([0; 8]);
    for text in ["monitor", "device:mon-12", "10.0.0.7:5121", "telemetry/icu-3/b12/mon-12/hr"] {
        want.extend((text.len() as u32).to_le_bytes());
        want.extend(text.as_bytes());
    }
    want.extend([1, 0, 7, 0]);
    want.extend([0; 4]);
    want.extend([2, 0, 0, 0, 0, 0, 0, 0]);
    want.extend([0xAB; 32]);
    want.push(0);
    want.extend([0; 4]);
    assert_eq!(out, want);

    let mut digested = Vec::new();
    canonical_digested(0x0102, Offset(3), &publish(b""), 2, &[0xAB; 32], &mut digested);
    assert_eq!(digested, want);
}

#[test]
fn a_record_beyond_the_maximum_is_refused_whole() {
    let payload = vec![0; RECORD_BYTES_MAX];
    let mut out = vec![9];
    assert!(encode(&publish(&payload), &mut out).is_err());
    assert_eq!(out, [9]);
}

#[test]
fn commit_modes_are_read_and_written() {
    for (text, commit) in [
        ("always", Commit::Always),
        ("off", Commit::Off),
        ("interval:5ms", Commit::Interval(Duration::from_millis(5))),
    ] {
        assert_eq!(text.parse(), Ok(commit));
        assert_eq!(commit.to_string(), text);
    }
    for wrong in ["", "Always", "interval", "interval:", "interval:0s", "interval:-5ms", "interval:x"] {
        assert!(wrong.parse::<Commit>().is_err(), "{wrong}");
    }
}
