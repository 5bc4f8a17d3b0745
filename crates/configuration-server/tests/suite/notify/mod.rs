//! Events on their way to people and programs, through real servers.

mod hostile;
mod rig;

use crate::support::wait_for;
use rig::{Cs, Files, Receiver, bodies, free_port, numbers};
use ring::hmac;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

const PASSWORD: &str = "pässword-of-the-mail-server";
const SECRET: &str = "secret-of-the-webhook-4711";

fn mail(files: &Files, port: u16, encryption: &str, to: &str, password: &str) -> String {
    let password = files.secret("mail.password", &format!("{password}\n"));
    format!(
        "portal_url = \"https://cs.example/\"\n[mail]\nserver = \"127.0.0.1:{port}\"\nencryption = \"{encryption}\"\n\
         from = \"Failback <mt@example.com>\"\nto = {to}\nuser = \"mt\"\npassword_file = {password:?}\nca_file = {:?}\n",
        files.path("certificate.pem")
    )
}

fn hook(files: &Files, name: &str, port: u16, path: &str) -> String {
    let secret = files.secret("webhook.secret", SECRET);
    format!(
        "[[webhook]]\nname = \"{name}\"\nurl = \"https://127.0.0.1:{port}/{path}\"\nsecret_file = {secret:?}\nca_file = {:?}\n",
        files.path("certificate.pem")
    )
}

fn headers<'a>(mail: &'a Value, name: &str) -> Vec<&'a str> {
    let headers = mail["headers"].as_array().unwrap().iter();
    headers.filter(|header| header[0] == name).map(|header| header[1].as_str().unwrap()).collect()
}

#[test]
fn mails_arrive_over_tls_with_a_password_one_for_many_events() {
    for encryption in ["starttls", "tls"] {
        let files = Files::new();
        let server = Receiver::mail(&files, encryption, Some(PASSWORD));
        let cs = Cs::start(&mail(
            &files,
            server.port,
            encryption,
            "[\"ops@example.com\", \"B <b@example.com>\"]",
            PASSWORD,
        ));
        cs.happens("info", "nobody wants to know this");
        cs.happens("critical", "it burns");
        let received = server.wait_for(1);
        assert_eq!(headers(&received[0], "Subject"), ["[critical] mt01: it burns"]);
        assert_eq!(headers(&received[0], "To"), ["ops@example.com, B <b@example.com>"]);
        assert_eq!(received[0]["from"], "mt@example.com");
        assert_eq!(received[0]["to"], serde_json::json!(["ops@example.com", "b@example.com"]));
        assert_eq!(received[0]["tls"], true);
        let text = received[0]["text"].as_str().unwrap();
        for part in
            ["[critical] mt01: it burns\n", "  next   a remedy\n", " UTC\n", "https://cs.example/events\n"]
        {
            assert!(text.contains(part), "{part:?} is not in: {text}");
        }
        assert!(!text.contains("nobody wants"));
        cs.happen("warning", (0..300).map(|number| format!("number {number};")));
        let received = wait_for("digests", || {
            let received = server.received();
            let told: Vec<usize> = (0..300)
                .map(|number| {
                    let line = format!("number {number};");
                    received.iter().filter(|mail| mail["text"].as_str().unwrap().contains(&line)).count()
                })
                .collect();
            told.iter().all(|count| *count == 1).then_some(received)
        });
        assert!(received.len() <= 4, "{} mails for 301 events", received.len());
        let mut ids: Vec<&str> = received.iter().flat_map(|mail| headers(mail, "Message-ID")).collect();
        ids.dedup();
        assert_eq!(ids.len(), received.len());
        assert!(received.iter().all(|mail| mail["bytes"].as_u64().unwrap() < 200_000));
        let log = cs.stop();
        no_secret_in(&log);
        assert!(log.contains("channel=\"mail\""), "the log is not all there");
    }
}

/// Neither as it is nor as it goes over the wire.
fn no_secret_in(text: &str) {
    // AUTH PLAIN, and both answers of AUTH LOGIN.
    let plain = "AG10AHDDpHNzd29yZC1vZi10aGUtbWFpbC1zZXJ2ZXI";
    for secret in [PASSWORD, "ssword-of-the-mail", SECRET, plain, "cMOkc3N3b3JkLW9mLXRoZS1tYWlsLXNlcnZlcg"] {
        assert!(!text.contains(secret), "{secret} is in: {text}");
    }
}

#[test]
fn texts_of_events_are_harmless_in_mails() {
    let files = Files::new();
    let server = Receiver::mail(&files, "starttls", Some(PASSWORD));
    let cs = Cs::start(&mail(&files, server.port, "starttls", "[\"ops@example.com\"]", PASSWORD));
    let hostile = "über\r\nBcc: all@example.com\r\n\r\n.\r\nQUIT\u{2028}\u{202e}\u{7}🔥";
    cs.happens("critical", hostile);
    cs.happens("critical", &"a".repeat(1_000_000));
    cs.happens("critical", "=?utf-8?q?not_encoded?= .");
    let received = wait_for("mails", || {
        let received = server.received();
        let all: String = received.iter().map(|mail| mail["text"].as_str().unwrap()).collect();
        all.contains("not_encoded").then_some(received)
    });
    for mail in &received {
        assert!(headers(mail, "Bcc").is_empty());
        assert_eq!(mail["to"], serde_json::json!(["ops@example.com"]));
        assert_eq!(headers(mail, "Auto-Submitted"), ["auto-generated"]);
        assert!(mail["bytes"].as_u64().unwrap() < 20_000);
        let subject = headers(mail, "Subject")[0];
        assert!(subject.chars().count() <= 160 && subject.starts_with("[critical] "), "{subject}");
    }
    let all: String = received.iter().map(|mail| mail["text"].as_str().unwrap()).collect();
    assert!(all.contains("mt01: über  Bcc: all@example.com    .  QUIT  🔥\n"), "{all}");
    assert!(all.contains("=?utf-8?q?not_encoded?= .\n"), "{all}");
}

#[test]
fn webhooks_are_signed_and_keep_the_order() {
    let files = Files::new();
    let server = Receiver::web(&files, 0);
    let cs = Cs::start(&hook(&files, "ops", server.port, "x?y=z"));
    let wanted: Vec<i64> =
        (0..230).map(|number| cs.happens("warning", &format!("number {number}"))).collect();
    wait_for("events", || (numbers(&bodies(&server.received())).len() >= 230).then_some(()));
    let received = server.received();
    assert_eq!(numbers(&bodies(&received)), wanted);
    assert!(received.len() < 30, "{} messages for 230 events", received.len());
    for message in &received {
        assert_eq!(message["path"], "/x?y=z");
        let header = |name: &str| message["headers"][format!("x-master-target-{name}")].as_str().unwrap();
        let body = message["body"].as_str().unwrap();
        let signed = format!("{}.{body}", header("timestamp"));
        let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
        let tag: String =
            hmac::sign(&key, signed.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(header("signature"), format!("v1={tag}"));
        let parsed: Value = serde_json::from_str(body).unwrap();
        assert_eq!(parsed["id"], header("delivery"));
        assert!(parsed["events"].as_array().unwrap().len() <= 100);
    }
    no_secret_in(&cs.stop());
}

#[test]
fn what_ends_an_alert_is_told_to_who_was_told_of_it() {
    let files = Files::new();
    let server = Receiver::web(&files, 0);
    let cs = Cs::start(&hook(&files, "ops", server.port, ""));
    let begun = cs.happens("warning", "it is not connected");
    let over = cs.happens("info", "no longer: it is not connected");
    cs.store()
        .execute(
            "INSERT INTO alert (key, raised, cleared, event, over) VALUES ('a', 1, 2, ?, ?)",
            [begun, over],
        )
        .unwrap();
    cs.happens("info", "dull");
    let last = cs.happens("warning", "more");
    wait_for("events", || (numbers(&bodies(&server.received())).last() == Some(&last)).then_some(()));
    let bodies = bodies(&server.received());
    assert_eq!(numbers(&bodies), [begun, over, last]);
    let ends: Vec<&Value> = bodies
        .iter()
        .flat_map(|body| body["events"].as_array().unwrap())
        .map(|event| &event["ends"])
        .collect();
    assert_eq!(ends, [&Value::Null, &Value::from(begun), &Value::Null]);
}

#[test]
fn what_happens_while_a_receiver_is_away_arrives_when_it_is_back() {
    let files = Files::new();
    let port = free_port();
    let cs = Cs::start(
        &(mail(&files, free_port(), "starttls", "[\"ops@example.com\"]", PASSWORD)
            + &hook(&files, "ops", port, "")),
    );
    let wanted: Vec<i64> = (0..3)
        .map(|number| {
            std::thread::sleep(Duration::from_millis(700));
            cs.happens("critical", &format!("number {number}"))
        })
        .collect();
    let row = |column: &str| {
        let sql = format!("SELECT CAST({column} AS TEXT) FROM delivery WHERE channel = 'ops'");
        cs.store().query_row(&sql, [], |row| row.get::<_, Option<String>>(0)).unwrap()
    };
    wait_for("two attempts in vain", || row("failures").filter(|count| count.parse::<u32>().unwrap() >= 2));
    assert!(row("why").unwrap().contains("refused"), "{:?}", row("why"));
    let server = Receiver::web(&files, port);
    wait_for("events", || (numbers(&bodies(&server.received())).len() >= 3).then_some(()));
    assert_eq!(numbers(&bodies(&server.received())), wanted);
    // Each message that was repeated is in the log, and one channel that fails is nothing to the other.
    wait_for("the row", || (row("failures").as_deref() == Some("0")).then_some(()));
    assert_eq!(row("event"), Some(wanted[2].to_string()));
    let log = cs.stop();
    assert!(log.contains("not delivered: https://127.0.0.1"), "{log}");
    no_secret_in(&log);
}

#[test]
fn a_server_that_is_killed_loses_nothing_and_repeats_messages_as_they_were() {
    let files = Files::new();
    let server = Receiver::web(&files, 0);
    let mut cs = Cs::prepare(&hook(&files, "ops", server.port, ""));
    cs.run();
    let mut wanted = Vec::new();
    for round in 0..8 {
        for number in 0..25 {
            wanted.push(cs.happens("warning", &format!("number {round}.{number}")));
            std::thread::sleep(Duration::from_millis(10));
        }
        // At another moment of the delivery each time.
        std::thread::sleep(Duration::from_millis(round * 41));
        cs.sigkill();
        wanted.push(cs.happens("warning", "while it is away"));
        cs.run();
    }
    let last = cs.happens("warning", "the last one");
    wanted.push(last);
    wait_for("events", || numbers(&bodies(&server.received())).contains(&last).then_some(()));
    let bodies = bodies(&server.received());
    let mut first_arrivals = Vec::new();
    for number in numbers(&bodies) {
        if !first_arrivals.contains(&number) {
            first_arrivals.push(number);
        }
    }
    assert_eq!(first_arrivals, wanted, "an event is missing or out of its order");
    let mut by_id: BTreeMap<&str, &Value> = BTreeMap::new();
    for body in &bodies {
        let before = by_id.insert(body["id"].as_str().unwrap(), body);
        assert!(before.is_none_or(|before| before == body), "a message was repeated, but not as it was");
    }
    // No event is in two messages that are not the same.
    let distinct: Vec<Value> = by_id.into_values().cloned().collect();
    assert_eq!(numbers(&distinct).len(), wanted.len());
}

#[test]
fn the_command_tells_what_came_of_each_channel() {
    let files = Files::new();
    let (mails, hooks) = (Receiver::mail(&files, "starttls", Some(PASSWORD)), Receiver::web(&files, 0));
    let cs = Cs::start(
        &(mail(&files, mails.port, "starttls", "[\"ops@example.com\"]", PASSWORD)
            + &hook(&files, "good", hooks.port, "")
            + &hook(&files, "moved", hooks.port, "moved")
            + &hook(&files, "no", hooks.port, "no")
            + &hook(&files, "away", free_port(), "")),
    );
    let (good, said) = cs.notify_test(&["--channel", "good"]);
    assert!(
        good && said == format!("good: a test message was sent to https://127.0.0.1:{}\n", hooks.port),
        "{said}"
    );
    let (good, said) = cs.notify_test(&[]);
    assert!(!good);
    for part in [
        "mail: a test message was sent to ops@example.com through 127.0.0.1:",
        "answers 307; redirects are not followed",
        "answers 403: not you [31m  and not me; look whether the receiver has the secret",
        "away: failed: https://127.0.0.1:",
        "3 of 5 channels failed",
    ] {
        assert!(said.contains(part), "{part:?} is not in: {said}");
    }
    no_secret_in(&said);
    let paths: Vec<Value> = hooks.received().into_iter().map(|message| message["path"].clone()).collect();
    assert_eq!(paths, ["/", "/", "/moved", "/no"], "a redirect was followed");
    assert_eq!(bodies(&hooks.received())[0]["test"], true);
    assert_eq!(headers(&mails.received()[0], "Subject"), ["[info] configuration server: this is a test"]);
    let (good, said) = cs.notify_test(&["--channel", "none"]);
    assert!(
        !good && said.contains("none: there is no such channel; there is mail, good, moved, no, away"),
        "{said}"
    );
    drop(cs);
    let cs = Cs::start("");
    let (good, said) = cs.notify_test(&[]);
    assert!(!good && said.contains("no channel is configured; write [mail]"), "{said}");
}

#[test]
fn a_wrong_password_and_a_wrong_certificate_are_named_and_nothing_is_sent() {
    let (files, others) = (Files::new(), Files::new());
    let (mails, hooks) = (Receiver::mail(&files, "starttls", Some(PASSWORD)), Receiver::web(&files, 0));
    let said_by = |channels: &str| {
        let cs = Cs::start(channels);
        let (good, said) = cs.notify_test(&[]);
        assert!(!good, "{said}");
        no_secret_in(&said);
        said
    };
    let to = "[\"ops@example.com\"]";
    let said = said_by(&mail(&files, mails.port, "starttls", to, "not-the-pässword-of-the-mail-server"));
    assert!(said.contains("refuses user or password (it answers 535); correct user in [mail]"), "{said}");
    assert!(!said.contains("not-the-"), "{said}");
    // What is checked with other authorities.
    let wrong = mail(&others, mails.port, "starttls", to, PASSWORD) + &hook(&others, "ops", hooks.port, "");
    let said = said_by(&wrong);
    assert_eq!(said.matches("is not to be trusted: ").count(), 2, "{said}");
    // The certificate is right, and of another name.
    let named = mail(&files, mails.port, "starttls", to, PASSWORD) + &hook(&files, "ops", hooks.port, "");
    let said = said_by(
        &named
            .replace("server = \"127.0.0.1", "server = \"localhost")
            .replace("https://127.0.0.1", "https://localhost"),
    );
    assert_eq!(said.matches("is not to be trusted: NotValidForName").count(), 2, "{said}");
    // The authorities of this machine do not know it.
    let own = named.lines().filter(|line| !line.starts_with("ca_file")).collect::<Vec<_>>().join("\n");
    let said = said_by(&own);
    let untrusted =
        said.matches("UnknownIssuer").count() + said.matches("this machine knows no authority").count();
    assert_eq!(untrusted, 2, "{said}");
    assert!(mails.received().is_empty() && hooks.received().is_empty(), "something was sent");
    // Files that are not as they have to be, already when the configuration is checked.
    std::fs::remove_file(files.path("mail.password")).unwrap();
    let cs = Cs::prepare(&named);
    let checked = cs.command(&["--check"]).output().unwrap();
    let said = String::from_utf8(checked.stderr).unwrap();
    assert!(
        !checked.status.success()
            && said.contains("channel mail: password_file")
            && said.contains("chmod 600"),
        "{said}"
    );
}

#[test]
fn without_starttls_and_with_refused_recipients() {
    let files = Files::new();
    let plain = Receiver::mail(&files, "none", None);
    let cs = Cs::start(&mail(&files, plain.port, "starttls", "[\"ops@example.com\"]", PASSWORD));
    let (good, said) = cs.notify_test(&[]);
    assert!(!good && said.contains("does not offer STARTTLS, so nothing was sent"), "{said}");
    assert!(plain.received().is_empty());
    let files = Files::new();
    let server = Receiver::mail(&files, "tls", Some(PASSWORD));
    let said_for = |to: &str| {
        let cs = Cs::start(&mail(&files, server.port, "tls", to, PASSWORD));
        cs.notify_test(&[]).1
    };
    let said = said_for("[\"refused@example.com\"]");
    assert!(
        said.contains("failed: 127.0.0.1:") && said.contains("550 5.1.1 no such user here [31m"),
        "{said}"
    );
    let said = said_for("[\"ops@example.com\", \"later@example.com\"]");
    assert!(said.contains("450 4.2.1 come back later"), "{said}");
    assert!(server.received().is_empty());
    let said = said_for("[\"refused@example.com\", \"ops@example.com\"]");
    assert!(said.contains("sent, but not to all: ") && said.contains("correct to in [mail]"), "{said}");
    assert_eq!(server.received()[0]["to"], serde_json::json!(["ops@example.com"]));
}
