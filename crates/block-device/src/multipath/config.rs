//! multipath's own configuration: what in it works against the file of this program.
//!
//! Files are read as multipath reads them (its parser goes line by line): /etc/multipath.conf, then the files of
//! /etc/multipath/conf.d that end in `.conf`, in the order of their names, and of a setting that occurs more than once
//! the last counts. A line is `keyword value`, `section {` or `}`; what follows an opening brace on its line is not
//! read. Some keywords are both: `protocol` is a section in `overrides`, and takes a value in `blacklist`. `#` and `!` begin a comment outside of quotes; a value is one word, or everything in double quotes.
//!
//! Lists of the blacklist are joined over all files. A disk is refused by the first of property, device node, vendor
//! and product, protocol and WWID that refuses it, so an exception by WWID does not help against the others.

use super::fragment;
use crate::scsi_id::ScsiId;
use crate::system::System;
use serde::Serialize;

/// Deepest nesting that means anything is 2.
const MAX_DEPTH: usize = 8;

/// Most files of the folder that are looked at.
const MAX_FILES: usize = 128;

/// Most conflicts that are listed.
const MAX_CONFLICTS: usize = 64;

const MAIN: &str = "/etc/multipath.conf";

/// Keywords that begin a section, unless a value follows.
const SECTIONS: [&str; 9] = [
    "defaults",
    "blacklist",
    "blacklist_exceptions",
    "devices",
    "overrides",
    "multipaths",
    "device",
    "multipath",
    "protocol",
];

/// A setting of multipath that works against this program's file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Conflict {
    /// The file that has it.
    pub file: String,
    /// Line in it, from 1; 0 when the whole file is meant.
    pub line: u32,
    /// What it does.
    pub what: String,
    /// What to do about it.
    pub advice: String,
}

/// A name that is given to the map of one disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    /// The name.
    pub name: String,
    /// The setting that gives it.
    pub conflict: Conflict,
}

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) line: u32,
    /// Names of the sections around it, outermost first.
    pub(super) sections: Vec<String>,
    /// Which section of that name it is, so that a multipath's wwid and alias are known to belong together.
    pub(super) group: u32,
    pub(super) keyword: String,
    pub(super) value: String,
}

impl Setting {
    fn is_in(&self, sections: &[&str]) -> bool {
        self.sections == sections
    }
}

/// The settings of a file, and whether its sections are closed.
pub(super) fn settings(text: &str) -> Vec<Setting> {
    let mut sections: Vec<String> = Vec::new();
    let (mut found, mut group) = (Vec::new(), 0);
    for (line, content) in (1..).zip(text.lines()) {
        let words = words(content);
        let Some(keyword) = words.first() else { continue };
        if keyword == "}" {
            sections.pop();
        } else if opens_section(&words) && sections.len() < MAX_DEPTH {
            sections.push(keyword.clone());
            group += 1;
        } else {
            let value = words.get(1).cloned().unwrap_or_default();
            found.push(Setting { line, sections: sections.clone(), group, keyword: keyword.clone(), value });
        }
    }
    found
}

/// The opening brace may stand on the next line.
fn opens_section(words: &[String]) -> bool {
    let has_value = words.get(1).is_some_and(|word| word != "{");
    words.first().is_some_and(|keyword| SECTIONS.contains(&keyword.as_str())) && !has_value
}

/// The words of a line; a quoted text is one.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut left = line;
    loop {
        left = left.trim_start_matches(|c: char| c.is_whitespace() || !c.is_ascii());
        let Some(first) = left.chars().next() else { return words };
        match first {
            '#' | '!' => return words,
            '{' | '}' => {
                words.push(first.to_string());
                left = &left[1..];
            }
            '"' => {
                let (word, rest) = quoted(&left[1..]);
                words.push(word);
                left = rest;
            }
            _ => {
                let ends = |c: char| c.is_whitespace() || !c.is_ascii() || "!#{}\"".contains(c);
                let (word, rest) = left.split_at(left.find(ends).unwrap_or(left.len()));
                words.push(word.to_owned());
                left = rest;
            }
        }
    }
}

/// The text up to the closing quote, and what follows it. Two quotes stand for one.
fn quoted(text: &str) -> (String, &str) {
    let mut word = String::new();
    let mut left = text;
    loop {
        let Some(end) = left.find('"') else { return (word + left, "") };
        word.push_str(&left[..end]);
        left = &left[end + 1..];
        match left.strip_prefix('"') {
            Some(rest) => {
                word.push('"');
                left = rest;
            }
            None => return (word, left),
        }
    }
}

/// The files of others, in the order in which multipath reads them, and whether it comes to them after ours; and whether
/// there are more than are looked at.
fn files(system: &System) -> (Vec<(String, bool)>, bool) {
    let mut names = system.names(fragment::FOLDER);
    names.retain(|name| name.ends_with(".conf") && name != fragment::NAME);
    let too_many = names.len() > MAX_FILES;
    names.truncate(MAX_FILES);
    let in_folder =
        names.iter().map(|name| (format!("{}/{name}", fragment::FOLDER), name.as_str() > fragment::NAME));
    (std::iter::once((MAIN.to_owned(), false)).chain(in_folder).collect(), too_many)
}

/// Names other than its SCSI id that are given to the map of a disk, in the order in which they are read.
pub(super) fn aliases(system: &System, id: &ScsiId) -> Vec<Alias> {
    let wanted = std::slice::from_ref(id);
    let mut found = Vec::new();
    for (file, _) in files(system).0 {
        let Ok(bytes) = system.bytes(&file) else { continue };
        let all = settings(&String::from_utf8_lossy(&bytes));
        for setting in all.iter().filter(|setting| setting.keyword == "alias") {
            if let Some((what, advice)) = of_a_wanted_disk(setting, &all, wanted) {
                let conflict =
                    Conflict { file: file.clone(), line: setting.line, what, advice: advice.to_owned() };
                found.push(Alias { name: setting.value.clone(), conflict });
            }
        }
    }
    found
}

/// What works against this program's file, whether it is there or not.
pub(super) fn conflicts(system: &System, wanted: &[ScsiId]) -> Vec<Conflict> {
    let (files, too_many) = files(system);
    let mut found = Vec::new();
    for (file, after_ours) in files {
        match system.bytes(&file) {
            Ok(bytes) => of_file(&file, &String::from_utf8_lossy(&bytes), after_ours, wanted, &mut found),
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {}
            Err(cause) => found.push(Conflict {
                file,
                line: 0,
                what: format!("it cannot be read ({cause}), so it is not known what it changes"),
                advice: "make it readable, or remove it".into(),
            }),
        }
    }
    if too_many {
        found.push(Conflict {
            file: fragment::FOLDER.into(),
            line: 0,
            what: format!("it has more than {MAX_FILES} files; the others were not looked at"),
            advice: "put these settings into fewer files".into(),
        });
    }
    found.truncate(MAX_CONFLICTS);
    found
}

fn of_file(file: &str, text: &str, after_ours: bool, wanted: &[ScsiId], found: &mut Vec<Conflict>) {
    let settings = settings(text);
    for setting in &settings {
        let problem = naming(setting, after_ours)
            .or_else(|| refusing(setting))
            .or_else(|| of_a_wanted_disk(setting, &settings, wanted));
        if let Some((what, advice)) = problem {
            found.push(Conflict {
                file: file.to_owned(),
                line: setting.line,
                what,
                advice: advice.to_owned(),
            });
        }
    }
}

/// What it does, and what to do about it.
type Problem = Option<(String, &'static str)>;

/// Settings that give maps other names, or keep single paths from getting one.
fn naming(setting: &Setting, after_ours: bool) -> Problem {
    let (keyword, value) = (setting.keyword.as_str(), setting.value.as_str());
    let in_defaults = setting.is_in(&["defaults"]);
    let stronger = setting.is_in(&["overrides"]) || setting.is_in(&["devices", "device"]);
    match keyword {
        "user_friendly_names" if is_yes(value) && (stronger || (in_defaults && after_ours)) => Some((
            "user_friendly_names yes names maps mpatha, mpathb, … instead of by SCSI id".into(),
            "set it to no, or remove the line",
        )),
        "find_multipaths" if in_defaults && after_ours && !["no", "off"].contains(&value) => Some((
            format!("find_multipaths {value} keeps a disk with a single path from getting a map"),
            "set it to no, or remove the line",
        )),
        "config_dir" if in_defaults && value.trim_end_matches('/') != fragment::FOLDER => Some((
            format!("config_dir {value} makes multipath not read {}", fragment::FOLDER),
            "remove the line",
        )),
        _ => None,
    }
}

/// Entries of the blacklist that refuse a VMware disk whatever its WWID, and exceptions that let every disk in.
fn refusing(setting: &Setting) -> Problem {
    let (keyword, value) = (setting.keyword.as_str(), setting.value.as_str());
    let everything = [".*", "^.*", "^.*$", ".*$", "."].contains(&value);
    let lower = value.to_lowercase();
    if setting.is_in(&["blacklist"]) {
        let refuses = match keyword {
            // "!" turns an expression round, from 0.8 on: all but these.
            "devnode" => everything || (lower.contains("sd") != lower.starts_with('!')),
            "protocol" => everything || lower.contains("scsi"),
            "property" => {
                everything || ["scsi_ident", "id_wwn", "id_serial"].iter().any(|name| lower.contains(name))
            }
            _ => false,
        };
        return refuses.then(|| {
            let what = format!("{keyword} \"{value}\" keeps multipath from SCSI disks, wanted ones too");
            (what, "narrow it so that it does not match the wanted disks, or remove it")
        });
    }
    if setting.is_in(&["blacklist", "device"]) {
        let refuses = match keyword {
            "vendor" => everything || lower.contains("vmware"),
            "product" => lower.contains("virtual disk"),
            _ => false,
        };
        return refuses.then(|| {
            let what =
                format!("a device entry with {keyword} \"{value}\" keeps multipath from VMware's disks");
            (what, "remove the entry; the master target's file keeps all disks out that are not wanted")
        });
    }
    (setting.is_in(&["blacklist_exceptions"]) && keyword == "wwid" && everything).then(|| {
        let what =
            format!("the exception wwid \"{value}\" lets multipath claim every disk, the system's too");
        (what, "remove it")
    })
}

/// Settings for a single map that is wanted.
fn of_a_wanted_disk(setting: &Setting, all: &[Setting], wanted: &[ScsiId]) -> Problem {
    if !setting.is_in(&["multipaths", "multipath"]) {
        return None;
    }
    let mut same = all.iter().filter(|other| other.group == setting.group && other.keyword == "wwid");
    let wwid = same.find(|other| wanted.iter().any(|id| id.as_str() == other.value))?;
    match setting.keyword.as_str() {
        "alias" if setting.value != wwid.value => Some((
            format!(
                "the alias {} names the map of {} otherwise than by its SCSI id",
                setting.value, wwid.value
            ),
            "remove the alias",
        )),
        "user_friendly_names" if is_yes(&setting.value) => Some((
            format!("user_friendly_names yes names the map of {} otherwise than by its SCSI id", wwid.value),
            "set it to no, or remove the line",
        )),
        _ => None,
    }
}

fn is_yes(value: &str) -> bool {
    ["yes", "1"].contains(&value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_machine::FakeMachine;
    use proptest::prelude::*;

    #[test]
    fn a_line_is_read_as_multipath_reads_it() {
        let all = |line| words(line).join("|");
        assert_eq!(all("  wwid  \"a # b!\" # comment"), "wwid|a # b!");
        assert_eq!(all("product \"2.5\"\" SSD\"x"), "product|2.5\" SSD|x");
        assert_eq!(all("defaults{ user_friendly_names yes"), "defaults|{|user_friendly_names|yes");
        assert_eq!(all("!x"), "");
        assert_eq!(all("a \"open"), "a|open");
        assert_eq!(all("é a"), "a");
    }

    #[test]
    fn settings_know_their_sections() {
        let text = "defaults {\n a 1\n}\nmultipaths {\n multipath {\n  wwid x\n  alias y\n }\n}\n}\nb 2\n";
        let shown: Vec<String> = settings(text)
            .iter()
            .map(|setting| {
                format!(
                    "{} {} {} {}",
                    setting.line,
                    setting.sections.join("/"),
                    setting.keyword,
                    setting.value
                )
            })
            .collect();
        let multipath = "multipaths/multipath";
        let expected =
            ["2 defaults a 1".into(), format!("6 {multipath} wwid x"), format!("7 {multipath} alias y")];
        assert_eq!(shown[..3], expected);
        assert_eq!(shown[3], "11  b 2");
    }

    #[test]
    fn a_keyword_with_a_value_opens_no_section() {
        let machine = FakeMachine::new();
        let text = "blacklist {\n protocol \"scsi:.*\"\n}\noverrides {\n protocol {\n  type scsi:fcp\n }\n \
                    user_friendly_names yes\n}\ndefaults\n{\n config_dir /elsewhere\n}\n";
        machine.write("etc/multipath.conf", text);
        let found = conflicts(&machine.system(), &[]);
        assert_eq!(found.iter().map(|conflict| conflict.line).collect::<Vec<_>>(), [2, 8, 12], "{found:#?}");
        let of_type = settings(text).into_iter().find(|setting| setting.keyword == "type").unwrap();
        assert_eq!(of_type.sections, ["overrides", "protocol"]);
    }

    #[test]
    fn what_works_against_us_is_named_with_its_place() {
        let machine = FakeMachine::new();
        let wanted = [ScsiId::parse("36000c29a").unwrap()];
        machine.write(
            "etc/multipath.conf",
            "defaults {\n user_friendly_names yes\n find_multipaths strict\n}\nblacklist {\n devnode \"^sd[a-z]\"\n \
             devnode \"!^(sd[a-z]|dasd[a-z]|nvme[0-9])\"\n devnode \"^(ram|loop)\"\n device {\n  vendor \"VMware\"\n \
              product \"Virtual disk\"\n }\n}\nmultipaths {\n multipath {\n  alias data\n  wwid 36000c29a\n }\n \
             multipath {\n  wwid 36000c29b\n  alias other\n }\n}\n",
        );
        machine.write("etc/multipath/conf.d/a.conf", "defaults {\n find_multipaths yes\n}\n");
        machine.write(
            "etc/multipath/conf.d/z.conf",
            "defaults {\n find_multipaths yes\n}\noverrides {\n user_friendly_names yes\n",
        );
        machine.write("etc/multipath/conf.d/z.off", "defaults {\n find_multipaths yes\n}\n");
        machine.write(
            "etc/multipath/conf.d/zz.conf",
            "blacklist_exceptions {\n wwid .*\n}\ndefaults {\n user_friendly_names yes\n}",
        );
        let found = conflicts(&machine.system(), &wanted);
        let places: Vec<(&str, u32)> =
            found.iter().map(|conflict| (conflict.file.rsplit('/').next().unwrap(), conflict.line)).collect();
        let main = "multipath.conf";
        assert_eq!(
            places,
            [
                (main, 6),
                (main, 10),
                (main, 11),
                (main, 16),
                ("z.conf", 2),
                ("z.conf", 5),
                ("zz.conf", 2),
                ("zz.conf", 5)
            ],
            "{found:#?}"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_text_has_settings(text in "([a-z{}\"#! \\n]|device|multipath|wwid|\\PC){0,200}") {
            let lines = text.lines().count() as u32;
            prop_assert!(settings(&text).iter().all(|setting| setting.line <= lines));
        }
    }
}
