//! From bytes to requests, once an export is chosen.

use crate::input::Input;
use crate::request::{Header, Request};
use crate::wire::{Fields, REQUEST_MAGIC, command};
use crate::{Error, Export, MAX_PAYLOAD, Result};
use std::sync::Arc;

const REQUEST_HEADER: usize = 28;
/// A payload up to this size is copied out of the input together with its neighbours; a longer one is read
/// straight to where it stays.
const COPIED_PAYLOAD: usize = 64 << 10;

/// What has arrived.
pub enum Incoming {
    /// Not a whole request yet: read.
    Nothing,
    /// A request to be run.
    Request(Request),
    /// The client takes its leave: finish what is running, then close.
    Disconnect,
}

/// The state of one connection whose client has chosen an export.
pub struct Transmission {
    export: Arc<Export>,
    structured: bool,
    status: bool,
    input: Input,
    state: State,
    requests: u64,
}

enum State {
    Header,
    /// Filling the payload of a write.
    Payload {
        header: Header,
        data: Vec<u8>,
        filled: usize,
    },
    /// Throwing away the payload of a write that will be refused.
    Skipping {
        refusal: Request,
        left: u32,
    },
}

impl Transmission {
    pub(crate) fn new(export: Arc<Export>, structured: bool, status: bool, input: Input) -> Transmission {
        Transmission { export, structured, status, input, state: State::Header, requests: 0 }
    }

    /// The export that the client chose.
    pub fn export(&self) -> &Arc<Export> {
        &self.export
    }

    /// Where to put bytes that arrive. It is never empty after [`Incoming::Nothing`].
    pub fn read_buffer(&mut self) -> &mut [u8] {
        match &mut self.state {
            State::Payload { data, filled, .. } => &mut data[*filled..],
            _ => self.input.free(),
        }
    }

    /// Says that `length` bytes were put into the read buffer.
    ///
    /// # Panics
    /// When that is more than it holds.
    pub fn advance(&mut self, length: usize) {
        match &mut self.state {
            State::Payload { data, filled, .. } => {
                assert!(length <= data.len() - *filled, "more was read than the buffer holds");
                *filled += length;
            }
            _ => self.input.advance(length),
        }
    }

    /// The next request. After an error the connection cannot be understood any more.
    #[allow(clippy::should_implement_trait)] // an iterator would end where this one waits
    pub fn next(&mut self) -> Result<Incoming> {
        match std::mem::replace(&mut self.state, State::Header) {
            State::Header => self.header(),
            State::Payload { header, data, filled } if filled == data.len() => {
                Ok(Incoming::Request(self.write(header, data)))
            }
            State::Skipping { refusal, left } => Ok(self.skip(refusal, left)),
            waiting => {
                self.state = waiting;
                Ok(Incoming::Nothing)
            }
        }
    }

    fn header(&mut self) -> Result<Incoming> {
        let Some(header) = self.peek()? else {
            return Ok(Incoming::Nothing);
        };
        if header.command == command::DISCONNECT {
            return Ok(Incoming::Disconnect);
        }
        if header.command != command::WRITE {
            self.input.consume(REQUEST_HEADER);
            self.requests += 1;
            let request = Request::new(header, &self.export, self.structured, self.status);
            return Ok(Incoming::Request(request));
        }
        Ok(self.write_header(header))
    }

    fn write_header(&mut self, header: Header) -> Incoming {
        let length = header.length;
        if let Some(refusal) = Request::refusal_of_write(&header, &self.export, self.structured) {
            self.input.consume(REQUEST_HEADER);
            self.requests += 1;
            return self.skip(refusal, length);
        }
        debug_assert!(length <= MAX_PAYLOAD);
        let length = length as usize;
        let arrived = &self.input.unread()[REQUEST_HEADER..];
        if let Some(data) = arrived.get(..length) {
            let data = data.to_vec();
            self.input.consume(REQUEST_HEADER + length);
            self.requests += 1;
            return Incoming::Request(self.write(header, data));
        }
        if length <= COPIED_PAYLOAD {
            return Incoming::Nothing;
        }
        let filled = arrived.len();
        let mut data = vec![0; length];
        data[..filled].copy_from_slice(arrived);
        self.input.consume(REQUEST_HEADER + filled);
        self.requests += 1;
        self.state = State::Payload { header, data, filled };
        Incoming::Nothing
    }

    fn write(&self, header: Header, data: Vec<u8>) -> Request {
        Request::write(header, data, &self.export, self.structured)
    }

    fn skip(&mut self, refusal: Request, left: u32) -> Incoming {
        let skipped = self.input.unread().len().min(left as usize);
        self.input.consume(skipped);
        let left = left - skipped as u32;
        if left == 0 {
            return Incoming::Request(refusal);
        }
        self.state = State::Skipping { refusal, left };
        Incoming::Nothing
    }

    fn peek(&self) -> Result<Option<Header>> {
        let mut fields = Fields(self.input.unread());
        let Some(found) = fields.u32() else {
            return Ok(None);
        };
        if found != REQUEST_MAGIC {
            let (found, expected) = (u64::from(found), u64::from(REQUEST_MAGIC));
            return Err(Error::Magic { what: "request", number: self.requests + 1, found, expected });
        }
        Ok(Header::read(&mut fields))
    }
}
