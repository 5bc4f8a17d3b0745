//! Each thing that goes wrong with a registration has a message of its own that says what to do.

use crate::support::{ConfigurationServer, folder, host, register, wait_for};
use configuration_server::Environment;
use control_api::ErrorCode;
use control_api::registration::{Host, Passphrase};
use control_api::time::{SECOND, Time};
use registration::server::Server;
use registration::{Error, Identity};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;

fn passphrase() -> Passphrase {
    Passphrase::parse("some-passphrase-123").unwrap()
}

/// What is said when a machine registers at this address.
fn said(server: &Server) -> String {
    let machine = folder();
    let error = register(server, &passphrase(), &host(1, 1), machine.path()).unwrap_err();
    assert!(std::error::Error::source(&error).is_none(), "it would be said twice");
    let error = error.to_string();
    assert_eq!(std::fs::read_dir(machine.path()).unwrap().count(), 0, "something was left behind");
    error
}

fn at(port: u16) -> Server {
    Server { address: "127.0.0.1".into(), port }
}

/// A listener whose connections are served by `serve`.
fn serving(serve: impl Fn(TcpStream) + Send + 'static) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = at(listener.local_addr().unwrap().port());
    std::thread::spawn(move || listener.incoming().flatten().for_each(serve));
    server
}

/// Answers with these bytes, whatever it is sent.
fn answering(answer: &'static [u8]) -> Server {
    serving(move |mut stream| {
        let mut request = [0; 4096];
        let _ = stream.read(&mut request);
        let _ = stream.write_all(answer);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read(&mut request);
    })
}

#[track_caller]
fn contains(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

#[test]
fn a_name_that_is_not_resolved() {
    let said = said(&Server { address: "nobody.invalid".into(), port: 443 });
    contains(&said, &["the name nobody.invalid has no address", "add it to DNS", "/etc/hosts"]);
}

#[test]
fn a_port_that_refuses() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = at(listener.local_addr().unwrap().port());
    drop(listener);
    contains(
        &said(&server),
        &["refuses connections", "systemctl start master-target-configserver", "--port"],
    );
}

#[test]
fn a_port_that_is_filtered() {
    // A queue of one that is full: the kernel drops what comes then, as a firewall does.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let wait = std::time::Duration::from_millis(300);
    let _filling: Vec<_> = (0..3).map(|_| TcpStream::connect_timeout(&address, wait)).collect();
    contains(
        &said(&at(address.port())),
        &["does not answer within 5 s", "open TCP from this machine", "firewall"],
    );
}

#[test]
fn something_that_breaks_tls() {
    let proxy = said(&answering(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"));
    contains(&proxy, &["plain HTTP", "a proxy stands in between", "(35) SSL connect error", "mtctl check"]);
    // A fatal alert: handshake_failure.
    contains(&said(&answering(&[0x15, 3, 3, 0, 2, 2, 40])), &["refuses the TLS handshake", "(35)"]);
    contains(&said(&answering(b"")), &["closes the connection during the TLS handshake", "(35)"]);
    contains(&said(&answering(b"SSH-2.0-OpenSSH_7.2p2\r\n")), &["not in TLS", "another service"]);
}

/// A web server with a certificate of its own, in the versions of TLS given.
fn web_server(
    versions: &'static [&'static rustls::SupportedProtocolVersion],
    answer: &'static [u8],
) -> Server {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
    let config = Arc::new(config);
    serving(move |mut stream| {
        let mut tls = rustls::ServerConnection::new(config.clone()).unwrap();
        let mut connection = rustls::Stream::new(&mut tls, &mut stream);
        let mut request = [0; 4096];
        let _ = connection.read(&mut request);
        let _ = connection.write_all(answer);
        tls.send_close_notify();
        let _ = tls.write_tls(&mut stream);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read(&mut request);
    })
}

#[test]
fn a_server_that_is_no_configuration_server() {
    let said =
        said(&web_server(rustls::ALL_VERSIONS, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"));
    contains(
        &said,
        &["is a web server, but no configuration server: it answers 404", "give address and port"],
    );
}

#[test]
fn tls_that_is_too_old_to_be_bound_to() {
    static OLD: [&rustls::SupportedProtocolVersion; 1] = [&rustls::version::TLS12];
    let said = said(&web_server(&OLD, b""));
    contains(&said, &["older TLS than 1.3", "something in between opens the connection"]);
}

#[test]
fn a_wrong_passphrase_and_then_a_lock_out() {
    let state = folder();
    let cs = ConfigurationServer::start(state.path());
    for _ in 0..5 {
        contains(
            &said(&cs.server),
            &["do not have the same passphrase", "passphrase show", "nothing was given away"],
        );
    }
    contains(&said(&cs.server), &["127.0.0.1: this address is locked out", "try again in", " s"]);
    // The right one does not help then.
    let Err(Error::Refused(refused)) = cs.register(&host(1, 1), folder().path()) else {
        panic!("it was let in");
    };
    assert_eq!(refused.code, ErrorCode::LockedOut);
    assert!(refused.retry_after.is_some_and(|seconds| (1..=30).contains(&seconds)));
    assert!(cs.hosts().is_empty());
    let outcomes = wait_for("the audit", || Some(cs.outcomes()).filter(|outcomes| outcomes.len() == 6));
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == "not proved").count(), 5);
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == "locked out").count(), 1);
}

#[test]
fn who_knows_the_passphrase_is_not_locked_out_by_earlier_mistakes() {
    let state = folder();
    let cs = ConfigurationServer::start(state.path());
    for round in 0..3 {
        (0..4).for_each(|_| contains(&said(&cs.server), &["passphrase"]));
        cs.register(&host(1, round), folder().path()).unwrap_or_else(|error| match error {
            // Another installation on the same hardware: refused, but the passphrase was right.
            Error::Refused(refused) if refused.code == ErrorCode::Clone => {
                cs.register(&host(1, 0), folder().path()).unwrap()
            }
            other => panic!("{other}"),
        });
    }
}

fn ahead() -> Time {
    (Environment::host().clock)() + 600 * SECOND
}

#[test]
fn clocks_that_are_too_far_apart() {
    let state = folder();
    let environment = Environment { clock: ahead, ..Environment::host() };
    let cs = ConfigurationServer::with(state.path(), 0, environment);
    let said = cs.register(&host(1, 1), folder().path()).unwrap_err().to_string();
    contains(&said, &["the clocks are too far apart", "behind", "timedatectl set-ntp true"]);
    assert_eq!(cs.outcomes(), ["refused"]);
}

#[test]
fn a_machine_that_is_newer() {
    let state = folder();
    let cs = ConfigurationServer::with(
        state.path(),
        0,
        Environment { version: "9.4.1".into(), ..Environment::host() },
    );
    let of_version = |version: &str| Host { version: version.into(), ..host(1, 1) };
    let said = cs.register(&of_version("9.5.0"), folder().path()).unwrap_err().to_string();
    contains(
        &said,
        &["it has version 9.5.0, the configuration server 9.4.1", "install release 9.4 on this machine"],
    );
    cs.register(&of_version("9.4.7"), folder().path()).unwrap();
    cs.register(&of_version("9.3.0"), folder().path()).unwrap();
}

#[test]
fn a_machine_that_is_registered_elsewhere() {
    let (one, two, machine) = (folder(), folder(), folder());
    let first = ConfigurationServer::start(one.path());
    first.register(&host(1, 1), machine.path()).unwrap();
    let port = first.server.port;
    let other = ConfigurationServer::start(two.path());
    let said = other.register(&host(1, 1), machine.path()).unwrap_err();
    assert!(matches!(said, Error::RegisteredElsewhere { .. }));
    contains(&said.to_string(), &[&format!("127.0.0.1:{port}"), "unregister", "--yes"]);
    drop((first, other));
    // Made anew under the same address.
    let anew = ConfigurationServer::with(two.path(), port, Environment::host());
    let said = anew.register(&host(1, 1), machine.path()).unwrap_err();
    assert!(matches!(said, Error::OtherAuthority { .. }));
    contains(&said.to_string(), &["it shows the authority", "at the last registration", "--yes"]);
    assert!(anew.hosts().is_empty() && anew.outcomes().is_empty());
    let order = registration::Order {
        server: &anew.server,
        passphrase: &anew.passphrase(),
        host: host(1, 1),
        state: machine.path(),
        replace: true,
    };
    registration::register(&order, &mut |_| {}).unwrap();
    registration::renew(machine.path(), host(1, 1)).unwrap();
}

/// Needs root, for a volume that is soon full.
#[test]
fn a_disk_that_is_full() {
    let (state, machine) = (folder(), folder());
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=16k", "tmpfs"])
        .arg(machine.path())
        .stderr(std::process::Stdio::null())
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        assert!(std::env::var_os("MASTER_TARGET_NO_SKIPS").is_none(), "this test needs root");
        let _ = std::io::stderr().write_all(b"SKIPPED: a test of a full volume, which needs root\n");
        return;
    }
    std::fs::write(machine.path().join("filler"), [0; 8192]).unwrap();
    let cs = ConfigurationServer::start(state.path());
    let outcome = cs.register(&host(1, 1), machine.path());
    let left = Identity::open(machine.path());
    let names = std::fs::read_dir(machine.path()).map(Iterator::count);
    let unmounted = Command::new("umount").arg(machine.path()).status();
    assert!(unmounted.unwrap().success());
    contains(&outcome.unwrap_err().to_string(), &["identity", "the disk is full: make room", "untouched"]);
    assert!(left.unwrap().is_none() && names.unwrap() == 1);
    assert!(cs.hosts().is_empty(), "the certificate was asked for although there is no room for it");
}
