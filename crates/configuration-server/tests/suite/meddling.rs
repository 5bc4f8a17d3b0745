//! Somebody in between who does more than relay: another authority, old messages, cut connections, older TLS.

use crate::in_between::{Anyone, authority, intercepted, interceptor, relay};
use crate::support::{ConfigurationServer, folder, host, register, wait_for};
use control_api::registration::handshake::{Binding, Client, Sender};
use control_api::registration::{
    EXPORTER_LABEL, EXPORTER_LENGTH, FINISH_PATH, FinishRequest, Hex, HostKey, RegistrationRequest,
    START_PATH, StartReply, StartRequest, host_key_text,
};
use rand_core::OsRng;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SigningKey};
use registration::{Error, Identity};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn nothing_was_given(cs: &ConfigurationServer, machine: &std::path::Path) {
    assert!(cs.hosts().is_empty());
    assert_eq!(std::fs::read_dir(machine).unwrap().count(), 0);
}

/// An authority like the server's, with a certificate that it signed: chain and key.
fn another_authority() -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let ca_key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&ca_key).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = vec![control_api::registration::SERVER_NAME.to_owned()];
    let issuer = Issuer::from_params(&params, &ca_key);
    let own = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    (vec![own.der().clone(), ca.der().clone()], key)
}

#[test]
fn an_authority_of_his_own_gets_him_nowhere() {
    let (state, machine) = (folder(), folder());
    let cs = ConfigurationServer::start(state.path());
    let (chain, key) = another_authority();
    let (real, own) = (Hex(authority(&cs).to_vec()).to_string(), Hex(chain[1].to_vec()).to_string());
    // He shows it in TLS and puts it into the server's answer as well; the length of the answer changes with it.
    let swap = move |answer: Vec<u8>| {
        let text = String::from_utf8_lossy(&answer).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { return answer };
        let body = body.replace(&real, &own);
        let head: Vec<String> = head
            .split("\r\n")
            .map(|line| match line.to_lowercase().starts_with("content-length") {
                true => format!("content-length: {}", body.len()),
                false => line.to_owned(),
            })
            .collect();
        format!("{}\r\n\r\n{body}", head.join("\r\n")).into_bytes()
    };
    let between = intercepted(&cs.server, chain.clone(), key, rustls::ALL_VERSIONS, swap);
    let outcome = register(&between, &cs.passphrase(), &host(1, 1), machine.path());
    let Err(error @ Error::NotProved { .. }) = outcome else { panic!("{outcome:?}") };
    let seen = ring::digest::digest(&ring::digest::SHA256, &chain[1]);
    assert!(error.to_string().contains(&Hex::from(seen.as_ref()).to_string()), "{error}");
    nothing_was_given(&cs, machine.path());
}

#[test]
fn an_older_tls_is_noticed_before_anything_is_said() {
    let (state, machine) = (folder(), folder());
    let cs = ConfigurationServer::start(state.path());
    let (chain, key) = another_authority();
    static OLD: [&rustls::SupportedProtocolVersion; 1] = [&rustls::version::TLS12];
    let between = intercepted(&cs.server, chain, key, &OLD, |answer| answer);
    let outcome = register(&between, &cs.passphrase(), &host(1, 1), machine.path());
    assert!(matches!(outcome, Err(Error::OldTls { .. })), "{outcome:?}");
    nothing_was_given(&cs, machine.path());
    assert!(cs.outcomes().is_empty(), "the server saw a handshake");
    // A hello that asks for an older one: the server speaks none.
    let old = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&OLD)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_no_client_auth();
    let mut tls = ClientConnection::new(Arc::new(old), ServerName::try_from("cs.example").unwrap()).unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", cs.server.port)).unwrap();
    let refused = loop {
        match tls.complete_io(&mut stream) {
            Ok(_) if tls.is_handshaking() => {}
            outcome => break outcome,
        }
    };
    assert!(refused.unwrap_err().to_string().contains("ProtocolVersion"));
}

/// Connections that end after so many bytes of the server's, wherever that is: in TLS, in a message, between two.
#[test]
fn a_connection_that_is_cut_anywhere_leaves_the_old_state_or_the_new_one() {
    let state = folder();
    let cs = ConfigurationServer::start(state.path());
    let limit = Arc::new(AtomicUsize::new(usize::MAX));
    let passed = Arc::new(AtomicUsize::new(0));
    let (until, count) = (limit.clone(), passed.clone());
    let between = relay(&cs.server, move |mut near, mut far| {
        let (until, count) = (until.clone(), count.clone());
        async move {
            count.store(0, Ordering::SeqCst);
            let ((mut read_near, mut write_near), (mut read_far, mut write_far)) =
                (near.split(), far.split());
            let forth = async {
                let _ = tokio::io::copy(&mut read_near, &mut write_far).await;
            };
            let back = async {
                let mut byte = [0; 64];
                while count.load(Ordering::SeqCst) < until.load(Ordering::SeqCst) {
                    let left = (until.load(Ordering::SeqCst) - count.load(Ordering::SeqCst)).min(byte.len());
                    let Ok(length @ 1..) = read_far.read(&mut byte[..left]).await else { return };
                    if write_near.write_all(&byte[..length]).await.is_err() {
                        return;
                    }
                    count.fetch_add(length, Ordering::SeqCst);
                }
            };
            tokio::select! { () = forth => {}, () = back => {} }
        }
    });
    let whole = folder();
    register(&between, &cs.passphrase(), &host(1, 1), whole.path()).unwrap();
    let total = passed.load(Ordering::SeqCst);
    assert!(total > 2000, "{total} bytes are not all of a registration");
    let (cuts, mut half) = (24, 0);
    for cut in 0..cuts {
        let (machine, this) = (folder(), host(100 + cut, 100 + cut));
        limit.store(total * cut as usize / cuts as usize, Ordering::SeqCst);
        let outcome = register(&between, &cs.passphrase(), &this, machine.path());
        assert!(outcome.is_err(), "cut at {cut} of {cuts}");
        assert!(Identity::open(machine.path()).unwrap().is_none());
        assert_eq!(std::fs::read_dir(machine.path()).unwrap().count(), 0, "cut at {cut} of {cuts}");
        limit.store(usize::MAX, Ordering::SeqCst);
        // The server may have written it down already; it is the same host then.
        let after = register(&between, &cs.passphrase(), &this, machine.path()).unwrap();
        half += u32::from(after.known);
    }
    println!("{half} of {cuts} were known to the server already");
    let hosts = cs.hosts();
    assert_eq!(hosts.len(), 1 + cuts as usize, "a host is there twice, or not at all");
}

/// A host that keeps what it says.
struct Host {
    stream: StreamOwned<ClientConnection, TcpStream>,
    exporter: [u8; EXPORTER_LENGTH],
}

impl Host {
    fn connect(cs: &ConfigurationServer) -> Host {
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone))
            .with_no_client_auth();
        let name = ServerName::try_from("cs.example").unwrap();
        let mut tls = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut socket = TcpStream::connect(("127.0.0.1", cs.server.port)).unwrap();
        while tls.is_handshaking() {
            tls.complete_io(&mut socket).unwrap();
        }
        let exporter = tls.export_keying_material([0; EXPORTER_LENGTH], EXPORTER_LABEL, None).unwrap();
        Host { stream: StreamOwned::new(tls, socket), exporter }
    }

    fn post(&mut self, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let head = format!("POST {path} HTTP/1.1\r\nHost: cs\r\nContent-Length: {}\r\n\r\n", body.len());
        self.stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
        let (mut answer, mut part) = (Vec::new(), [0; 4096]);
        loop {
            let count = self.stream.read(&mut part).unwrap();
            answer.extend_from_slice(&part[..count]);
            let text = String::from_utf8_lossy(&answer).to_lowercase();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.split("content-length: ").nth(1).unwrap().lines().next().unwrap();
            if body.len() >= length.trim().parse().unwrap() {
                let reply = registration::server::http::parse(&answer).unwrap();
                return (reply.status, reply.body);
            }
        }
    }

    /// The first and the third message of a registration, as they were sent.
    fn register(&mut self, cs: &ConfigurationServer) -> (Vec<u8>, Vec<u8>) {
        let (client, hello) = Client::start(&mut OsRng, &cs.passphrase()).unwrap();
        let start = serde_json::to_vec(&StartRequest { hello: Hex(hello) }).unwrap();
        let (status, body) = self.post(START_PATH, &start);
        assert_eq!(status, 200);
        let reply: StartReply = serde_json::from_slice(&body).unwrap();
        let binding = Binding { exporter: self.exporter, ca: reply.ca.0 };
        let (session, proof) = client.finish(&mut OsRng, &reply.reply.0, &binding).unwrap();
        let key = KeyPair::generate().unwrap();
        let public = Hex::from(key.public_key_raw());
        let signature = Hex(key.sign(&host_key_text(&self.exporter, &public.0)).unwrap());
        let wanted = RegistrationRequest {
            host: host(1, 1),
            time: (configuration_server::Environment::host().clock)(),
            key: HostKey { public, signature },
            earlier: None,
        };
        let request = session.seal(Sender::Host, serde_json::to_string(&wanted).unwrap());
        let finish = serde_json::to_vec(&FinishRequest { proof: Hex(proof), request }).unwrap();
        assert_eq!(self.post(FINISH_PATH, &finish).0, 200);
        (start, finish)
    }
}

#[test]
fn old_messages_are_worth_nothing() {
    let state = folder();
    let cs = ConfigurationServer::start(state.path());
    let mut host = Host::connect(&cs);
    let (start, finish) = host.register(&cs);
    assert_eq!(cs.hosts().len(), 1);
    cs.revoke("mt01.example");
    // On the same connection: no handshake is open. On another one: the server's part of it is another.
    assert_eq!(host.post(FINISH_PATH, &finish).0, 400);
    assert_eq!(host.post(START_PATH, &start).0, 200);
    assert_eq!(host.post(FINISH_PATH, &finish).0, 403);
    let mut other = Host::connect(&cs);
    assert_eq!(other.post(FINISH_PATH, &finish).0, 400);
    assert_eq!(other.post(START_PATH, &start).0, 200);
    assert_eq!(other.post(FINISH_PATH, &finish).0, 403);
    let outcomes = wait_for("the audit", || Some(cs.outcomes()).filter(|all| all.len() >= 4));
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == "not proved").count(), 2);
    assert!(!cs.hosts()[0]["revoked"].is_null(), "the host is back");
}

/// What the server said to one host, said to another one.
#[test]
fn an_old_answer_is_not_believed() {
    let (state, machine) = (folder(), folder());
    let cs = ConfigurationServer::start(state.path());
    let mut host_before = Host::connect(&cs);
    let (start, _) = host_before.register(&cs);
    let (_, old) = host_before.post(START_PATH, &start);
    let (chain, key) = another_authority();
    let old = String::from_utf8(old).unwrap();
    let replay = move |answer: Vec<u8>| {
        let text = String::from_utf8_lossy(&answer).into_owned();
        if !text.contains("\"reply\"") {
            return answer;
        }
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{old}", old.len()).into_bytes()
    };
    let between = intercepted(&cs.server, chain, key, rustls::ALL_VERSIONS, replay);
    let outcome = register(&between, &cs.passphrase(), &host(2, 2), machine.path());
    assert!(matches!(outcome, Err(Error::InBetween { .. })), "{outcome:?}");
    assert_eq!(std::fs::read_dir(machine.path()).unwrap().count(), 0);
    // The plain one, for comparison, is found as well.
    let between = interceptor(&cs.server, authority(&cs));
    let outcome = register(&between, &cs.passphrase(), &host(2, 2), machine.path());
    assert!(matches!(outcome, Err(Error::InBetween { .. })), "{outcome:?}");
}
