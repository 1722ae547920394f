use proptest::prelude::*;

use super::*;

/// A header of version 2: command and family as said, its length computed.
fn v2(command: u8, family: u8, variable: &[u8]) -> Vec<u8> {
    let length = u16::try_from(variable.len()).unwrap().to_be_bytes();
    [V2_SIGNATURE.as_slice(), &[0x20 | command, family], &length, variable].concat()
}

/// Source 203.0.113.7:40000, destination 192.0.2.1:8883.
const V4_BLOCK: [u8; 12] = [203, 0, 113, 7, 192, 0, 2, 1, 0x9C, 0x40, 0x22, 0xB3];

fn v6_block(source: &str) -> Vec<u8> {
    let source: Ipv6Addr = source.parse().unwrap();
    [source.octets().as_slice(), &Ipv6Addr::LOCALHOST.octets(), &[0x9C, 0x40, 0x22, 0xB3]].concat()
}

fn extension(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap().to_be_bytes();
    [&[kind], length.as_slice(), value].concat()
}

/// `header`, which ends with a checksum of zeros, with the right one.
fn signed(mut header: Vec<u8>) -> Vec<u8> {
    let sum = crc32c::crc32c(&header).to_be_bytes();
    let end = header.len();
    header[end - CRC32C_BYTES..].copy_from_slice(&sum);
    header
}

fn behind(address: &str) -> Source {
    Source::Behind(address.parse().unwrap())
}

fn good() -> Vec<(Vec<u8>, Source)> {
    let with_extensions = [&V4_BLOCK[..], &extension(0x04, &[0; 9]), &extension(0x02, b"broker.example")];
    let with_checksum = [&V4_BLOCK[..], &extension(0x04, &[]), &extension(CRC32C, &[0; 4])];
    vec![
        (b"PROXY UNKNOWN\r\n".to_vec(), Source::Socket),
        (b"PROXY UNKNOWN ffff:f and more of it\r\n".to_vec(), Source::Socket),
        (b"PROXY TCP4 203.0.113.7 192.0.2.1 40000 8883\r\n".to_vec(), behind("203.0.113.7:40000")),
        (b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n".to_vec(), behind("0.0.0.0:0")),
        (b"PROXY TCP6 2001:db8::7 ::1 40000 8883\r\n".to_vec(), behind("[2001:db8::7]:40000")),
        (b"PROXY TCP6 ::ffff:203.0.113.7 ::1 1 2\r\n".to_vec(), behind("203.0.113.7:1")),
        (format!("PROXY UNKNOWN {}\r\n", "x".repeat(91)).into_bytes(), Source::Socket),
        (v2(PROXY, TCP4, &V4_BLOCK), behind("203.0.113.7:40000")),
        (v2(PROXY, TCP6, &v6_block("2001:db8::7")), behind("[2001:db8::7]:40000")),
        (v2(PROXY, TCP6, &v6_block("::ffff:203.0.113.7")), behind("203.0.113.7:40000")),
        (v2(PROXY, UNIX, &[0; 216]), Source::Socket),
        (v2(PROXY, UNSPECIFIED, b"whatever"), Source::Socket),
        (v2(LOCAL, UNSPECIFIED, &[]), Source::Socket),
        (v2(LOCAL, TCP4, &V4_BLOCK), Source::Socket),
        (v2(LOCAL, 0xFF, &[CRC32C, 0, 4, 1, 2, 3, 4]), Source::Socket),
        (v2(PROXY, TCP4, &with_extensions.concat()), behind("203.0.113.7:40000")),
        (signed(v2(PROXY, TCP4, &with_checksum.concat())), behind("203.0.113.7:40000")),
        (
            v2(PROXY, TCP4, &[&V4_BLOCK[..], &extension(0x04, &[0; 4_081])].concat()),
            behind("203.0.113.7:40000"),
        ),
    ]
}

#[test]
fn each_kind_of_header_tells_its_source() {
    for (header, source) in good() {
        assert_eq!(parse(&header).unwrap(), Progress::Done(source), "{}", header.escape_ascii());
    }
}

#[test]
fn what_a_header_needs_is_never_more_than_what_is_left_of_it() {
    for (header, _) in good() {
        for (had, left) in (1..=header.len()).rev().enumerate() {
            match parse(&header[..had]).unwrap() {
                Progress::Needs(bytes) => assert!((1..=left).contains(&bytes), "{had} {bytes} {left}"),
                Progress::Done(_) => panic!("{} is done", header[..had].escape_ascii()),
            }
        }
    }
}

#[test]
fn what_is_no_header_is_refused_with_the_reason() {
    let checksum = |value: &[u8]| v2(PROXY, TCP4, &[&V4_BLOCK[..], &extension(CRC32C, value)].concat());
    let mut version_1_in_2 = v2(PROXY, TCP4, &V4_BLOCK);
    version_1_in_2[12] = 0x11;
    let cases = [
        (b"\x10\x0c\x00\x04MQTT".to_vec(), "no PROXY protocol header"),
        (b"\x16\x03\x01\x02\x00\x01".to_vec(), "no PROXY protocol header"),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "no PROXY protocol header"),
        (b"PROXX".to_vec(), "no PROXY protocol header"),
        (b"PROXY \r\n".to_vec(), "neither TCP4"),
        (b"PROXY UDP4 203.0.113.7 192.0.2.1 1 2\r\n".to_vec(), "neither TCP4"),
        (b"PROXY tcp4 203.0.113.7 192.0.2.1 1 2\r\n".to_vec(), "neither TCP4"),
        (b"PROXY TCP4 203.0.113.7 192.0.2.1 1\r\n".to_vec(), "two addresses"),
        (b"PROXY TCP4 203.0.113.7 192.0.2.1 1 2 3\r\n".to_vec(), "two addresses"),
        (b"PROXY TCP4  203.0.113.7 192.0.2.1 1 2\r\n".to_vec(), "two addresses"),
        (b"PROXY TCP4 203.0.113.7 192.0.2.1 1 65536\r\n".to_vec(), "two addresses"),
        (b"PROXY TCP4 203.0.113.7 192.0.2.1 +1 2\r\n".to_vec(), "two addresses"),
        (b"PROXY TCP4 203.0.113.7 192.0.2.1 01 2\r\n".to_vec(), "two addresses"),
        (b"PROXY TCP4 203.0.113.07 192.0.2.1 1 2\r\n".to_vec(), "two addresses"),
        (b"PROXY TCP4 2001:db8::7 ::1 1 2\r\n".to_vec(), "two addresses"),
        (b"PROXY TCP6 203.0.113.7 192.0.2.1 1 2\r\n".to_vec(), "two addresses"),
        (b"PROXY TCP4 \xFF\xFE 192.0.2.1 1 2\r\n".to_vec(), "line of text"),
        (format!("PROXY UNKNOWN {}\r\n", "x".repeat(92)).into_bytes()[..106].to_vec(), "within 107"),
        (version_1_in_2, "version is not 2"),
        (v2(2, TCP4, &V4_BLOCK), "neither LOCAL nor PROXY"),
        (v2(PROXY, 0x12, &V4_BLOCK), "not a stream"),
        (v2(PROXY, 0x10, &V4_BLOCK), "not a stream"),
        (v2(PROXY, TCP4, &V4_BLOCK[..11]), "too short"),
        (v2(PROXY, TCP6, &V4_BLOCK), "too short"),
        (v2(PROXY, UNIX, &[0; 215]), "too short"),
        (v2(PROXY, TCP4, &[0; 4_097]), "over 4096"),
        (v2(PROXY, TCP4, &[&V4_BLOCK[..], &[0x04]].concat()), "beyond the header's end"),
        (v2(PROXY, TCP4, &[&V4_BLOCK[..], &[0x04, 0, 2, 9]].concat()), "beyond the header's end"),
        (checksum(&[1, 2, 3, 4]), "checksum is wrong"),
        (checksum(&[1, 2, 3]), "four bytes"),
    ];
    for (header, expected) in cases {
        let error = parse(&header).expect_err(expected).to_string();
        assert!(error.contains(expected), "{}: {error}", header.escape_ascii());
    }
}

#[test]
fn a_changed_bit_is_found_by_the_checksum() {
    let (header, _) = &good()[16];
    for position in V2_FIXED_BYTES * 8..header.len() * 8 {
        let mut changed = header.clone();
        changed[position / 8] ^= 1 << (position % 8);
        // The kind of the checksum itself may be what changed: then there is none to be wrong.
        let kind = header.len() - CRC32C_BYTES - 3;
        assert!(parse(&changed).is_err() || position / 8 == kind, "bit {position}");
    }
}

/// Reads a header that comes in pieces, and the bytes left behind it.
fn read_in_pieces(stream: &[u8], cuts: &[usize]) -> (Result<Source, ProxyError>, Vec<u8>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (mut near, mut far) = tokio::io::duplex(16);
        let send = async {
            use tokio::io::AsyncWriteExt;
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            for piece in cuts.windows(2) {
                // The reader may have refused it and gone.
                let _ = far.write_all(&stream[piece[0]..piece[1]]).await;
                tokio::task::yield_now().await;
            }
            drop(far);
        };
        let receive = async {
            let source = read_source(&mut near).await;
            let mut rest = Vec::new();
            near.read_to_end(&mut rest).await.unwrap();
            (source, rest)
        };
        tokio::join!(send, receive).1
    })
}

proptest! {
    #[test]
    fn however_it_is_cut_nothing_behind_a_header_is_taken(
        which in any::<prop::sample::Index>(),
        behind in prop::collection::vec(any::<u8>(), 0..64),
        cuts in prop::collection::vec(any::<usize>(), 0..8),
    ) {
        let all = good();
        let (header, source) = &all[which.index(all.len())];
        let (read, rest) = read_in_pieces(&[header.as_slice(), &behind].concat(), &cuts);
        prop_assert_eq!(read.unwrap(), *source);
        prop_assert_eq!(rest, behind);
    }

    #[test]
    fn bytes_of_any_kind_are_answered_and_asked_for_within_bounds(bytes in prop_oneof![noise(), damaged()]) {
        let mut had = 0;
        while had <= bytes.len() {
            match parse(&bytes[..had]) {
                Ok(Progress::Needs(needs)) => {
                    prop_assert!(needs > 0 && had + needs <= V2_FIXED_BYTES + V2_VARIABLE_BYTES_MAX);
                    had += needs;
                }
                Ok(Progress::Done(_)) | Err(_) => break,
            }
        }
    }
}

/// Anything, often after a proper beginning.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let starts = vec![
        &b""[..],
        V1_START,
        b"PROXY TCP4 ",
        b"PROXY TCP6 ",
        V2_SIGNATURE,
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00",
    ];
    let tail = prop::collection::vec(any::<u8>(), 0..200);
    (prop::sample::select(starts), tail).prop_map(|(start, tail)| [start, &tail].concat())
}

/// A good header with a few bytes changed.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4);
    (prop::sample::select(good()), changes).prop_map(|((mut header, _), changes)| {
        for (position, byte) in changes {
            let position = position.index(header.len());
            header[position] = byte;
        }
        header
    })
}
