//! The name that a TLS client wants to reach, out of its ClientHello.
//!
//! ```text
//!  record     22 │ 3 x │ length │ a piece of the message          as many as it takes
//!  message     1 │ length (3) │ version (2) │ random (32) │ session id <0..32> │ cipher suites <2..> │
//!                compression methods <1..> │ extensions <..>
//!  extension   type (2) │ <..>                                    type 0 is the server name
//!  names       <.. name type 0 │ host name <1..> ..>
//! ```
//!
//! Whoever can connect sends what he likes, so nothing is believed: every length is taken off what is really there, and
//! what is left over anywhere is an error. Nothing else of the hello matters here; the master target judges it.

use control_api::registration::valid_host_name;

/// The longest beginning of a connection that is read for its name, in bytes with the headers of records. Hellos have
/// from 200 to 2000 bytes.
pub const MAX_HELLO: usize = 16 << 10;

/// The longest record, by the standard.
const MAX_RECORD: usize = 1 << 14;
const RECORD_HANDSHAKE: u8 = 22;
const MAJOR_VERSION: u8 = 3;
const CLIENT_HELLO: u8 = 1;
const EXTENSION_SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

/// Why there is no name to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It is something else than TLS.
    NotTls,
    /// It is longer than [`MAX_HELLO`].
    TooLong,
    /// It contradicts itself.
    Malformed,
    /// It names nobody, or nobody by a DNS name.
    NoName,
}

/// The name in what a client has sent so far, in lower case; `None` when more of it has to come.
pub fn server_name(received: &[u8]) -> Result<Option<String>, Problem> {
    match message(received)? {
        Some(message) => name_in(&message).map(Some),
        None if received.len() >= MAX_HELLO => Err(Problem::TooLong),
        None => Ok(None),
    }
}

/// The body of the ClientHello, put together from its records.
fn message(received: &[u8]) -> Result<Option<Vec<u8>>, Problem> {
    let (mut rest, mut message) = (received, Vec::new());
    loop {
        let starts_so = |place: usize, byte: u8| rest.get(place).is_none_or(|found| *found == byte);
        if !starts_so(0, RECORD_HANDSHAKE) || !starts_so(1, MAJOR_VERSION) {
            return Err(Problem::NotTls);
        }
        let Some((header, after)) = rest.split_first_chunk::<5>() else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if length == 0 || length > MAX_RECORD {
            return Err(Problem::NotTls);
        }
        let piece = &after[..length.min(after.len())];
        message.extend_from_slice(piece);
        if let Some(whole) = whole(&message)? {
            return Ok(Some(whole.to_vec()));
        }
        if piece.len() < length {
            return Ok(None);
        }
        rest = &after[length..];
    }
}

/// The body of a message, once it is there.
fn whole(message: &[u8]) -> Result<Option<&[u8]>, Problem> {
    if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Err(Problem::NotTls);
    }
    let Some((header, body)) = message.split_first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes([0, header[1], header[2], header[3]]) as usize;
    if length > MAX_HELLO {
        return Err(Problem::TooLong);
    }
    Ok(body.get(..length))
}

fn name_in(hello: &[u8]) -> Result<String, Problem> {
    let extensions = extensions(hello).ok_or(Problem::Malformed)?;
    let mut found = None;
    let mut rest = Reader(extensions);
    while !rest.is_empty() {
        let (kind, content) = rest.extension().ok_or(Problem::Malformed)?;
        if kind == EXTENSION_SERVER_NAME && found.replace(content).is_some() {
            return Err(Problem::Malformed);
        }
    }
    let name = host_name(found.ok_or(Problem::NoName)?).ok_or(Problem::Malformed)?;
    let name = std::str::from_utf8(name).map_err(|_| Problem::NoName)?;
    match valid_host_name(name) {
        true => Ok(name.to_ascii_lowercase()),
        false => Err(Problem::NoName),
    }
}

/// All extensions; a hello of old may end before them.
fn extensions(hello: &[u8]) -> Option<&[u8]> {
    let mut rest = Reader(hello);
    rest.take(2 + 32)?;
    let (session_id, suites, methods) = (rest.short()?, rest.long()?, rest.short()?);
    let good = session_id.len() <= 32 && !suites.is_empty() && suites.len() % 2 == 0 && !methods.is_empty();
    if rest.is_empty() {
        return good.then_some(&[]);
    }
    let extensions = rest.long()?;
    (good && rest.is_empty()).then_some(extensions)
}

/// The one host name in the extension.
fn host_name(content: &[u8]) -> Option<&[u8]> {
    let mut rest = Reader(content);
    let list = rest.long()?;
    let mut names = Reader(list);
    let (kind, name) = (names.take(1)?, names.long()?);
    (rest.is_empty() && names.is_empty() && kind == [HOST_NAME] && !name.is_empty()).then_some(name)
}

/// What is yet to be read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        let bytes = self.take(2)?;
        Some(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// What a length of one byte stands before.
    fn short(&mut self) -> Option<&'a [u8]> {
        let length = self.take(1)?[0];
        self.take(usize::from(length))
    }

    /// What a length of two bytes stands before.
    fn long(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(usize::from(length))
    }

    fn extension(&mut self) -> Option<(u16, &'a [u8])> {
        Some((self.number()?, self.long()?))
    }
}

#[cfg(test)]
mod tests;
