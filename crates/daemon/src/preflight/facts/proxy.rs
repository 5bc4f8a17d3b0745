//! Proxies that the machine is told to use.

/// Names of the variables that set a proxy for connections to the configuration server.
const PROXY_VARIABLES: [&str; 3] = ["http_proxy", "https_proxy", "all_proxy"];

/// A proxy that is set, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proxy {
    /// Name of the variable.
    pub(crate) name: String,
    /// Its value, without user and password.
    pub(crate) shown: String,
}

/// What variables say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) proxies: Vec<Proxy>,
    /// What is reached without a proxy.
    pub(crate) exceptions: Vec<String>,
}

impl Settings {
    /// Takes a variable into account.
    pub(crate) fn add(&mut self, name: &str, value: &str) {
        let (name, value) = (name.to_ascii_lowercase(), value.trim().trim_matches(['"', '\'']));
        if PROXY_VARIABLES.contains(&name.as_str()) && !value.is_empty() {
            self.proxies.push(Proxy { name, shown: without_credentials(value) });
        } else if name == "no_proxy" {
            self.exceptions.extend(value.split(',').map(|entry| entry.trim().to_owned()));
        }
    }

    /// Takes the assignments of a profile or of /etc/environment into account.
    pub(crate) fn add_assignments(&mut self, text: &str) {
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
            let line = line.strip_prefix("export ").unwrap_or(line);
            if let Some((name, value)) = line.split_once('=') {
                self.add(name.trim(), value);
            }
        }
    }

    /// Whether `host` is reached without a proxy.
    pub(crate) fn excepts(&self, host: &str) -> bool {
        let covers = |entry: &String| {
            let suffix = entry.trim_start_matches(['*', '.']);
            entry == "*" || (!suffix.is_empty() && (host == suffix || host.ends_with(&format!(".{suffix}"))))
        };
        self.exceptions.iter().any(covers)
    }
}

/// A proxy's address must not bring a password into a report.
fn without_credentials(value: &str) -> String {
    let (scheme, rest) = value.split_once("://").map_or(("", value), |(scheme, rest)| (scheme, rest));
    let host = rest.rsplit('@').next().unwrap_or(rest);
    let shown = if host.len() < rest.len() { format!("…@{host}") } else { host.to_owned() };
    if scheme.is_empty() { shown } else { format!("{scheme}://{shown}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_are_found_and_passwords_are_not_shown() {
        let mut settings = Settings::default();
        settings.add_assignments("# http_proxy=x\nexport HTTPS_PROXY=\"http://eve:pass@proxy:3128/\"\nA=b\nno_proxy='.example, 10.0.0.9'\n");
        assert_eq!(settings.proxies.len(), 1);
        assert_eq!(settings.proxies[0].shown, "http://…@proxy:3128/");
        assert!(
            settings.excepts("cs.example") && settings.excepts("10.0.0.9") && !settings.excepts("cs.other")
        );
    }
}
