//! What is told to who has everything left running: how to get in, and what to try.

use anyhow::Result;
use rig::Site;

/// Who logs in: everything may be done.
const NAME: &str = "demo";

/// Adds a user, and gives the text. `uri` is the disk of the protected machine, which may be written at `offset`.
pub(crate) fn text(site: &Site, uri: &str, offset: u64) -> Result<String> {
    let add = ["user", "add", NAME, "--role", "administrator", "--generate"];
    let password = site.server.command(&add)?;
    let (folder, url, datastore) = (site.rig.folder.display(), site.server.url(), site.datastore.display());
    let (mtctl, mt_source) = (site.rig.program("mtctl")?, site.rig.program("mt-source")?);
    let (item, source) = (&site.rig.item, Site::SOURCE);
    Ok(format!(
        "
Everything keeps running, and {item} is protected:

    portal      {url}
    log in      {NAME}, {password}
    mtctl       {mtctl} --socket {folder}/target/mtd.sock status
    mt-source   {mt_source} status --config {folder}/source/mt-source.toml
    a write     qemu-io -f raw -c 'write -P 0x42 {offset} 4k' '{uri}'
    all else    {folder}

The browser warns of the certificate: its authority was made a minute ago. What to try there, under Replicated items, {item}:

  1. Set a bookmark, and have something written.
  2. Test failover of the bookmark: the job tells an address that qemu-io and qemu-img read and write. End it.
  3. Fail over…, planned: the machine comes to rest, and a write is refused. Change the recovery point, or cancel.
  4. Commit…: the way back is given up; {folder}/{item}-disk0.vmdk is the machine's disk.
  5. The machine goes on where it was: Infrastructure, {source}, Let writes through…
  6. Reprotect a machine…, on a new VMDK: {datastore} is proposed.

docs/guide/failback.md explains each step. Ctrl-C ends it all.
",
        password = password.trim(),
        mtctl = mtctl.display(),
        mt_source = mt_source.display(),
    ))
}
