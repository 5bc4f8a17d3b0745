use super::*;
use proptest::prelude::*;
use rustls::pki_types::ServerName;
use rustls::server::Acceptor;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::sync::Arc;

/// What the TLS of the source agent says first, to somebody of this name.
fn hello_to(name: &str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

/// The name that rustls reads, an oracle of other people; `None` too when it does not like the hello.
fn oracle(mut received: &[u8]) -> Option<String> {
    let mut acceptor = Acceptor::default();
    acceptor.read_tls(&mut received).ok()?;
    let accepted = acceptor.accept().ok()??;
    accepted.client_hello().server_name().map(str::to_owned)
}

/// The same message in records of these lengths, the last one over and over.
fn in_records(hello: &[u8], lengths: &[usize]) -> Vec<u8> {
    let mut rest = &hello[5..];
    let mut lengths = lengths.iter().chain(lengths.last().into_iter().cycle());
    let mut records = Vec::new();
    while !rest.is_empty() {
        let (piece, after) = rest.split_at((*lengths.next().unwrap()).min(rest.len()));
        records.extend([22, 3, 1]);
        records.extend(u16::try_from(piece.len()).unwrap().to_be_bytes());
        records.extend(piece);
        rest = after;
    }
    records
}

#[test]
fn the_name_is_read_as_soon_as_it_is_there_and_not_before() {
    let hello = hello_to("MT01.example");
    assert_eq!(oracle(&hello).as_deref(), Some("mt01.example"));
    for length in 0..hello.len() {
        assert_eq!(server_name(&hello[..length]), Ok(None), "{length} bytes");
    }
    assert_eq!(server_name(&hello), Ok(Some("mt01.example".into())));
    let more = [&hello[..], b"whatever follows"].concat();
    assert_eq!(server_name(&more), Ok(Some("mt01.example".into())));
}

#[test]
fn what_is_no_hello_is_told_apart() {
    for (received, problem) in [
        (&b"GET / HTTP/1.1\r\n"[..], Problem::NotTls),
        (b"SSH-2.0-OpenSSH_7.2\r\n", Problem::NotTls),
        (&[22, 2], Problem::NotTls),
        (&[22, 3, 1, 0, 0], Problem::NotTls),
        (&[22, 3, 1, 0x40, 1], Problem::NotTls),
        // A ServerHello, and a message that says it is longer than all that is read.
        (&[22, 3, 1, 0, 4, 2, 0, 0, 0], Problem::NotTls),
        (&[22, 3, 1, 0, 4, 1, 0, 0x40, 1], Problem::TooLong),
        (&[22, 3, 1, 0, 4, 1, 0, 0, 0], Problem::Malformed),
    ] {
        assert_eq!(server_name(received), Err(problem), "{received:?}");
    }
    assert_eq!(server_name(&hello_to("10.0.0.5")), Err(Problem::NoName));
    let endless = in_records(&[&[0; 5][..], &[1, 0, 0x3f, 0], &[0; 0x3f00]].concat(), &[1]);
    assert_eq!(server_name(&endless[..MAX_HELLO]), Err(Problem::TooLong));
}

#[test]
fn a_name_is_there_once() {
    let name = [0, 0, 0, 6, 0, 4, 0, 0, 1, b'a'];
    let hello = |extensions: &[u8]| {
        let mut body = vec![3; 34];
        body.extend([0, 0, 2, 0x13, 1, 1, 0]);
        body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
        body.extend(extensions);
        let length = u8::try_from(body.len()).unwrap();
        [&[22, 3, 1, 0, length + 4, 1, 0, 0, length][..], &body].concat()
    };
    assert_eq!(server_name(&hello(&name)), Ok(Some("a".into())));
    assert_eq!(server_name(&hello(&name.repeat(2))), Err(Problem::Malformed));
    assert_eq!(server_name(&hello(&name[..9])), Err(Problem::Malformed));
    let two = [0, 0, 0, 10, 0, 8, 0, 0, 1, b'a', 0, 0, 1, b'b'];
    assert_eq!(server_name(&hello(&two)), Err(Problem::Malformed));
    assert_eq!(server_name(&hello(&[])), Err(Problem::NoName));
    let odd = [0, 0, 0, 6, 0, 4, 0, 0, 1, b'\n'];
    assert_eq!(server_name(&hello(&odd)), Err(Problem::NoName));
}

proptest! {
    #[test]
    fn anything_is_read_or_refused(received in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = server_name(&received);
        let _ = server_name(&[&[22, 3, 1, 0, 200, 1, 0, 0, 196][..], &received].concat());
    }

    #[test]
    fn records_of_any_length_carry_the_same_name(lengths in prop::collection::vec(1..300usize, 1..20)) {
        let records = in_records(&hello_to("mt01.example"), &lengths);
        prop_assert_eq!(server_name(&records), Ok(Some("mt01.example".into())));
        prop_assert_eq!(server_name(&records[..records.len() - 1]), Ok(None));
    }

    #[test]
    fn a_hello_that_was_changed_has_the_name_that_others_read_or_none(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)
    ) {
        let mut hello = hello_to("mt01.example");
        for (place, byte) in changes {
            let place = place.index(hello.len());
            hello[place] = byte;
        }
        // What others forgive may be refused, but nobody is taken for somebody else.
        if let Ok(Some(name)) = server_name(&hello) {
            prop_assert!(valid_host_name(&name));
            if let Some(other) = oracle(&hello) {
                prop_assert_eq!(name, other.to_ascii_lowercase());
            }
        }
    }
}
