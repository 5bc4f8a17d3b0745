//! Repositories in the hands of the real apt-get, with folders of its own for all that it keeps, and of gpgv 1.4, which is
//! what apt of Ubuntu 16.04 asks about signatures.

use super::*;
use crate::command::{find_program, shown};
use tempfile::TempDir;

/// Quicker to make than one for releases.
const TEST_KEY_BITS: u32 = 2048;

/// A package, and what is made of it.
struct Site {
    folder: TempDir,
}

impl Site {
    fn new() -> Site {
        let site = Site { folder: tempfile::tempdir().unwrap() };
        let package = site.path("package");
        fs::create_dir_all(package.join("DEBIAN")).unwrap();
        fs::create_dir_all(site.path("packages")).unwrap();
        let control = "Package: tiny\nVersion: 1.0-1\nArchitecture: amd64\nMaintainer: Somebody <a@b.example>\n\
                       Description: almost nothing\n And a little more.\n";
        fs::write(package.join("DEBIAN/control"), control).unwrap();
        let mut dpkg = Command::new("dpkg-deb");
        dpkg.args(["--root-owner-group", "--build"]).arg(&package);
        output(dpkg.arg(site.path("packages/tiny_1.0-1_amd64.deb"))).unwrap();
        fs::write(site.path("packages/tiny.cdx.json"), "{}").unwrap();
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn key(&self, name: &str) -> Key {
        key::make(&self.path(name), TEST_KEY_BITS).unwrap();
        Key::of(&self.path(name)).unwrap()
    }

    /// What apt-get makes of it, beginning with nothing, when it trusts the key `trusted`.
    fn apt_get(&self, trusted: &str, arguments: &[&str]) -> Result<String> {
        let apt = self.path("apt");
        if arguments == ["update"] && apt.exists() {
            fs::remove_dir_all(&apt)?;
        }
        for folder in
            ["lists/partial", "cache/archives/partial", "etc/apt.conf.d", "etc/preferences.d", "log", "here"]
        {
            fs::create_dir_all(apt.join(folder))?;
        }
        fs::write(apt.join("status"), "")?;
        let (repository, trusted) = (self.path("repository"), self.path(trusted));
        let source =
            format!("deb [signed-by={}] file:{} stable main\n", trusted.display(), repository.display());
        fs::write(apt.join("sources.list"), source)?;
        let configuration = format!(
            "Dir \"{0}\";\nDir::State::Lists \"lists\";\nDir::State \"{0}\";\nDir::State::status \"{0}/status\";\n\
             Dir::Cache \"{0}/cache\";\nDir::Log \"{0}/log\";\nDir::Etc \"{0}/etc\";\n\
             Dir::Etc::sourcelist \"{0}/sources.list\";\nAPT::Architecture \"amd64\";\nAPT::Architectures {{ \"amd64\"; }};\n\
             APT::Sandbox::User \"\";\nAcquire::Languages \"none\";\n",
            apt.display()
        );
        fs::write(apt.join("apt.conf"), configuration)?;
        let mut command = Command::new("apt-get");
        command.args(arguments).current_dir(apt.join("here"));
        command.env("APT_CONFIG", apt.join("apt.conf")).env("LC_ALL", "C");
        // It ends well with some errors, as long as it has lists of before.
        let result = command.output().with_context(|| format!("cannot start {}", shown(&command)))?;
        let text =
            format!("{}{}", String::from_utf8_lossy(&result.stdout), String::from_utf8_lossy(&result.stderr));
        ensure!(result.status.success() && !text.contains("W: "), "{text}");
        Ok(text)
    }
}

#[test]
fn apt_takes_a_package_from_it_and_no_other() {
    let site = Site::new();
    make(&site.path("packages"), &site.path("repository"), &site.key("key")).unwrap();
    let deb = "tiny_1.0-1_amd64.deb";
    site.apt_get("repository/master-target.gpg", &["update"]).unwrap();
    site.apt_get("repository/master-target.gpg", &["download", "tiny"]).unwrap();
    let taken = fs::read(site.path("apt/here").join(deb)).unwrap();
    assert_eq!(taken, fs::read(site.path("packages").join(deb)).unwrap());
    let plan = site.apt_get("repository/master-target.gpg", &["--simulate", "install", "tiny"]).unwrap();
    assert!(plan.contains("Inst tiny (1.0-1 master-target:stable [amd64])"), "{plan}");

    // A package that was changed.
    fs::remove_file(site.path("apt/here").join(deb)).unwrap();
    let pool = site.path("repository").join(POOL).join(deb);
    let mut changed = fs::read(&pool).unwrap();
    *changed.last_mut().unwrap() ^= 1;
    fs::write(&pool, changed).unwrap();
    let error = site.apt_get("repository/master-target.gpg", &["download", "tiny"]).unwrap_err().to_string();
    assert!(error.contains("Hash Sum mismatch"), "{error}");
    let mut sums = Command::new("sha256sum");
    assert!(output(sums.args(["--check", "SHA256SUMS"]).current_dir(site.path("repository"))).is_err());
}

#[test]
fn apt_refuses_changed_lists_and_foreign_keys() {
    let site = Site::new();
    let (ours, theirs) = (site.key("ours"), site.key("theirs"));
    fs::create_dir(site.path("other")).unwrap();
    theirs.export(&site.path("other")).unwrap();
    make(&site.path("packages"), &site.path("repository"), &ours).unwrap();
    let update = |trusted: &str| site.apt_get(trusted, &["update"]);
    update("repository/master-target.gpg").unwrap();
    let error = update("other/master-target.gpg").unwrap_err().to_string();
    assert!(error.contains("NO_PUBKEY") && error.contains("is not signed"), "{error}");

    let lists = site.path("repository").join(DISTRIBUTION).join(LISTS);
    for name in ["Packages", "Packages.gz", "Packages.xz"] {
        let mut bytes = fs::read(lists.join(name)).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(lists.join(name), bytes).unwrap();
    }
    let error = update("repository/master-target.gpg").unwrap_err().to_string();
    assert!(error.contains("Hash Sum mismatch"), "{error}");

    let signed = site.path("repository").join(DISTRIBUTION).join("InRelease");
    let text = fs::read_to_string(&signed).unwrap();
    fs::write(&signed, text.replace("Label: master", "Label: matter")).unwrap();
    let error = update("repository/master-target.gpg").unwrap_err().to_string();
    assert!(error.contains("BADSIG"), "{error}");
}

#[test]
fn the_gpgv_of_old_systems_takes_the_signatures() {
    let site = Site::new();
    let repository = site.path("repository");
    make(&site.path("packages"), &repository, &site.key("key")).unwrap();
    let gpgv = find_program("gpgv1").unwrap();
    let verify = |files: &[&str]| {
        let mut command = Command::new(&gpgv);
        command.arg("--keyring").arg(repository.join("master-target.gpg")).args(files);
        output(command.current_dir(&repository))
    };
    verify(&["dists/stable/InRelease"]).unwrap();
    verify(&["dists/stable/Release.gpg", "dists/stable/Release"]).unwrap();
    verify(&["SHA256SUMS.asc", "SHA256SUMS"]).unwrap();
    assert!(verify(&["SHA256SUMS.asc", "dists/stable/Release"]).is_err());
    let mut sums = Command::new("sha256sum");
    output(sums.args(["--check", "--strict", "SHA256SUMS"]).current_dir(&repository)).unwrap();
    let given_away = fs::read_to_string(repository.join("SHA256SUMS")).unwrap();
    for place in ["pool/main/tiny_1.0-1_amd64.deb", "tiny.cdx.json"] {
        assert!(given_away.contains(&format!("  {place}\n")), "{given_away}");
    }
}

#[test]
fn the_same_packages_give_the_same_bytes_but_for_signatures() {
    let site = Site::new();
    let key = site.key("key");
    let [one, other] = ["one", "other"].map(|name| site.path(name));
    for repository in [&one, &other] {
        make(&site.path("packages"), repository, &key).unwrap();
    }
    let lists =
        ["Packages", "Packages.gz", "Packages.xz"].map(|name| format!("{DISTRIBUTION}/{LISTS}/{name}"));
    let others = ["SHA256SUMS", "dists/stable/Release", "master-target.gpg"].map(str::to_owned);
    for file in lists.iter().chain(&others) {
        assert_eq!(fs::read(one.join(file)).unwrap(), fs::read(other.join(file)).unwrap(), "{file}");
    }
    let error = make(&site.path("packages"), &one, &key).unwrap_err().to_string();
    assert!(error.contains("is not empty"), "{error}");
    assert!(make(&site.path("package/DEBIAN"), &site.path("empty"), &key).is_err(), "there is no package");
    let again = key::make(&site.path("key"), TEST_KEY_BITS).unwrap_err();
    assert!(format!("{again:#}").contains("exists"), "{again:#}");
}
