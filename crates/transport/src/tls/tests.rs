use super::*;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

type Ca = CertifiedIssuer<'static, KeyPair>;

fn ca() -> Ca {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn identity(folder: &Path, name: &str, issuer: &Ca, trusted: &Ca, params: CertificateParams) -> TlsFiles {
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap();
    let at = |suffix: &str| folder.join(format!("{name}.{suffix}"));
    let files = TlsFiles { certificate: at("crt"), key: at("key"), ca: at("ca") };
    write(&files.certificate, &certificate.pem());
    write(&files.key, &key.serialize_pem());
    write(&files.ca, &trusted.pem());
    files
}

fn named(name: &str) -> CertificateParams {
    CertificateParams::new(vec![name.to_owned()]).unwrap()
}

async fn shake(server: &TlsFiles, client: &TlsFiles, name: &str) -> (Result<bool>, Result<()>) {
    let (server, client) = (ServerTls::load(server).unwrap(), ClientTls::load(client).unwrap());
    let (here, there) = duplex(1 << 16);
    let serve = async {
        let mut stream = server.accept(here, "the client").await?;
        let is_web01 = peer_certificate(&stream).is_some_and(|found| peer_is(&found, "web01"));
        let _ = stream.write_all(b"!").await;
        Ok(is_web01)
    };
    let connect = async {
        let mut stream = client.connect(there, name).await?;
        let read = stream.read_u8().await;
        read.map(|_| ()).map_err(|cause| Error::broken("the server", "receiving", cause))
    };
    tokio::join!(serve, connect)
}

#[tokio::test]
async fn both_ends_know_each_other_by_name() {
    let (folder, ca) = (TempDir::new().unwrap(), ca());
    let server = identity(folder.path(), "server", &ca, &ca, named("mt.example"));
    let client = identity(folder.path(), "client", &ca, &ca, named("web01"));
    let (served, connected) = shake(&server, &client, "mt.example").await;
    assert!(served.unwrap());
    connected.unwrap();
    let other = identity(folder.path(), "other", &ca, &ca, named("web02"));
    assert!(!shake(&server, &other, "mt.example").await.0.unwrap());
    let error = shake(&server, &client, "elsewhere.example").await.1.unwrap_err();
    assert!(error.to_string().contains("for another name"), "{error}");
}

#[tokio::test]
async fn a_stranger_is_refused_and_both_ends_say_why() {
    let (folder, ours, theirs) = (TempDir::new().unwrap(), ca(), ca());
    let server = identity(folder.path(), "server", &ours, &ours, named("mt.example"));
    let stranger = identity(folder.path(), "client", &theirs, &ours, named("web01"));
    let (served, connected) = shake(&server, &stranger, "mt.example").await;
    let (served, connected) = (served.unwrap_err().to_string(), connected.unwrap_err().to_string());
    assert!(served.contains("not signed by the CA in") && served.contains("server.ca"), "{served}");
    assert!(connected.contains("refused our certificate"), "{connected}");
}

#[tokio::test]
async fn an_expired_certificate_is_told_apart() {
    let (folder, ca) = (TempDir::new().unwrap(), ca());
    let mut params = named("mt.example");
    params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    let server = identity(folder.path(), "server", &ca, &ca, params);
    let client = identity(folder.path(), "client", &ca, &ca, named("web01"));
    let (served, connected) = shake(&server, &client, "mt.example").await;
    let connected = connected.unwrap_err().to_string();
    assert!(connected.contains("has expired") && connected.contains("clock"), "{connected}");
    assert!(served.unwrap_err().to_string().contains("refused our certificate"));
}

#[tokio::test]
async fn an_answer_that_is_not_tls_is_told_apart() {
    let (folder, ca) = (TempDir::new().unwrap(), ca());
    let client = identity(folder.path(), "client", &ca, &ca, named("web01"));
    let (mut here, there) = duplex(1 << 16);
    here.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    let error = ClientTls::load(&client).unwrap().connect(there, "mt.example").await.unwrap_err();
    assert!(error.to_string().contains("does not speak TLS"), "{error}");
}

#[test]
fn each_bad_file_has_its_own_message() {
    let (folder, ca) = (TempDir::new().unwrap(), ca());
    let good = identity(folder.path(), "good", &ca, &ca, named("web01"));
    let other = identity(folder.path(), "other", &ca, &ca, named("web01"));
    let message = |files: &TlsFiles| ServerTls::load(files).map(|_| ()).unwrap_err().to_string();
    let absent = folder.path().join("absent.crt");
    let text = message(&TlsFiles { certificate: absent, ..good.clone() });
    assert!(text.contains("absent.crt") && text.contains("no such file"), "{text}");
    let text = message(&TlsFiles { ca: good.key.clone(), ..good.clone() });
    assert!(text.contains("good.key as the CA") && text.contains("`BEGIN CERTIFICATE`"), "{text}");
    let text = message(&TlsFiles { key: other.key, ..good.clone() });
    assert!(text.contains("other.key") && text.contains("does not belong"), "{text}");
    let broken = folder.path().join("broken.crt");
    write(&broken, "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n");
    let text = message(&TlsFiles { certificate: broken, ..good.clone() });
    assert!(text.contains("broken.crt") && text.contains("damaged"), "{text}");
}

#[test]
fn a_key_that_others_can_read_is_warned_about() {
    let (folder, ca) = (TempDir::new().unwrap(), ca());
    let files = identity(folder.path(), "web01", &ca, &ca, named("web01"));
    assert!(ClientTls::load(&files).unwrap().warnings().is_empty());
    std::fs::set_permissions(&files.key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let tls = ClientTls::load(&files).unwrap();
    assert!(tls.warnings()[0].contains("chmod 600"), "{:?}", tls.warnings());
}
