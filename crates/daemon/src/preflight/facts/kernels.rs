//! Releases of Ubuntu's kernels, and the table of those that are supported.

use serde::Deserialize;

/// `4.4.0-81-generic`, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kernel {
    pub(crate) version: String,
    pub(crate) abi: u32,
    pub(crate) flavour: String,
}

impl Kernel {
    /// `None` for a release that is not in Ubuntu's form.
    pub(crate) fn parse(release: &str) -> Option<Kernel> {
        let mut parts = release.trim().splitn(3, '-');
        let version = parts.next().filter(|version| !version.is_empty())?.to_owned();
        Some(Kernel { version, abi: parts.next()?.parse().ok()?, flavour: parts.next()?.to_owned() })
    }
}

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Supported {
    pub(crate) version: String,
    pub(crate) newest: u32,
    pub(crate) flavour: String,
}

impl Supported {
    /// Whether this line allows the kernel.
    pub(crate) fn allows(&self, kernel: &Kernel) -> bool {
        self.version == kernel.version && kernel.abi <= self.newest && self.flavour == kernel.flavour
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    kernel: Vec<Supported>,
}

/// The table in `kernels.toml`.
pub(crate) fn supported() -> Vec<Supported> {
    // The file is part of this program, and a test reads it.
    toml::from_str::<Table>(include_str!("../kernels.toml")).map(|table| table.kernel).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_published_one() {
        let lines: Vec<String> = supported()
            .iter()
            .map(|line| format!("{}-{}-{}", line.version, line.newest, line.flavour))
            .collect();
        assert_eq!(lines, ["4.4.0-81-generic", "4.8.0-56-generic", "4.10.0-24-generic"]);
    }

    #[test]
    fn releases_are_taken_apart_or_refused() {
        let kernel = Kernel::parse("4.4.0-81-generic\n").unwrap();
        assert_eq!((kernel.version.as_str(), kernel.abi, kernel.flavour.as_str()), ("4.4.0", 81, "generic"));
        for text in ["", "4.4.0", "6.1.0-37", "-81-generic", "4.4.0-x-generic", "4.4.0-99999999999-generic"] {
            assert_eq!(Kernel::parse(text), None, "{text:?}");
        }
    }
}
