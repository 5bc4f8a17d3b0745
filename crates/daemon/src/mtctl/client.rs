//! The client's end of the local API.

use control_api::{
    API_VERSION, Answer, Call, Failure, LineError, MAX_REPLY_LINE, MAX_REQUEST_LINE, Progress, Reply, Request,
};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// Why a call brought no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens, or we may not talk to it.
    #[error("cannot reach the daemon at {}: {cause}; {}", socket.display(), advice(cause))]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The connection broke.
    #[error("the connection to the daemon broke: {0}; see its log, then ask again")]
    Broken(#[from] io::Error),
    /// The daemon closed the connection before it answered.
    #[error("the daemon closed the connection before it answered; see its log, then ask again")]
    Closed,
    /// A line that is no reply.
    #[error(
        "the daemon does not speak this version of the local API: {0}; install mtctl and mtd of one version"
    )]
    Line(#[from] LineError),
    /// The daemon's word.
    #[error(transparent)]
    Failed(#[from] Failure),
}

fn advice(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::PermissionDenied => "only root may talk to it",
        io::ErrorKind::NotFound => {
            "start it with systemctl start master-target, or name its socket with --socket"
        }
        _ => "see systemctl status master-target",
    }
}

/// A connection to the daemon.
pub struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the daemon that listens at `socket`.
    pub fn connect(socket: &Path) -> Result<Client, ClientError> {
        let stream = UnixStream::connect(socket)
            .map_err(|cause| ClientError::Connect { socket: socket.to_path_buf(), cause })?;
        Ok(Client { stream: BufReader::new(stream) })
    }

    /// Asks for something and waits for the answer, handing on each progress.
    pub fn call(&mut self, call: Call, mut on_progress: impl FnMut(Progress)) -> Result<Answer, ClientError> {
        let request = control_api::to_line(&Request { api: API_VERSION, call }, MAX_REQUEST_LINE)?;
        self.stream.get_mut().write_all(&request)?;
        loop {
            match self.reply()? {
                Reply::Progress(progress) => on_progress(progress),
                Reply::Done(answer) => return Ok(answer),
                Reply::Failed(failure) => return Err(failure.into()),
            }
        }
    }

    fn reply(&mut self) -> Result<Reply, ClientError> {
        let mut line = Vec::new();
        self.stream.by_ref().take(MAX_REPLY_LINE as u64 + 1).read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') && line.len() <= MAX_REPLY_LINE {
            return Err(ClientError::Closed);
        }
        Ok(control_api::from_line(&line, MAX_REPLY_LINE)?)
    }
}
