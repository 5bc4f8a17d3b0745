//! Against servers in this process: a real one, and each kind of wrong one.

use super::*;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;

/// A listener whose one connection is served by `serve`, on a thread.
fn server(serve: impl FnOnce(TcpStream) + Send + 'static) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        if let Ok((stream, _)) = listener.accept() {
            serve(stream);
        }
    });
    Server { address: "127.0.0.1".into(), port }
}

/// A TLS server that answers with these bytes.
fn tls_server(answer: Vec<u8>) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let certificates = rig::Certificates::make(folder.path()).unwrap();
    let chain = vec![CertificateDer::from_pem_file(certificates.certificate("target.example")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(certificates.key("target.example")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    server(move |mut stream| {
        let mut tls = rustls::ServerConnection::new(Arc::new(config)).unwrap();
        let mut connection = rustls::Stream::new(&mut tls, &mut stream);
        let mut request = [0; 1024];
        let count = connection.read(&mut request).unwrap();
        assert!(request[..count].starts_with(b"GET /api/v1/version HTTP/1.1\r\n"));
        let _ = connection.write_all(&answer);
        let _ = connection.flush();
        tls.send_close_notify();
        let _ = tls.write_tls(&mut stream);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read(&mut request);
    })
}

fn reply(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n{body}").into_bytes()
}

const GOOD: &str = r#"{"product":"master-target configuration server","version":"9.4.0"}"#;

#[test]
fn a_configuration_server_tells_version_clock_and_certificate() {
    let answer = ask(&tls_server(reply("200 OK", GOOD)));
    assert_eq!(answer.version.unwrap().version, "9.4.0");
    let (theirs, ours) = answer.clock.unwrap();
    assert!(theirs == 784_111_777 && ours > theirs);
    assert!(answer.certificate.is_some());
}

#[test]
fn another_server_is_not_taken_for_one() {
    let other = r#"{"product":"router","version":"1.0"}"#;
    for (status, body) in
        [("404 Not Found", ""), ("200 OK", "<html>"), ("200 OK", other), ("302 Found", GOOD)]
    {
        let answer = ask(&tls_server(reply(status, body)));
        assert!(matches!(answer.version, Err(Failure::AnotherServer { .. })), "{status} {body}: {answer:?}");
        assert!(answer.clock.is_some());
    }
}

#[test]
fn an_answer_without_end_or_sense_is_refused() {
    let long = ask(&tls_server(reply("200 OK", &"x".repeat(140_000))));
    assert!(long.version.unwrap_err().to_string().contains("128 KiB"));
    let senseless = ask(&tls_server(b"220 mail\r\n\r\n".to_vec()));
    assert!(matches!(senseless.version, Err(Failure::NotHttp { .. })));
}

/// What `answer` says to whoever connects, whatever that one says.
fn speaks(answer: &'static [u8]) -> Failure {
    let server = server(move |mut stream| {
        let mut request = [0; 4096];
        let _ = stream.read(&mut request);
        let _ = stream.write_all(answer);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read(&mut request);
    });
    ask(&server).version.unwrap_err()
}

#[test]
fn what_stands_in_between_is_told_apart() {
    let proxy = speaks(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
    assert!(matches!(proxy, Failure::PlainHttp { .. }) && proxy.in_between(), "{proxy}");
    let shell = speaks(b"SSH-2.0-OpenSSH_7.2p2\r\n");
    assert!(matches!(shell, Failure::NotTls { .. }), "{shell}");
    let closed = speaks(b"");
    assert!(matches!(closed, Failure::ClosedInHandshake { .. }), "{closed}");
    // A fatal alert: handshake_failure, protocol_version.
    let alert = speaks(&[0x15, 3, 3, 0, 2, 2, 40]);
    assert!(matches!(alert, Failure::HandshakeRefused { .. }), "{alert}");
}

#[test]
fn a_port_that_refuses_and_a_name_without_address_are_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let refused = reach(&Server { address: "127.0.0.1".into(), port }).unwrap_err();
    assert!(matches!(refused, Failure::Refused { .. }), "{refused}");
    let nobody = reach(&Server { address: "nobody.invalid".into(), port: 443 }).unwrap_err();
    assert!(matches!(nobody, Failure::Unresolved { .. }), "{nobody}");
}

#[test]
fn addresses_are_read_with_and_without_a_port() {
    let cases = [
        ("cs.example", Some(("cs.example", 443))),
        ("cs.example:8443", Some(("cs.example", 8443))),
        ("10.0.0.9:1", Some(("10.0.0.9", 1))),
        ("::1", Some(("::1", 443))),
        ("[::1]:444", Some(("::1", 444))),
        ("[::1", None),
        ("https://cs.example", None),
        ("cs.example:x", None),
        ("", None),
    ];
    for (text, expected) in cases {
        let expected = expected.map(|(address, port)| Server { address: address.into(), port });
        assert_eq!(parse_address(text, 443), expected, "{text:?}");
    }
}
