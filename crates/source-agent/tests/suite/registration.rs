//! `mt-source register` and `unregister`, as people type them.

use configuration_server::{Config, Environment, PASSPHRASE_FILE, serve};
use registration::Identity;
use std::path::Path;
use std::process::{Command, Output};
use tokio::net::TcpListener;

fn mt_source(words: &[&str], state: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mt-source"));
    command.args(words).arg("--state-folder").arg(state).output().unwrap()
}

fn shown(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_agent_registers_and_gives_it_up_without_the_configuration_server() {
    let (cs, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let config = Config::parse(&format!("state_folder = {:?}\n", cs.path())).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving =
        tokio::spawn(serve(config, Environment::host(), listener, async move { drop(stopped.await) }));
    let passphrase = cs.path().join(PASSPHRASE_FILE);
    while !passphrase.exists() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let file = passphrase.display().to_string();
    let words = ["register", "-i", "127.0.0.1", "--port", &port, "-P", &file, "--name", "web01.example"];
    let done = mt_source(&words, state.path());
    let text = shown(&done);
    assert!(done.status.success() && text.contains("Both know the passphrase"), "{text}");
    assert!(text.contains("web01.example is registered"), "{text}");
    let identity = Identity::open(state.path()).unwrap().unwrap();
    assert_eq!(identity.registration.name, "web01.example");
    stop.send(()).unwrap();
    serving.await.unwrap().unwrap();

    let asked = mt_source(&["unregister"], state.path());
    assert!(!asked.status.success() && shown(&asked).contains("--yes"), "{}", shown(&asked));
    let gone = mt_source(&["unregister", "--yes"], state.path());
    let text = shown(&gone);
    assert!(gone.status.success() && text.contains("mt-configserver revoke web01.example"), "{text}");
    assert!(Identity::open(state.path()).unwrap().is_none());
}
