//! Sockets as both protocols want them.

use crate::{Error, Result};
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::time::Duration;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

/// A peer that vanished without a word is noticed after about a minute: 30 s of silence, then 3 probes.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;

/// Connects to `address` ("host:port"), trying each of its addresses, within `limit` in all.
pub async fn connect(address: &str, limit: Duration) -> Result<TcpStream> {
    match timeout(limit, connect_to_any(address)).await {
        Ok(connected) => connected,
        Err(_) => Err(Error::ConnectTimeout { address: address.to_owned(), after: limit }),
    }
}

async fn connect_to_any(address: &str) -> Result<TcpStream> {
    let unresolvable = |cause| Error::Unresolvable { address: address.to_owned(), cause };
    let candidates = lookup_host(address).await.map_err(unresolvable)?;
    let mut last = None;
    for candidate in candidates {
        let connected = TcpStream::connect(candidate).await.and_then(|stream| {
            set_up(&stream)?;
            Ok(stream)
        });
        match connected {
            Ok(stream) => return Ok(stream),
            Err(cause) => last = Some(cause),
        }
    }
    Err(match last {
        Some(cause) => Error::Connect { address: address.to_owned(), cause },
        None => unresolvable(io::Error::new(io::ErrorKind::NotFound, "it has no address")),
    })
}

/// Sets up a connected socket: no delay of small writes, and keepalive. Accepted sockets need it too.
///
/// Buffer sizes are left to the kernel on purpose: one that is set by hand no longer grows with the line's
/// bandwidth and delay, and is limited to a far smaller size than those that grow by themselves.
pub fn set_up(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE_AFTER)
            .with_interval(KEEPALIVE_EVERY)
            .with_retries(KEEPALIVE_PROBES),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    const SOON: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn connects_and_sets_options() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let stream = connect(&address, SOON).await.unwrap();
        assert!(stream.nodelay().unwrap());
        assert!(SockRef::from(&stream).keepalive().unwrap());
    }

    #[tokio::test]
    async fn a_refused_connection_names_the_address_and_what_to_check() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let message = connect(&address, SOON).await.unwrap_err().to_string();
        assert!(message.contains(&address) && message.contains("nothing listens"), "{message}");
    }

    #[tokio::test]
    async fn a_name_without_address_is_told_apart() {
        let error = connect("no-such-host.invalid:9443", SOON).await.unwrap_err();
        assert!(matches!(error, Error::Unresolvable { .. }), "{error}");
        assert!(error.to_string().contains("no-such-host.invalid:9443"));
    }
}
