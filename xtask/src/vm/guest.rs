//! The guest's image: built once, kept under the target folder, and built anew when its recipe changes.
//!
//! The recipe is the folder `tests/vm/guest` and the words in this file that use it. The root file system is one
//! sparse ext4 volume without a partition table, larger than what a master target must have.

use super::kernel;
use crate::command::{is_root, output, run as run_command, workspace};
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

const SUITE: &str = "bullseye";
/// Names a mirror where this machine's apt does not tell.
const MIRROR: &str = "MASTER_TARGET_DEBIAN_MIRROR";
/// Documents, and drivers that no virtual machine's devices need: half of the volume.
const EXCLUDED: [&str; 10] = [
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/locale/*",
    "/usr/share/info/*",
    "/lib/modules/*/kernel/drivers/gpu/*",
    "/lib/modules/*/kernel/drivers/infiniband/*",
    "/lib/modules/*/kernel/drivers/media/*",
    "/lib/modules/*/kernel/drivers/net/wireless/*",
    "/lib/modules/*/kernel/drivers/staging/*",
    "/lib/modules/*/kernel/sound/*",
];
/// Little is written before the first mount, and the kernel is told not to do the rest in the background.
const MKFS: [&str; 9] =
    ["-q", "-F", "-L", "mt-root", "-N", "200000", "-E", "lazy_itable_init=1,lazy_journal_init=1", "-d"];
const ROOT_SIZE: u64 = 120 << 30;
/// The root file system.
pub(super) const ROOT: &str = "base.img";
/// Of the finished image.
const FILES: [&str; 3] = [ROOT, "vmlinux", "initrd"];

/// The folder with the image; builds it when it is not there.
pub(super) fn image(cache: &Path) -> Result<PathBuf> {
    let recipe = workspace().join("tests/vm/guest");
    let folder = cache.join(format!("guest-{:016x}", hash(&recipe)?));
    if FILES.iter().all(|file| folder.join(file).exists()) {
        return Ok(folder);
    }
    remove_older(cache)?;
    let unfinished = cache.join("guest.unfinished");
    fs::create_dir_all(&unfinished).context("cannot make a folder for the guest's image")?;
    println!("building the guest's image: {SUITE}, once for this recipe");
    build(&recipe, &unfinished).context("cannot build the guest's image")?;
    fs::rename(&unfinished, &folder).context("cannot move the guest's image to its place")?;
    Ok(folder)
}

fn build(recipe: &Path, folder: &Path) -> Result<()> {
    ensure!(is_root()?, "this needs root, as the files of a system belong to it: run it with sudo");
    let root = folder.join("root");
    bootstrap(recipe, &root, &mirror()?)?;
    let boot = root.join("boot");
    kernel::unpack(&only_file(&boot, "vmlinuz-")?, &folder.join("vmlinux"))?;
    fs::copy(only_file(&boot, "initrd.img-")?, folder.join("initrd")).context("cannot copy the initrd")?;
    let image = folder.join(ROOT);
    let file = File::create(&image).context("cannot create base.img")?;
    file.set_len(ROOT_SIZE).context("cannot make base.img large")?;
    run_command(Command::new("mkfs.ext4").args(MKFS).arg(&root).arg(&image))?;
    fs::remove_dir_all(&root).context("cannot remove the guest's root folder")
}

fn bootstrap(recipe: &Path, root: &Path, mirror: &str) -> Result<()> {
    if root.exists() {
        fs::remove_dir_all(root).context("cannot remove what an earlier attempt left")?;
    }
    let list = fs::read_to_string(recipe.join("packages")).context("cannot read the list of packages")?;
    let packages: Vec<&str> =
        list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let mut command = Command::new("mmdebstrap");
    // The clean-up that is left out would empty the guest's machine id.
    command.args(["--quiet", "--mode=root", "--variant=minbase", "--skip=cleanup/reproducible"]);
    command.arg(format!("--include={}", packages.join(",")));
    command.args(EXCLUDED.map(|path| format!("--dpkgopt=path-exclude={path}")));
    for option in apt_options()? {
        command.arg(format!("--aptopt={option}"));
    }
    let script = recipe.join("customize.sh");
    // The hook's own argument is the root folder; a path with blanks or quotes survives in the environment.
    command.env("LAB_CUSTOMIZE", &script).arg("--customize-hook=sh \"$LAB_CUSTOMIZE\" \"$1\"");
    run_command(command.arg(SUITE).arg(root).arg(mirror))
}

/// The mirror that this machine's apt is set up to use for Debian itself.
fn mirror() -> Result<String> {
    if let Ok(mirror) = std::env::var(MIRROR) {
        return Ok(mirror);
    }
    let format = "$(REPO_URI)|$(ORIGIN)|$(RELEASE)|$(COMPONENT)";
    let targets =
        output(Command::new("apt-get").args(["indextargets", "--format", format, "Created-By: Packages"]))?;
    let system = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let found = debian_mirror(&targets, &system);
    found.with_context(|| {
        format!("apt on this machine has no Debian mirror: name one in the environment variable {MIRROR}")
    })
}

/// Of the lines `URI|ORIGIN|RELEASE|COMPONENT`, the one of this very release; origins are only known once apt has
/// fetched its lists.
fn debian_mirror(targets: &str, os_release: &str) -> Option<String> {
    let system: BTreeMap<&str, &str> = os_release.lines().filter_map(|line| line.split_once('=')).collect();
    let release = system.get("VERSION_CODENAME")?.trim_matches('"');
    let is_debian = system.get("ID")?.trim_matches('"') == "debian";
    targets.lines().find_map(|line| {
        let mut parts = line.split('|');
        let (uri, origin) = (parts.next()?, parts.next()?);
        let is_main = parts.next()? == release && parts.next()? == "main";
        let fits = is_main && (origin == "Debian" || (origin.is_empty() && is_debian));
        fits.then(|| uri.to_owned())
    })
}

/// How this machine's apt reaches servers: proxies and the like.
fn apt_options() -> Result<Vec<String>> {
    let all = output(Command::new("apt-config").args(["dump", "--no-empty", "--format", "%F \"%v\";%n"]))?;
    let is_transport = |line: &&str| line.starts_with("Acquire::http");
    Ok(all.lines().filter(is_transport).map(str::to_owned).collect())
}

fn only_file(folder: &Path, prefix: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let found: Vec<String> = names.filter(|name| name.starts_with(prefix)).collect();
    match found.as_slice() {
        [name] => Ok(folder.join(name)),
        _ => bail!("{} has {} files {prefix}*, one is needed", folder.display(), found.len()),
    }
}

/// Images take half a gigabyte: those of earlier recipes go.
fn remove_older(cache: &Path) -> Result<()> {
    let entries = fs::read_dir(cache).with_context(|| format!("cannot list {}", cache.display()))?;
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("guest-") {
            fs::remove_dir_all(entry.path())
                .with_context(|| format!("cannot remove {}", entry.path().display()))?;
        }
    }
    Ok(())
}

/// Of everything that decides what the image is.
fn hash(recipe: &Path) -> Result<u64> {
    let mut hasher = DefaultHasher::new();
    (SUITE, EXCLUDED, MKFS, ROOT_SIZE, FILES).hash(&mut hasher);
    hash_folder(recipe, &mut hasher)?;
    Ok(hasher.finish())
}

fn hash_folder(folder: &Path, hasher: &mut DefaultHasher) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut files: Vec<PathBuf> =
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    files.sort();
    for file in files {
        let kind = file.symlink_metadata().with_context(|| format!("cannot look at {}", file.display()))?;
        file.file_name().hash(hasher);
        if kind.is_dir() {
            hash_folder(&file, hasher)?;
        } else if kind.is_symlink() {
            fs::read_link(&file).with_context(|| format!("cannot read {}", file.display()))?.hash(hasher);
        } else {
            fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?.hash(hasher);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_the_one_of_this_release() {
        let system = "ID=debian\nVERSION_CODENAME=\"bookworm\"\n";
        let targets = "http://tools.test/|Other|bookworm|main\nhttp://a.test/s/|Debian|bookworm-security|main\n\
                       http://a.test/d/|Debian|bookworm|main\n";
        assert_eq!(debian_mirror(targets, system).as_deref(), Some("http://a.test/d/"));
        assert_eq!(debian_mirror("http://b.test/||bookworm|main", system).as_deref(), Some("http://b.test/"));
        let other = "ID=ubuntu\nVERSION_CODENAME=noble\n";
        assert_eq!(
            debian_mirror("http://c.test/||noble|main\nhttp://c.test/|Ubuntu|noble|main", other),
            None
        );
    }
}
