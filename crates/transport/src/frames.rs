//! Frames of a change stream, to and from bytes on a connection.

use crate::{Error, Result};
use change_stream::{Compression, Decoder, Encoder, Frame};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes that a writer collects before [`FrameWriter::send`] writes them without being asked.
const COALESCE: usize = 256 << 10;

/// Takes the frames of a change stream out of what arrives on a connection.
pub struct FrameReader<R> {
    io: R,
    peer: String,
    decoder: Decoder,
    bytes: u64,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Reads from `io`; `peer` is what to call the other end in a message.
    pub fn new(io: R, peer: impl Into<String>) -> FrameReader<R> {
        FrameReader { io, peer: peer.into(), decoder: Decoder::new(), bytes: 0 }
    }

    /// The next frame, or `None` when the other end closed the connection after a whole one. Dropping the future
    /// loses nothing.
    pub async fn next(&mut self) -> Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.buffered()? {
                return Ok(Some(frame));
            }
            if self.receive().await? == 0 {
                return self.ended();
            }
        }
    }

    /// The next frame if it has arrived already: `None` says that what was read so far is used up.
    pub fn buffered(&mut self) -> Result<Option<Frame>> {
        self.decoder.next().map_err(|cause| Error::Received { peer: self.peer.clone(), cause })
    }

    /// Bytes received so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    async fn receive(&mut self) -> Result<usize> {
        let length = self
            .io
            .read(self.decoder.read_buffer())
            .await
            .map_err(|cause| Error::broken(&self.peer, "receiving", cause))?;
        self.decoder.advance(length);
        self.bytes += length as u64;
        Ok(length)
    }

    fn ended(&self) -> Result<Option<Frame>> {
        match self.decoder.pending() {
            0 => Ok(None),
            arrived => Err(Error::CutShort { peer: self.peer.clone(), arrived }),
        }
    }
}

/// Puts the frames of a change stream on a connection, many of them in one write.
///
/// Frames are queued in memory until [`FrameWriter::flush`], or until so many bytes are waiting that
/// [`FrameWriter::send`] writes them by itself; so at most that many and one frame are held.
pub struct FrameWriter<W> {
    io: W,
    peer: String,
    encoder: Encoder,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that are written already.
    written: usize,
    bytes: u64,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    /// Writes to `io`; `peer` is what to call the other end in a message.
    pub fn new(io: W, peer: impl Into<String>, compression: Compression) -> FrameWriter<W> {
        FrameWriter {
            io,
            peer: peer.into(),
            encoder: Encoder::new(compression),
            buffer: Vec::new(),
            written: 0,
            bytes: 0,
        }
    }

    /// Queues a frame without writing. Follow it by [`FrameWriter::flush`] once [`FrameWriter::is_full`].
    pub fn queue(&mut self, frame: &Frame) -> Result<()> {
        self.queue_with(|encoder, buffer| encoder.encode(frame, buffer))
    }

    /// Queues what `encode` appends: for data frames whose data is borrowed.
    pub fn queue_with(
        &mut self,
        encode: impl FnOnce(&mut Encoder, &mut Vec<u8>) -> std::result::Result<(), change_stream::Error>,
    ) -> Result<()> {
        encode(&mut self.encoder, &mut self.buffer)
            .map_err(|cause| Error::Unsendable { peer: self.peer.clone(), cause })
    }

    /// True when enough is queued to be worth a write.
    pub fn is_full(&self) -> bool {
        self.waiting() >= COALESCE
    }

    /// Bytes queued and not yet handed to the operating system.
    pub fn waiting(&self) -> usize {
        self.buffer.len() - self.written
    }

    /// Queues a frame, and writes what is queued once that is much.
    pub async fn send(&mut self, frame: &Frame) -> Result<()> {
        self.queue(frame)?;
        if self.is_full() {
            self.write_out().await.map_err(|cause| self.broken(cause))?;
        }
        Ok(())
    }

    /// Writes all that is queued. Dropping the future loses nothing: the next call goes on where it stopped.
    pub async fn flush(&mut self) -> Result<()> {
        let result = async {
            self.write_out().await?;
            self.io.flush().await
        };
        result.await.map_err(|cause| self.broken(cause))
    }

    /// Writes all that is queued and tells the other end that nothing follows.
    pub async fn close(&mut self) -> Result<()> {
        self.flush().await?;
        self.io.shutdown().await.map_err(|cause| self.broken(cause))
    }

    /// Bytes handed to the operating system so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    async fn write_out(&mut self) -> io::Result<()> {
        while self.written < self.buffer.len() {
            let length = self.io.write(&self.buffer[self.written..]).await?;
            if length == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.written += length;
            self.bytes += length as u64;
        }
        self.buffer.clear();
        self.written = 0;
        Ok(())
    }

    fn broken(&self, cause: io::Error) -> Error {
        Error::broken(&self.peer, "sending", cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use change_stream::Position;
    use tokio::io::duplex;

    fn write(sequence: u64, length: usize) -> Frame {
        let at = Position { sequence, time: 7 };
        Frame::Write { at, disk: 0, offset: sequence * 4096, data: vec![sequence as u8; length] }
    }

    #[tokio::test]
    async fn what_is_sent_arrives_in_order_and_is_counted() {
        let (here, there) = duplex(10_000);
        let frames: Vec<_> = (1..200).map(|sequence| write(sequence, 97 * sequence as usize)).collect();
        let mut writer = FrameWriter::new(here, "target", Compression::Lz4);
        let send = async {
            for frame in &frames {
                writer.send(frame).await.unwrap();
            }
            writer.close().await.unwrap();
            writer.bytes()
        };
        let mut reader = FrameReader::new(there, "source");
        let receive = async {
            let mut seen = Vec::new();
            while let Some(frame) = reader.next().await.unwrap() {
                seen.push(frame);
            }
            (seen, reader.bytes())
        };
        let (sent, (seen, received)) = tokio::join!(send, receive);
        assert!(seen == frames);
        assert_eq!(sent, received);
    }

    #[tokio::test]
    async fn an_abandoned_flush_goes_on_where_it_stopped() {
        let (here, there) = duplex(64);
        let mut writer = FrameWriter::new(here, "target", Compression::None);
        writer.queue(&write(1, 1000)).unwrap();
        let abandoned = tokio::time::timeout(std::time::Duration::from_millis(1), writer.flush()).await;
        assert!(abandoned.is_err() && writer.bytes() == 64);
        let mut reader = FrameReader::new(there, "source");
        let (flushed, frame) = tokio::join!(writer.flush(), reader.next());
        flushed.unwrap();
        assert!(frame.unwrap() == Some(write(1, 1000)));
    }

    #[tokio::test]
    async fn a_connection_that_ends_inside_a_frame_is_an_error() {
        let (mut here, there) = duplex(1 << 16);
        let mut bytes = Vec::new();
        change_stream::encode(&write(1, 100), Compression::None, &mut bytes).unwrap();
        here.write_all(&bytes[..bytes.len() - 1]).await.unwrap();
        drop(here);
        let error = FrameReader::new(there, "web01").next().await.unwrap_err();
        assert!(matches!(error, Error::CutShort { .. }) && error.to_string().contains("web01"), "{error}");
    }

    #[tokio::test]
    async fn garbage_is_refused_with_the_peer_named() {
        let (mut here, there) = duplex(1 << 16);
        here.write_all(&[b'x'; 100]).await.unwrap();
        let error = FrameReader::new(there, "web01").next().await.unwrap_err();
        assert_eq!(error.class(), disk::Class::Peer);
        assert!(error.to_string().contains("web01"), "{error}");
    }
}
