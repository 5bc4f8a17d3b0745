use super::*;

const SMALLEST: &str = r#"
[[item]]
name = "web01"
source = "web01.example"
disks = [{ id = "disk0", target = "/vmfs/web01.vmdk" }]
"#;

fn parse(text: &str) -> Result<Config> {
    Config::parse("mtd.toml", text)
}

#[test]
fn the_sample_parses_and_shows_every_key_and_every_default() {
    let sample = include_str!("../../../../packaging/mtd.toml");
    assert!(parse(sample).unwrap().items.is_empty(), "the sample must start without an item");
    let uncommented: String = sample.lines().map(|line| format!("{}\n", uncomment(line))).collect();
    let mut full = parse(&uncommented).unwrap();
    let servers = [full.configuration_server.take(), full.process_server.take()];
    assert_eq!(servers.map(|server| server.unwrap().port), [CONTROL_PORT, DATA_PORT]);
    assert_eq!(full.replicas.take().unwrap(), Path::new("/vmfs/volumes/datastore1"));
    let defaults = parse(SMALLEST).unwrap();
    full.standard = defaults.standard.clone();
    assert_eq!(Config { items: Vec::new(), ..full.clone() }, Config { items: Vec::new(), ..defaults });
    let item = &full.items[0];
    assert_eq!(item.disks[0].format, Format::Vmdk(Some(vmdk::Format::Vmfs)));
    for key in [
        "listen",
        "socket",
        "state_folder",
        "log",
        "tls",
        "certificate",
        "key",
        "ca",
        "retention",
        "folder",
        "trial_folder",
        "replicas",
        "policy",
        "window",
        "rpo_threshold",
        "application_consistent_every",
        "min_journal",
        "max_journal",
        "limits",
        "connections",
        "connections_per_address",
        "handshake_timeout",
        "hello_timeout",
        "jobs",
        "configuration_server",
        "address",
        "port",
        "process_server",
        "item",
        "name",
        "source",
        "disks",
        "id",
        "target",
        "format",
        "size",
        "adapter",
    ] {
        assert!(sample.contains(&format!("{key} = ")) || sample.contains(&format!("{key}]")), "{key}");
    }
}

/// `#key = value` and `#[table]` are settings switched off; `# words` is prose.
fn uncomment(line: &str) -> &str {
    line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line)
}

#[test]
fn defaults_are_those_of_the_documentation() {
    let config = parse(SMALLEST).unwrap();
    assert_eq!(config.listen.port(), 9443);
    assert_eq!(config.socket, Path::new("/run/master-target/mtd.sock"));
    assert_eq!(config.retention.folder, Path::new("/mnt/retention"));
    let item = &config.items[0];
    assert_eq!((item.policy.window, item.policy.rpo_threshold), (DAY, 15 * MINUTE));
    assert_eq!(item.disks[0].format, Format::Vmdk(None));
    assert_eq!(item.disks[0].adapter, AdapterType::LsiLogic);
}

#[test]
fn servers_are_there_when_their_address_is() {
    let text = "[configuration_server]\naddress = \"cs.example\"\n[process_server]\nport = 9444\n";
    let config = parse(text).unwrap();
    assert_eq!(config.configuration_server, Some(Server { address: "cs.example".into(), port: 443 }));
    assert_eq!(config.process_server, None);
    let error = parse("[process_server]\naddress = \"http://x\"").unwrap_err().to_string();
    assert!(error.contains("process_server.address must be a DNS name or an IP address"), "{error}");
}

#[test]
fn an_item_may_have_a_policy_of_its_own() {
    let text = format!("[policy]\nwindow = \"2 d\"\n{SMALLEST}[item.policy]\nrpo_threshold = \"5 min\"\n");
    let policy = &parse(&text).unwrap().items[0].policy;
    assert_eq!((policy.window, policy.rpo_threshold), (2 * DAY, 5 * MINUTE));
}

#[test]
fn shares_of_the_volume_are_sizes_or_hundredths_of_it() {
    let policy =
        |text: &str| parse(&format!("[policy]\n{text}\n{SMALLEST}")).unwrap().items[0].policy.clone();
    let shares = policy("min_journal = \"5%\"\nmax_journal = \"200 GiB\"");
    assert_eq!(shares.min_journal, Some(Amount::Percent(5)));
    assert_eq!(shares.max_journal, Some(Amount::Bytes(200 << 30)));
    assert_eq!(Amount::Percent(5).of(1000), 50);
    assert_eq!(Amount::Percent(100).of(u64::MAX), u64::MAX);
    // Which is more depends on the volume.
    policy("min_journal = \"50 %\"\nmax_journal = \"1 GiB\"");
}

#[test]
fn no_more_of_the_volume_is_promised_than_there_is() {
    let item = |name: &str, least: &str| {
        let item = SMALLEST.replace("web01", name);
        format!("{item}[item.policy]\nmin_journal = \"{least}\"\n")
    };
    parse(&(item("a1", "60 %") + &item("a2", "40 %") + &item("a3", "1 GiB"))).unwrap();
    let message = parse(&(item("a1", "60 %") + &item("a2", "41 %"))).unwrap_err().message;
    assert!(message.contains("101 %") && message.contains("(a1 60 %, a2 41 %)"), "{message}");
}

#[test]
fn an_alert_of_application_consistent_points_is_usual_wanted_or_off() {
    let policy =
        |text: &str| parse(&format!("[policy]\n{text}\n{SMALLEST}")).unwrap().items[0].policy.clone();
    let every = |text: &str| policy(text).application_consistent;
    assert_eq!(every(""), ApplicationConsistent::Usual(60 * MINUTE));
    assert_eq!(every("application_consistent_every = \"60 min\""), ApplicationConsistent::Every(60 * MINUTE));
    assert_eq!(every("application_consistent_every = \"never\""), ApplicationConsistent::Never);
}

/// Each thing that can be wrong, and what is said about it.
#[test]
fn every_bad_key_and_value_is_named_with_its_line() {
    let cases = [
        (
            "listen = 9443",
            "line 1: listen must be an address and port such as \"0.0.0.0:9443\" or \"[::]:9443\", not the number 9443",
        ),
        (
            "listen = \"9443\"",
            "line 1: listen must be an address and port such as \"0.0.0.0:9443\" or \"[::]:9443\", not the text \"9443\"",
        ),
        (
            "\nlisten_address = \"x\"",
            "line 2: unknown key listen_address: known here are listen, socket, state_folder, log, tls, retention, replicas, limits, configuration_server, process_server, policy, item",
        ),
        ("lisen = \"x\"", "line 1: unknown key lisen: did you mean listen?"),
        ("socket = \"mtd.sock\"", "line 1: socket must be an absolute path, not the text \"mtd.sock\""),
        (
            "log = \"=\"",
            "line 1: log must be a level (error, warn, info, debug, trace) or a list such as \"info,daemon=debug\", not the text \"=\"",
        ),
        ("tls = 1", "line 1: tls must be a table, [tls], not the number 1"),
        ("[tls]\n\ncert = \"/x\"", "line 3: unknown key tls.cert: known here are certificate, key, ca"),
        (
            "[retention]\ntrial_folder = \"yes\"",
            "line 2: retention.trial_folder must be true or false, not the text \"yes\"",
        ),
        (
            "[replicas]\nfolder = \"replicas\"",
            "line 2: replicas.folder must be an absolute path, not the text \"replicas\"",
        ),
        (
            "[policy]\nwindow = \"24\"",
            "line 2: policy.window must be a duration between 1 min and 365 d, such as \"15 min\" (s, min, h, d, weeks), not the text \"24\"",
        ),
        (
            "[policy]\nwindow = \"10 s\"",
            "line 2: policy.window must be a duration between 1 min and 365 d, such as \"15 min\" (s, min, h, d, weeks), not the text \"10 s\"",
        ),
        (
            "[policy]\nrpo = \"10 s\"",
            "line 2: unknown key policy.rpo: known here are min_journal, max_journal, window, rpo_threshold, application_consistent_every",
        ),
        (
            "[policy]\nmax_journal = \"1 MiB\"",
            "line 2: policy.max_journal must be a share of the retention volume such as \"20 %\", or a size of at least 64 MiB such as \"40 GiB\" (B, KiB, MiB, GiB, TiB), not the text \"1 MiB\"",
        ),
        (
            "[policy]\nmin_journal = \"101 %\"",
            "line 2: policy.min_journal must be a share of the retention volume such as \"20 %\", or a size of at least 64 MiB such as \"40 GiB\" (B, KiB, MiB, GiB, TiB), not the text \"101 %\"",
        ),
        (
            "[policy]\nmin_journal = \"2 GiB\"\nmax_journal = \"1 GiB\"",
            "line 3: min_journal (2 GiB) is more than max_journal (1 GiB): make it smaller, or max_journal larger",
        ),
        (
            "[policy]\napplication_consistent_every = \"0\"",
            "line 2: policy.application_consistent_every must be a duration between 1 min and 7 d, such as \"60 min\" (s, min, h, d, weeks), or \"never\", not the text \"0\"",
        ),
        (
            "[limits]\nconnections = 0",
            "line 2: limits.connections must be a whole number between 1 and 4096, not the number 0",
        ),
        (
            "[limits]\njobs = true",
            "line 2: limits.jobs must be a whole number between 1 and 256, not a value of type boolean",
        ),
        (
            "[item]\nname = \"a\"",
            "line 1: item must be an array of tables, [[item]], not a value of type table",
        ),
        ("[[item]]\nsource = \"a\"", "line 1: item.name is missing: give the name of the item"),
        (
            "[[item]]\nname = \"../x\"",
            "line 2: item.name \"../x\" must be 1 to 64 letters, digits, dots, dashes or underscores, a letter or digit first",
        ),
        (
            "[[item]]\nname = \"a\"\nsource = \"a b\"",
            "line 3: item.source \"a b\" must be the name (DNS) that the certificate of its source carries",
        ),
        (
            "[[item]]\nname = \"a\"\nsource = \"a\"",
            "line 1: item \"a\" has 0 disks: give it 1 to 60, as disks = [{ id = \"…\", target = \"…\" }]",
        ),
        ("x = [", "line 1: this is not TOML: unclosed array, expected `]`"),
    ];
    for (text, expected) in cases {
        let error = parse(text).unwrap_err().to_string();
        assert_eq!(error, format!("mtd.toml, {expected}"), "for {text}");
    }
}

#[test]
fn every_bad_disk_is_named() {
    let cases = [
        (r#"{ target = "/a" }"#, "item.disks.id is missing: give the id of the disk in the change stream"),
        (
            r#"{ id = "a/b", target = "/a" }"#,
            "disk id \"a/b\" must be 1 to 64 printable characters without / and blanks",
        ),
        (r#"{ id = "d" }"#, "item.disks.target is missing: give an absolute path"),
        (
            r#"{ id = "d", target = "a.vmdk" }"#,
            "item.disks.target must be an absolute path, not the text \"a.vmdk\"",
        ),
        (
            r#"{ id = "d", target = "/a" }, { id = "d", target = "/b" }"#,
            "item \"a\" has two disks with the id \"d\"",
        ),
        (
            r#"{ id = "d", target = "/a" }, { id = "e", target = "/a" }"#,
            "disk \"e\" of item \"a\" and disk \"d\" of item \"a\" have the same target /a: each needs its own",
        ),
        (
            r#"{ id = "d", target = "/a", format = "monolithicSprase" }"#,
            "the format \"monolithicSprase\" of disk \"d\" of item \"a\" cannot hold a replica: did you mean monolithicSparse?",
        ),
        (
            r#"{ id = "d", target = "/a", format = "streamOptimized" }"#,
            "the format \"streamOptimized\" of disk \"d\" of item \"a\" cannot hold a replica: give raw, monolithicFlat, monolithicSparse, twoGbMaxExtentFlat, twoGbMaxExtentSparse, vmfs or vmfs-thin",
        ),
        (
            r#"{ id = "d", target = "/a.vmdk", size = "1 GiB" }"#,
            "disk \"d\" of item \"a\" has a size but no format: give raw, monolithicFlat, monolithicSparse, twoGbMaxExtentFlat, twoGbMaxExtentSparse, vmfs or vmfs-thin",
        ),
        (
            r#"{ id = "d", target = "/a", size = "513 B" }"#,
            "the size of disk \"d\" of item \"a\" must be a multiple of 512 bytes",
        ),
        (
            r#"{ id = "d", target = "/a", adapter = "scsi" }"#,
            "item.disks.adapter must be lsilogic, buslogic, ide or legacyESX, not the text \"scsi\"",
        ),
        (
            r#"{ id = "d", target = "/a", formt = "raw" }"#,
            "unknown key item.disks.formt: did you mean format?",
        ),
    ];
    for (disks, expected) in cases {
        let text = format!("[[item]]\nname = \"a\"\nsource = \"a\"\ndisks = [{disks}]\n");
        let error = parse(&text).unwrap_err();
        assert_eq!(error.message, expected, "for {disks}");
        assert!(error.line == Some(4), "line {:?} for {disks}", error.line);
    }
}

#[test]
fn two_items_share_neither_name_nor_target() {
    let again = SMALLEST.to_string() + SMALLEST;
    assert_eq!(parse(&again).unwrap_err().message, "there are two items called \"web01\"");
    let error = parse(&(SMALLEST.to_string() + &SMALLEST.replace("web01\"\ns", "web02\"\ns"))).unwrap_err();
    assert!(error.message.contains("have the same target /vmfs/web01.vmdk"), "{error}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error = Config::load(Path::new("/nonexistent/mtd.toml")).unwrap_err().to_string();
    assert!(error.starts_with("/nonexistent/mtd.toml: cannot read the configuration"), "{error}");
}
