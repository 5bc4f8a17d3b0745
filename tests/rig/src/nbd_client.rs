//! The least that writes through NBD.

use std::io::{Read, Result, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// A client of one export, over a Unix socket; one request after the other.
pub struct NbdClient {
    socket: UnixStream,
    requests: u64,
}

impl NbdClient {
    /// Opens an export by the oldest handshake there is.
    pub fn connect(path: &Path, export: &str) -> Result<NbdClient> {
        let mut socket = UnixStream::connect(path)?;
        socket.read_exact(&mut [0; 18])?;
        socket.write_all(&3u32.to_be_bytes())?;
        socket.write_all(b"IHAVEOPT\0\0\0\x01")?;
        socket.write_all(&(export.len() as u32).to_be_bytes())?;
        socket.write_all(export.as_bytes())?;
        socket.read_exact(&mut [0; 10])?;
        Ok(NbdClient { socket, requests: 0 })
    }

    /// Writes; an error that the server answers with is a panic.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Result<()> {
        self.request(1, offset, data.len() as u32, data)
    }

    /// The error that a write is answered with, 0 for none.
    pub fn write_error(&mut self, offset: u64, data: &[u8]) -> Result<u32> {
        self.answer(1, offset, data.len() as u32, data)
    }

    /// Has everything made durable.
    pub fn flush(&mut self) -> Result<()> {
        self.request(3, 0, 0, &[])
    }

    fn request(&mut self, command: u16, offset: u64, length: u32, data: &[u8]) -> Result<()> {
        assert_eq!(self.answer(command, offset, length, data)?, 0, "the server answers with an error");
        Ok(())
    }

    fn answer(&mut self, command: u16, offset: u64, length: u32, data: &[u8]) -> Result<u32> {
        self.requests += 1;
        let mut request = 0x2560_9513u32.to_be_bytes().to_vec();
        request.extend(0u16.to_be_bytes());
        request.extend(command.to_be_bytes());
        request.extend(self.requests.to_be_bytes());
        request.extend(offset.to_be_bytes());
        request.extend(length.to_be_bytes());
        request.extend(data);
        self.socket.write_all(&request)?;
        let mut reply = [0; 16];
        self.socket.read_exact(&mut reply)?;
        Ok(u32::from_be_bytes([reply[4], reply[5], reply[6], reply[7]]))
    }
}
