//! Sockets: the session's own connection and the extra ones.

use super::driver::Message;
use change_stream::{Compression, Frame, HEADER_SIZE};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use transport::tls::{ClientStream, ClientTls, TlsFiles};
use transport::{FrameReader, FrameWriter, Result};

const CONNECT_LIMIT: Duration = Duration::from_secs(15);
/// Time for what is queued when a connection is closed on purpose.
pub(crate) const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// How to reach the master target.
pub(crate) struct Peer {
    pub(crate) target: String,
    pub(crate) server_name: String,
    /// They are read for each connection, so that a certificate that was renewed is used.
    pub(crate) files: TlsFiles,
    pub(crate) compression: Compression,
}

type Writer = FrameWriter<WriteHalf<ClientStream<TcpStream>>>;
type Reader = FrameReader<ReadHalf<ClientStream<TcpStream>>>;

impl Peer {
    async fn connect(&self) -> Result<(Reader, Writer)> {
        let socket = transport::connect(&self.target, CONNECT_LIMIT).await?;
        let stream = ClientTls::load(&self.files)?.connect(socket, &self.server_name).await?;
        let (read, write) = tokio::io::split(stream);
        let writer = FrameWriter::new(write, &self.target, self.compression);
        Ok((FrameReader::new(read, &self.target), writer))
    }
}

/// Which connection of which session: events of one that was given up are not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Which {
    pub(crate) session: u64,
    /// `None` for the session's own.
    pub(crate) bulk: Option<usize>,
}

/// Opens a connection and serves it until the queue ends or it breaks.
pub(crate) async fn run(
    peer: Arc<Peer>,
    which: Which,
    hello: Option<Frame>,
    mut queue: mpsc::UnboundedReceiver<Vec<u8>>,
    messages: mpsc::Sender<Message>,
) {
    let result = async {
        let (reader, mut writer) = peer.connect().await?;
        if let Some(hello) = &hello {
            writer.queue(hello)?;
            writer.flush().await?;
        }
        let _ = messages.send(Message::Connected(which)).await;
        let receiving = receive(reader, which, &messages);
        let sending = send(&mut writer, which, &mut queue, &messages);
        tokio::pin!(receiving, sending);
        tokio::select! {
            received = &mut receiving => received?,
            sent = &mut sending => return sent.map(|()| false),
        }
        Ok(true)
    };
    let why = match result.await {
        Ok(false) => return,
        Ok(true) => format!("{} closed the connection", peer.target),
        Err(error) => error.to_string(),
    };
    let _ = messages.send(Message::Broken(which, why)).await;
}

async fn receive(mut reader: Reader, which: Which, messages: &mpsc::Sender<Message>) -> Result<()> {
    while let Some(frame) = reader.next().await? {
        if messages.send(Message::Frame(which, frame)).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Sends what is queued, much at once, until the queue's other end is dropped.
async fn send(
    writer: &mut Writer,
    which: Which,
    queue: &mut mpsc::UnboundedReceiver<Vec<u8>>,
    messages: &mpsc::Sender<Message>,
) -> Result<()> {
    while let Some(first) = queue.recv().await {
        let (mut bytes, mut count) = (first.len(), 1);
        put(writer, &first)?;
        while !writer.is_full()
            && let Ok(more) = queue.try_recv()
        {
            bytes += more.len();
            count += 1;
            put(writer, &more)?;
        }
        writer.flush().await?;
        let _ = messages.send(Message::Sent { which, bytes, count }).await;
    }
    writer.close().await
}

/// Queues encoded frames, compressed as the writer does it.
fn put(writer: &mut Writer, frames: &[u8]) -> Result<()> {
    writer.queue_with(|encoder, out| {
        let mut left = frames;
        while let Some(header) = left.first_chunk::<HEADER_SIZE>() {
            let length = change_stream::outline(header).map_or(left.len(), |outline| outline.length);
            let (frame, rest) = left.split_at(length.min(left.len()));
            encoder.append_encoded(frame, out)?;
            left = rest;
        }
        Ok(())
    })
}
