//! The guest's image with the packages installed, which most scenarios begin with.
//!
//! They are installed by dpkg in the image's own system, on this machine's processor: in an emulated machine that takes a minute,
//! for each scenario again. How they install themselves on a machine that runs, the scenarios of their life cycle show.

use crate::command::output;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is mounted goes with the namespace, also when something fails. Services are the scenarios' to start.
const INSTALL: &str = r#"
set -eu
base=$1 packages=$2 image=$3 root=$4
rm -f "$image"
cp --sparse=always "$base" "$image"
mkdir -p "$root"
mount -o loop "$image" "$root"
mount --bind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/tmp"
mkdir "$root/tmp/packages"
mount --bind "$packages" "$root/tmp/packages"
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
chroot "$root" sh -c 'dpkg --force-unsafe-io --install /tmp/packages/*.deb'
chroot "$root" systemctl disable --quiet master-target master-target-configserver mt-process-server
umount "$root/tmp/packages" "$root/tmp" "$root/proc" "$root/dev" "$root"
"#;

/// Makes it of the image `base` and of the packages in a folder.
pub(super) fn image(base: &Path, packages: &Path, cache: &Path) -> Result<PathBuf> {
    let image = cache.join("installed.img");
    let mut install = Command::new("unshare");
    install.args(["--mount", "--propagation", "private", "sh", "-c", INSTALL, "install"]);
    install.args([base, packages, &image, &cache.join("installed.root")]);
    output(&mut install).context("the packages cannot be installed in the guest's image")?;
    Ok(image)
}
