//! Items that were taken while the daemon ran: one file for each in the state folder, with one `[[item]]` in it that is
//! read by the rules of `mtd.toml`.
//!
//! A file that cannot be used stops nothing: its item is left alone, and said to be so.

use super::reader::{Section, Source};
use super::{
    Amount, ApplicationConsistent, Config, ConfigError, Format, Item, Policy, Result, Used, item, policy,
};
use control_api::agent::{ItemOrder, ItemPolicy, TargetOrder};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// The folder in the state folder.
const FOLDER: &str = "items";
/// What the name of a file ends in, after the name of its item.
const ENDING: &str = ".toml";
/// The longest file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// The most items that are read.
const MAX_ITEMS: usize = 512;

/// An item that was taken and whose file cannot be used.
#[derive(Clone, Debug, PartialEq)]
pub struct Unreadable {
    /// Name of the item, by the name of the file.
    pub item: String,
    /// What is wrong.
    pub error: ConfigError,
}

/// The file of an item that was taken.
pub(crate) fn file_of(state_folder: &Path, item: &str) -> PathBuf {
    state_folder.join(FOLDER).join(format!("{item}{ENDING}"))
}

impl Config {
    /// Adds the items that were taken, in the order of their names.
    pub(super) fn add_taken(&mut self) {
        for name in names(&self.state_folder) {
            let path = file_of(&self.state_folder, &name);
            match read(&path, &self.standard, &self.items) {
                Ok(item) if item.name == name => self.items.push(item),
                Ok(item) => {
                    let message =
                        format!("it has the item {}: give the file the name of its item", item.name);
                    let error = ConfigError { file: path.display().to_string(), line: None, message };
                    self.unreadable.push(Unreadable { item: name, error });
                }
                Err(error) => self.unreadable.push(Unreadable { item: name, error }),
            }
        }
    }
}

fn names(state_folder: &Path) -> Vec<String> {
    let files = std::fs::read_dir(state_folder.join(FOLDER)).into_iter().flatten().flatten();
    let name_of = |file: std::fs::DirEntry| {
        let name = file.file_name().into_string().ok()?;
        name.strip_suffix(ENDING).filter(|name| super::valid_item_name(name)).map(str::to_owned)
    };
    let mut names: Vec<String> = files.filter_map(name_of).collect();
    names.sort_unstable();
    names.truncate(MAX_ITEMS);
    names
}

/// What the endings of an item's file are while it is taken, there, or let go of.
const ENDINGS: [&str; 3] = [ENDING, ".taking", ".leaving"];

/// The targets of all items that were taken, in whatever state they are, for somebody who looks for a disk that is nobody's.
///
/// # Errors
/// When a file does not tell its targets, or the folder does not tell its files: what to do about it.
pub(crate) fn targets(state_folder: &Path) -> std::result::Result<Vec<PathBuf>, String> {
    let folder = state_folder.join(FOLDER);
    let failed = |error: std::io::Error| format!("{} cannot be read: {error}", folder.display());
    let files = match std::fs::read_dir(&folder) {
        Ok(files) => files,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut targets = Vec::new();
    for file in files {
        let name = file.map_err(failed)?.file_name().to_string_lossy().into_owned();
        let ending = ENDINGS.iter().find_map(|ending| name.strip_suffix(ending));
        let Some(item) = ending.filter(|item| !item.starts_with('.')) else { continue };
        let read = read(&folder.join(&name), &Policy::standard(), &[]).map_err(|error| {
            format!("the file of the item {item} cannot be used: {error}; mend the file, or remove it when the item is given up")
        })?;
        targets.extend(read.disks.into_iter().map(|disk| disk.target));
    }
    Ok(targets)
}

/// Reads the file of one item, which may share no name and no target with `others`.
pub(crate) fn read(path: &Path, standard: &Policy, others: &[Item]) -> Result<Item> {
    let file = path.display().to_string();
    let failed = |message: String| ConfigError { file: file.clone(), line: None, message };
    let length =
        std::fs::metadata(path).map_err(|error| failed(format!("it cannot be read: {error}")))?.len();
    if length > MAX_FILE {
        return Err(failed(format!("it has {length} bytes, and no file of an item is so long")));
    }
    let text =
        std::fs::read_to_string(path).map_err(|error| failed(format!("it cannot be read: {error}")))?;
    parse(&file, &text, standard, others)
}

/// The item in `text`, which is called `file` in messages.
pub(crate) fn parse(file: &str, text: &str, standard: &Policy, others: &[Item]) -> Result<Item> {
    let source = Source { file, text };
    let document = toml::de::DeTable::parse(text).map_err(|error| {
        source.error(&error.span().unwrap_or(0..0), format!("this is not TOML: {}", error.message()))
    })?;
    let mut root = Section::root(&source, document.get_ref());
    let mut used = Used::by(others);
    let mut sections = root.tables("item")?.into_iter();
    let (Some(section), None) = (sections.next(), sections.next()) else {
        return Err(root.error("it must have one [[item]] and no other"));
    };
    let item = Item { taken: true, ..item(section, standard, &mut used)? };
    let all: Vec<Item> = others.iter().chain([&item]).cloned().collect();
    policy::check_minima(&root, &all)?;
    root.finish()?;
    Ok(item)
}

/// An item as [`parse`] reads it, without the shares of the volume that it has from the standard policy.
pub(crate) fn compose(item: &Item, standard: &Policy) -> String {
    let Item { name, source, policy, disks, .. } = item;
    let every = match policy.application_consistent {
        ApplicationConsistent::Never => "never".to_owned(),
        ApplicationConsistent::Usual(every) | ApplicationConsistent::Every(every) => seconds(every.as_secs()),
    };
    let mut text = String::from("# Written by mtd; mtctl policy and mtctl release change it.\n");
    let mut values = vec![
        ("name", name.clone()),
        ("source", source.clone()),
        ("policy.window", seconds(policy.window.as_secs())),
        ("policy.rpo_threshold", seconds(policy.rpo_threshold.as_secs())),
        ("policy.application_consistent_every", every),
    ];
    // What is as for all items goes on being so when that changes.
    let own = |amount: Option<Amount>, standard| amount.filter(|_| amount != standard).map(Amount::written);
    let min = own(policy.min_journal, standard.min_journal);
    let max = own(policy.max_journal, standard.max_journal);
    values.extend(min.map(|amount| ("policy.min_journal", amount)));
    values.extend(max.map(|amount| ("policy.max_journal", amount)));
    table(&mut text, "[[item]]", &values);
    for disk in disks {
        let mut values = vec![("id", disk.id.clone()), ("target", disk.target.display().to_string())];
        if let (Some(size), Format::Vmdk(Some(format))) = (disk.size, disk.format) {
            values.push(("size", format!("{size} B")));
            values.push(("format", format.to_string()));
            values.push(("adapter", disk.adapter.to_string()));
            values.extend(disk.uuid.map(|uuid| ("uuid", uuid.to_string())));
        }
        table(&mut text, "[[item.disks]]", &values);
    }
    text
}

/// An order in the same form: its disks with all that is needed to make those that are new.
pub(crate) fn compose_order(order: &ItemOrder) -> String {
    let ItemPolicy { window_seconds, rpo_threshold_seconds, application_consistent_every_seconds } =
        order.policy;
    let every = application_consistent_every_seconds.map_or_else(|| "never".to_owned(), seconds);
    let mut text = String::new();
    table(
        &mut text,
        "[[item]]",
        &[
            ("name", order.name.clone()),
            ("source", order.source.clone()),
            ("policy.window", seconds(window_seconds)),
            ("policy.rpo_threshold", seconds(rpo_threshold_seconds)),
            ("policy.application_consistent_every", every),
        ],
    );
    for disk in &order.disks {
        let mut values = vec![("id", disk.id.clone())];
        match &disk.target {
            TargetOrder::New { folder, format, adapter, uuid } => {
                let target = Path::new(folder).join(file_name(&order.name, &disk.id));
                values.push(("target", target.display().to_string()));
                values.push(("size", format!("{} B", disk.size)));
                values.push(("format", format.clone()));
                values.push(("adapter", adapter.clone()));
                values.extend(uuid.clone().map(|uuid| ("uuid", uuid)));
            }
            TargetOrder::Existing { target } => {
                values.push(("target", target_path(target).display().to_string()));
            }
            _ => {}
        }
        table(&mut text, "[[item.disks]]", &values);
    }
    text
}

/// Where a target is that is named by a path, or by its SCSI id.
pub(crate) fn target_path(target: &str) -> PathBuf {
    // A path stays as it is.
    Path::new("/dev/mapper").join(target)
}

/// Name of the VMDK that is made for a disk.
fn file_name(item: &str, disk: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    format!("{item}-{}.vmdk", disk.chars().map(plain).collect::<String>())
}

fn table(text: &mut String, header: &str, values: &[(&str, String)]) {
    let _ = writeln!(text, "{header}");
    for (key, value) in values {
        let _ = writeln!(text, "{key} = {}", quoted(value));
    }
}

fn seconds(seconds: u64) -> String {
    format!("{seconds} s")
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(control));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standard() -> Policy {
        Policy::standard()
    }

    fn item_of(text: &str) -> Item {
        parse("web01.toml", text, &standard(), &[]).unwrap()
    }

    fn sample(name: &str, target: &str) -> String {
        format!(
            "[[item]]\nname = \"{name}\"\nsource = \"{name}.example\"\ndisks = [{{ id = \"d\", target = {} }}]\n",
            quoted(target)
        )
    }

    #[test]
    fn what_is_composed_is_read_as_it_was() {
        let texts = [
            sample("web01", "/vmfs/a \"b\" \\c\u{7f}ä.vmdk"),
            "[[item]]\nname = \"web01\"\nsource = \"s\"\n[item.policy]\nwindow = \"2 d\"\nrpo_threshold = \"5 min\"\n\
             application_consistent_every = \"never\"\nmin_journal = \"20 %\"\nmax_journal = \"41943041 KiB\"\n\
             [[item.disks]]\nid = \"scsi0:0\"\ntarget = \"/vmfs/a.vmdk\"\n\
             format = \"vmfs-thin\"\nsize = \"40 GiB\"\nadapter = \"buslogic\"\n\
             uuid = \"60 00 c2 9f 00 00 00 00-00 00 00 00 00 00 00 01\"\n[[item.disks]]\nid = \"scsi0:1\"\n\
             target = \"/dev/mapper/36000c29f00a1\"\n"
                .to_owned(),
        ];
        for text in texts {
            let mut item = item_of(&text);
            let every = match item.policy.application_consistent {
                ApplicationConsistent::Usual(every) => ApplicationConsistent::Every(every),
                other => other,
            };
            item.policy.application_consistent = every;
            let composed = compose(&item, &standard());
            assert_eq!(item_of(&composed), item, "{composed}");
            // What it has from the standard is not written: it is that of the time of reading.
            let general = Policy { min_journal: Some(Amount::Percent(5)), ..standard() };
            let inherits = Item {
                policy: Policy { min_journal: general.min_journal, ..item.policy.clone() },
                ..item.clone()
            };
            assert_eq!(item_of(&compose(&inherits, &general)).policy.min_journal, None);
        }
    }

    #[test]
    fn the_rules_are_those_of_the_configuration() {
        let why =
            |text: &str, others: &[Item]| parse("web01.toml", text, &standard(), others).unwrap_err().message;
        let web01 = item_of(&sample("web01", "/vmfs/a.vmdk"));
        let others = std::slice::from_ref(&web01);
        assert!(why(&sample("web01", "/vmfs/b.vmdk"), others).contains("two items called \"web01\""));
        assert!(why(&sample("web02", "/vmfs/a.vmdk"), others).contains("have the same target /vmfs/a.vmdk"));
        assert!(why(&sample("../x", "/vmfs/a.vmdk"), &[]).contains("must be 1 to 64 letters"));
        assert!(why("", &[]).contains("one [[item]]"));
        let two = sample("a", "/a.vmdk") + &sample("b", "/b.vmdk");
        assert!(why(&two, &[]).contains("one [[item]]"));
        assert!(
            why(&format!("listen = \"x\"\n{}", sample("a", "/a.vmdk")), &[]).contains("unknown key listen")
        );
        let greedy =
            |name: &str| sample(name, &format!("/{name}.vmdk")) + "[item.policy]\nmin_journal = \"60 %\"\n";
        let first = item_of(&greedy("a"));
        assert!(why(&greedy("b"), std::slice::from_ref(&first)).contains("comes to 120 %"));
    }

    #[test]
    fn a_file_that_cannot_be_used_leaves_the_others() {
        let state = tempfile::tempdir().unwrap();
        let folder = state.path().join(FOLDER);
        std::fs::create_dir(&folder).unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
        write("good.toml", &sample("good", "/good.vmdk"));
        write("torn.toml", "[[item]]\nname = \"torn\"\nsou");
        write("other.toml", &sample("good2", "/other.vmdk"));
        write("file01.toml", &sample("file01", "/x.vmdk"));
        write("good.json", "{}");
        write(".half.toml.new", "[[");
        write("binary.toml", "\0\0");
        let mtd = state.path().join("mtd.toml");
        let text = format!("state_folder = {:?}\n{}", state.path(), sample("file01", "/file01.vmdk"));
        std::fs::write(&mtd, text).unwrap();
        let config = Config::load(&mtd).unwrap();
        let items: Vec<(&str, bool)> =
            config.items.iter().map(|item| (item.name.as_str(), item.taken)).collect();
        assert_eq!(items, [("file01", false), ("good", true)]);
        let unreadable: Vec<&str> = config.unreadable.iter().map(|one| one.item.as_str()).collect();
        assert_eq!(unreadable, ["binary", "file01", "other", "torn"]);
        assert!(config.unreadable[3].error.to_string().contains("torn.toml, line 3: this is not TOML"));
    }

    #[test]
    fn targets_are_those_of_all_files_or_none() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(targets(state.path()), Ok(Vec::new()));
        let folder = state.path().join(FOLDER);
        std::fs::create_dir(&folder).unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
        write("web01.toml", &sample("web01", "/dev/mapper/36000c29a"));
        write("web02.taking", &sample("web02", "/dev/mapper/36000c29b"));
        write("web03.leaving", &sample("web03", "/dev/mapper/36000c29a"));
        write(".half.toml.new", "[[");
        let mut found = targets(state.path()).unwrap();
        found.sort();
        let expected = ["a", "a", "b"].map(|digit| PathBuf::from(format!("/dev/mapper/36000c29{digit}")));
        assert_eq!(found, expected);
        for torn in ["web04.toml", "web04.taking", "web04.leaving"] {
            write(torn, "[[item]]\nname = \"torn\"\nsou");
            let error = targets(state.path()).unwrap_err();
            assert!(error.contains("the item web04") && error.contains("mend the file"), "{error}");
            std::fs::remove_file(folder.join(torn)).unwrap();
        }
        std::fs::remove_dir_all(&folder).unwrap();
        std::fs::write(&folder, "").unwrap();
        assert!(targets(state.path()).unwrap_err().contains("cannot be read"));
    }
}
