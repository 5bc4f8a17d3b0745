//! Serves a file, or memory, to try clients on by hand: `serve SOCKET-OR-ADDRESS FILE|MiB`.

use block_device::{Caching, FileDisk};
use disk::{Access, Bytes, Disk, MemoryDisk};
use nbd::Export;
use std::sync::Arc;
use transport::nbd_server::{Limits, Listener, Security, Served, serve};

#[tokio::main]
async fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [address, disk] = arguments.as_slice() else {
        panic!("usage: serve SOCKET-OR-ADDRESS FILE|MiB");
    };
    let disk: Arc<dyn Disk> = match disk.parse::<u64>() {
        Ok(mebibytes) => Arc::new(MemoryDisk::new("memory", Bytes(mebibytes << 20))),
        Err(_) => Arc::new(FileDisk::open(disk, Access::Write, Caching::PageCache).unwrap()),
    };
    let listener = match address.starts_with('/') {
        true => Listener::unix(address.as_ref()).unwrap(),
        false => Listener::tcp(address).await.unwrap(),
    };
    let exports = Served::new();
    exports.add(Export::new("disk", disk, false)).unwrap();
    let interrupted = async { tokio::signal::ctrl_c().await.unwrap() };
    serve(listener, exports, Security::Off, Limits::default(), interrupted).await;
}
