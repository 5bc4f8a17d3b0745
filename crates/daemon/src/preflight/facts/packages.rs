//! What dpkg says about packages.

use std::collections::BTreeMap;

/// Arguments of `dpkg-query` for what [`Packages::parse`] reads.
pub(crate) const QUERY: [&str; 3] = ["-W", "-f", "${Status} ${Architecture} ${Package}\\n"];

/// The meta packages that bring a newer kernel.
const KERNEL_METAS: [&str; 7] = [
    "linux-generic",
    "linux-image-generic",
    "linux-headers-generic",
    "linux-generic-hwe-16.04",
    "linux-image-generic-hwe-16.04",
    "linux-headers-generic-hwe-16.04",
    "linux-virtual",
];

/// Packages that are installed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Packages {
    installed: BTreeMap<String, Package>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Package {
    held: bool,
    architecture: String,
}

impl Packages {
    /// Reads lines such as `hold ok installed amd64 linux-generic`.
    pub(crate) fn parse(text: &str) -> Packages {
        let package = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                [want, _, "installed", architecture, name] => {
                    let package = Package { held: want == "hold", architecture: architecture.to_owned() };
                    Some((name.to_owned(), package))
                }
                _ => None,
            }
        };
        Packages { installed: text.lines().filter_map(package).collect() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.installed.is_empty()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.installed.contains_key(name)
    }

    /// What dpkg itself was built for.
    pub(crate) fn architecture(&self) -> Option<&str> {
        self.installed.get("dpkg").map(|package| package.architecture.as_str())
    }

    /// The packages that could bring another kernel than the running one, `release`; each with whether it is held.
    pub(crate) fn kernel_packages(&self, release: &str) -> Vec<(String, bool)> {
        let image = format!("linux-image-{}", release.trim());
        let names = KERNEL_METAS.iter().copied().chain([image.as_str()]);
        names.filter_map(|name| Some((name.to_owned(), self.installed.get(name)?.held))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installed_and_held_are_told_apart() {
        let text = "install ok installed amd64 dpkg\nhold ok installed amd64 linux-generic\n\
                    deinstall ok config-files amd64 kpartx\nrubbish\n\
                    install ok installed amd64 linux-image-4.4.0-81-generic\n";
        let packages = Packages::parse(text);
        assert!(packages.has("dpkg") && !packages.has("kpartx"));
        assert_eq!(packages.architecture(), Some("amd64"));
        let kernels = packages.kernel_packages("4.4.0-81-generic\n");
        assert_eq!(kernels, [("linux-generic".into(), true), ("linux-image-4.4.0-81-generic".into(), false)]);
    }
}
