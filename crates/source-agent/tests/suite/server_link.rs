//! The real agent and a real configuration server: what it tells, and bookmarks that are ordered.

use crate::configuration_server::ConfigurationServer;
use crate::process::Setup;
use control_api::registration::HostKind;
use serde_json::json;
use std::time::{Duration, Instant};
use testkit::Rng;
use tokio::task::block_in_place;

const NAME: &str = "web01.example";

fn registered(cs: &ConfigurationServer) -> Setup {
    let setup = Setup::new("none");
    cs.register(HostKind::SourceAgent, NAME, &setup.path("state"));
    setup
}

fn taken(setup: &Setup, name: &str) -> usize {
    let target = setup.target.lock().unwrap();
    target.bookmarks_taken.iter().filter(|taken| *taken == name).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registered_agent_shows_up_with_what_it_protects_and_sets_bookmarks() {
    let cs = ConfigurationServer::start().await;
    block_in_place(|| {
        let setup = registered(&cs);
        let agent = setup.start();
        setup.wait_level();
        let id = cs.host(NAME)["id"].as_str().unwrap().to_owned();
        let begun = Instant::now();
        let protection = loop {
            let host = cs.get(&format!("/api/v1/hosts/{id}"));
            if host["protection"]["state"] == "level" {
                break host["protection"].clone();
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{host:#}");
            std::thread::sleep(Duration::from_millis(50));
        };
        assert_eq!((&protection["item"], &protection["backlog_bytes"].is_u64()), (&json!("web01"), &true));
        let image = setup.path("disk.img").display().to_string();
        cs.wait("/api/v1/disks", |disk| disk["name"] == image.as_str());
        for at_rest in [false, true] {
            let name = format!("at rest: {at_rest}");
            let job = json!({ "kind": "bookmark", "name": name, "application_consistent": at_rest });
            let done = cs.end_of(&cs.order(NAME, job));
            assert_eq!(done["state"], "succeeded", "{done:#}");
            let outcome = done["report"]["outcome"].as_str().unwrap();
            assert!(outcome.ends_with("is set, and durable at the master target"), "{outcome}");
            assert_eq!(taken(&setup, &name), 1);
        }
        agent.stop();
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_goes_on_while_the_configuration_server_is_away() {
    let mut cs = ConfigurationServer::start().await;
    let setup = block_in_place(|| registered(&cs));
    let agent = setup.start();
    block_in_place(|| setup.wait_level());
    cs.wait("/api/v1/hosts", |host| host["name"] == NAME && host["state"] == "connected");
    cs.stop().await;
    block_in_place(|| {
        setup.client().write(1 << 20, &[9; 4096]).unwrap();
        setup.wait_level();
    });
    let before = control_api::time::SECOND * registration::server::seconds_now();
    cs.start_again().await;
    cs.wait("/api/v1/hosts", |host| {
        host["state"] == "connected" && host["last_heartbeat"].as_u64().is_some_and(|at| at > before)
    });
    block_in_place(|| {
        agent.stop();
        drop(setup);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bookmark_is_set_once_wherever_the_agent_is_killed() {
    let cs = ConfigurationServer::start().await;
    block_in_place(|| {
        let seed = u64::from(std::process::id()) ^ 0x626d;
        println!("seed {seed:#x}");
        let mut rng = Rng::new(seed);
        let setup = registered(&cs);
        let mut agent = setup.start();
        setup.wait_level();
        for round in 0..10u64 {
            let mut client = setup.client();
            client.write(rng.below(1000) * 4096, &[round as u8; 4096]).unwrap();
            drop(client);
            let name = format!("round {round}");
            let job = json!({ "kind": "bookmark", "name": name, "application_consistent": round % 2 == 0 });
            let id = cs.order(NAME, job);
            let record = setup.path("state").join("jobs").join(format!("{id}.json"));
            // Taken, begun, about to be set, and set.
            let wanted = ["\"attempts\":0", "\"attempts\":1", "\"note\":\"from", "\"note\":\"set"];
            let wanted = wanted[rng.below(4) as usize];
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_secs(60) {
                let text = std::fs::read_to_string(&record).unwrap_or_default();
                if text.contains(wanted) || text.contains("\"note\":\"set") {
                    break;
                }
            }
            std::thread::sleep(Duration::from_millis(rng.below(3) * rng.below(20)));
            drop(agent);
            agent = setup.start();
            let done = cs.end_of(&id);
            assert_eq!((&done["state"], taken(&setup, &name)), (&json!("succeeded"), 1), "{round}: {done:#}");
            assert!(!setup.path("frozen").exists(), "{round}: what was quiesced is thawed");
            setup.wait_level();
        }
        agent.stop();
    });
}

/// Writes all over the disk until that is refused or the agent is gone; gives the error of the last write.
fn keep_writing(setup: &Setup, seed: u64) -> std::thread::JoinHandle<Option<u32>> {
    let mut client = setup.client();
    std::thread::spawn(move || {
        let mut rng = Rng::new(seed);
        loop {
            let mut data = [0; 4096];
            rng.fill(&mut data);
            match client.write_error(rng.below(2000) * 4096, &data) {
                Ok(0) => {}
                Ok(error) => return Some(error),
                Err(_) => return None,
            }
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiesce_ends_with_everything_at_the_target_wherever_the_agent_is_killed() {
    const NOT_PERMITTED: u32 = 1;
    let cs = ConfigurationServer::start().await;
    block_in_place(|| {
        let seed = u64::from(std::process::id()) ^ 0x7175;
        println!("seed {seed:#x}");
        let mut rng = Rng::new(seed);
        let setup = registered(&cs);
        let mut agent = setup.start();
        setup.wait_level();
        for round in 0..8u64 {
            let writer = keep_writing(&setup, seed ^ round);
            let bookmark = format!("move {round}");
            let id = cs.order(NAME, json!({ "kind": "quiesce", "bookmark": bookmark }));
            // Not at all, before it is at rest, when it is, and when all is done.
            let wanted = ["", "\"beginning\"", "\"draining\"", "\"quiesced\""][round as usize % 4];
            let begun = Instant::now();
            while !wanted.is_empty() && begun.elapsed() < Duration::from_secs(60) {
                let text = std::fs::read_to_string(setup.path("state/quiescence.json")).unwrap_or_default();
                if text.contains(&bookmark) && (text.contains(wanted) || text.contains("\"quiesced\"")) {
                    break;
                }
            }
            if !wanted.is_empty() {
                std::thread::sleep(Duration::from_millis(rng.below(3) * rng.below(10)));
                drop(agent);
                agent = setup.start();
            }
            let done = cs.end_of(&id);
            assert_eq!(done["state"], "succeeded", "{round}: {done:#}");
            assert!(writer.join().unwrap().is_none_or(|error| error == NOT_PERMITTED));
            let disk = std::fs::read(setup.path("disk.img")).unwrap();
            assert!(
                setup.target.lock().unwrap().bookmarks[&bookmark][0] == disk,
                "{round}: the bookmark is the disk"
            );
            let mut client = setup.client();
            assert_eq!(client.write_error(0, &[1; 512]).unwrap(), NOT_PERMITTED, "{round}");
            assert!(!setup.path("frozen").exists(), "{round}: what was quiesced is thawed");
            cs.wait("/api/v1/hosts", |host| host["name"] == NAME);
            let unquiesced = cs.end_of(&cs.order(NAME, json!({ "kind": "unquiesce" })));
            assert_eq!(unquiesced["state"], "succeeded", "{unquiesced:#}");
            client.write(0, &[round as u8; 512]).unwrap();
            drop(client);
            setup.wait_level();
        }
        agent.stop();
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiesce_that_is_cancelled_or_stopped_lets_writes_through() {
    let cs = ConfigurationServer::start().await;
    block_in_place(|| {
        let setup = registered(&cs);
        let agent = setup.start();
        setup.wait_level();
        // A target that is away never has everything.
        setup.hold_acknowledgements(true);
        let mut client = setup.client();
        client.write(0, &[1; 4096]).unwrap();
        let state = setup.path("state/quiescence.json");
        let quiesce = |bookmark: &str| {
            let id = cs.order(NAME, json!({ "kind": "quiesce", "bookmark": bookmark }));
            rig::wait_for("the disks to be at rest", Duration::from_secs(60), || {
                let text = std::fs::read_to_string(&state).unwrap_or_default();
                Ok((text.contains("draining") && text.contains(bookmark)).then_some(()))
            })
            .unwrap();
            id
        };
        let id = quiesce("one");
        assert_ne!(client.write_error(0, &[1; 512]).unwrap(), 0);
        let replicate = cs.end_of(&cs.order(NAME, json!({ "kind": "stop-replicating" })));
        assert_eq!(replicate["state"], "failed", "{replicate:#}");
        assert_eq!(cs.send("POST", &format!("/api/v1/jobs/{id}/cancel"), None).0, 200);
        assert_eq!(cs.end_of(&id)["state"], "cancelled");
        client.write(0, &[2; 512]).unwrap();
        assert!(!setup.path("frozen").exists());
        let id = quiesce("two");
        let (freed, said) = setup.ask(&["unquiesce"]);
        assert!(freed, "{said}");
        assert_eq!(cs.end_of(&id)["state"], "cancelled");
        client.write(0, &[3; 512]).unwrap();
        // Stopped in order, it is gone on with.
        let id = quiesce("three");
        drop(client);
        agent.stop();
        setup.hold_acknowledgements(false);
        let agent = setup.start();
        assert_eq!(cs.end_of(&id)["state"], "succeeded");
        assert_ne!(setup.client().write_error(0, &[1; 512]).unwrap(), 0);
        let disk = std::fs::read(setup.path("disk.img")).unwrap();
        assert!(setup.target.lock().unwrap().bookmarks["three"][0] == disk);
        agent.stop();
    });
}
