//! The socket: bounded lines in, bounded lines out.

use crate::master_target::MasterTarget;
use control_api::{
    API_VERSION, Failure, LineError, MAX_REPLY_LINE, MAX_REQUEST_LINE, Progress, Reply, Request,
};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};

/// Clients at once; further ones wait.
const CLIENTS: usize = 32;
/// A client that does not read for so long is given up.
const WRITE_LIMIT: Duration = Duration::from_secs(30);
/// Pause after a connection could not be accepted, most likely for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Listens at `path`, for its owner only. A socket left over from a daemon that no longer runs is replaced.
pub(crate) fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another daemon listens there"));
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves clients for ever.
pub(crate) async fn serve(listener: UnixListener, target: Arc<MasterTarget>) {
    let places = Arc::new(Semaphore::new(CLIENTS));
    loop {
        let place = places.clone().acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let target = target.clone();
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, &target).await {
                        tracing::debug!("a client of the local API went away: {error}");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!("cannot accept a client of the local API: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn converse(stream: UnixStream, target: &Arc<MasterTarget>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    while let Some(line) = read_line(&mut read).await? {
        let call = match parse(&line) {
            Ok(request) => request.call,
            Err(failure) => {
                send(&mut write, &Reply::Failed(failure)).await?;
                return Ok(());
            }
        };
        let (report, mut reported) = mpsc::channel::<Progress>(1);
        let answer = target.answer(call, report);
        tokio::pin!(answer);
        let reply = loop {
            tokio::select! {
                answer = &mut answer => break answer.map_or_else(Reply::Failed, Reply::Done),
                Some(progress) = reported.recv() => send(&mut write, &Reply::Progress(progress)).await?,
            }
        };
        send(&mut write, &reply).await?;
    }
    Ok(())
}

fn parse(line: &[u8]) -> Result<Request, Failure> {
    let next = "install mtctl and mtd of one version";
    // The version first: what else is in the line may have another form in that version.
    #[derive(serde::Deserialize)]
    struct Version {
        api: u32,
    }
    let failed =
        |why: &dyn std::fmt::Display| Failure::new("local API", "cannot read the request", why, next);
    let version: Version =
        control_api::from_line(line, MAX_REQUEST_LINE).map_err(|error: LineError| failed(&error))?;
    if version.api != API_VERSION {
        let why = format!("it is of version {}, this daemon speaks {API_VERSION}", version.api);
        return Err(failed(&why));
    }
    control_api::from_line(line, MAX_REQUEST_LINE).map_err(|error| failed(&error))
}

/// The next line, or as much of it as is allowed; `None` at the end.
async fn read_line(read: &mut (impl AsyncRead + AsyncBufReadExt + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    loop {
        let available = read.fill_buf().await?;
        if available.is_empty() {
            return Ok((!line.is_empty()).then_some(line));
        }
        let end = available.iter().position(|byte| *byte == b'\n');
        let length = end.map_or(available.len(), |end| end + 1).min(MAX_REQUEST_LINE + 1 - line.len());
        line.extend_from_slice(&available[..length]);
        read.consume(length);
        if end.is_some() || line.len() > MAX_REQUEST_LINE {
            return Ok(Some(line));
        }
    }
}

async fn send(write: &mut OwnedWriteHalf, reply: &Reply) -> io::Result<()> {
    let line = match control_api::to_line(reply, MAX_REPLY_LINE) {
        Ok(line) => line,
        Err(error) => {
            let failure = Failure::new("local API", "cannot answer", error, "ask for less, with --limit");
            control_api::to_line(&Reply::Failed(failure), MAX_REPLY_LINE).map_err(io::Error::other)?
        }
    };
    match tokio::time::timeout(WRITE_LIMIT, write.write_all(&line)).await {
        Ok(written) => written,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_of_another_version_is_refused_by_its_number() {
        let why = |line: &str| parse(line.as_bytes()).unwrap_err().why;
        assert_eq!(why("{\"api\":7,\"call\":\"new\"}"), "it is of version 7, this daemon speaks 1");
        assert!(why("status").contains("not a message"), "{}", why("status"));
        assert!(parse(b"{\"api\":1,\"call\":\"status\"}\n").is_ok());
    }

    #[tokio::test]
    async fn lines_are_cut_off_at_the_limit() {
        let long = vec![b'x'; MAX_REQUEST_LINE + 10];
        let mut read = BufReader::new(&long[..]);
        let line = read_line(&mut read).await.unwrap().unwrap();
        assert!(matches!(
            control_api::from_line::<Request>(&line, MAX_REQUEST_LINE),
            Err(LineError::TooLong { .. })
        ));
        let mut read = BufReader::new(&b"a\nbc"[..]);
        assert_eq!(read_line(&mut read).await.unwrap().unwrap(), b"a\n");
        assert_eq!(read_line(&mut read).await.unwrap().unwrap(), b"bc");
        assert_eq!(read_line(&mut read).await.unwrap(), None);
    }
}
