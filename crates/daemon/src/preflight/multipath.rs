//! The disks that multipath is told to map: the product's own fragment of its configuration.

/// The fragment that `mtctl disks --map` and `--unmap` keep.
pub(super) const FRAGMENT: &str = "/etc/multipath/conf.d/master-target.conf";

/// The wwids in the `blacklist_exceptions` of a multipath configuration.
pub(super) fn wanted(text: &str) -> Vec<String> {
    let mut wanted = Vec::new();
    let mut excepting = false;
    for line in text.lines() {
        let line = line.split(['#', '!']).next().unwrap_or_default();
        let words: Vec<&str> = line.split([' ', '\t', '"']).filter(|word| !word.is_empty()).collect();
        match words[..] {
            ["blacklist_exceptions", ..] => excepting = true,
            ["}", ..] => excepting = false,
            ["wwid", wwid, ..] if excepting => wanted.push(wwid.to_owned()),
            _ => {}
        }
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exceptions_are_wanted() {
        let text = "blacklist {\n  wwid \".*\"\n}\nblacklist_exceptions {\n\twwid \"36000c29a\" # x\n wwid 36000c29b\n}\nwwid c\n";
        assert_eq!(wanted(text), ["36000c29a", "36000c29b"]);
    }
}
