//! From the greeting to the choice of an export.

use crate::input::Input;
use crate::wire::{
    ALLOCATION_CONTEXT, ALLOCATION_ID, FIXED_NEWSTYLE, Fields, GREETING, NO_ZEROES, OPTION_MAGIC,
    OPTION_REPLY_MAGIC, Put, info, option, reply,
};
use crate::{Error, Export, Exports, MAX_NAME, MAX_PAYLOAD, Result, Transmission};
use std::sync::Arc;

/// Longest option that is looked at: a name, and as many queries or information requests as anyone needs.
const MAX_OPTION: u32 = 64 << 10;
/// Longest option that is read to its end so that it can be refused; a longer one ends the connection.
const MAX_SKIPPED: u32 = 16 << 20;
const MAX_OPTIONS: u32 = 1000;
const OPTION_HEADER: usize = 16;
/// Requests of a multiple of this size, so aligned, are served best.
const PREFERRED_BLOCK: u32 = 4096;

/// Whether clients use TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// It is not available.
    Off,
    /// A client may ask for it.
    Allowed,
    /// Until a client has asked for it, it gets nothing else.
    Required,
}

/// What to do next.
pub enum Step {
    /// Send the output, if any; then read.
    Read,
    /// Send the output, then take the next step.
    Send,
    /// Send the output, perform the server's side of a TLS handshake, call [`Handshake::tls_started`], and go on
    /// over the encrypted connection.
    StartTls,
    /// Send the output; requests follow.
    Ready(Transmission),
    /// Send the output and close: the client wanted no more.
    Ended,
}

/// The state of one connection until its client has chosen an export.
pub struct Handshake {
    exports: Arc<Exports>,
    tls: TlsMode,
    encrypted: bool,
    input: Input,
    output: Vec<u8>,
    state: State,
    options: u32,
    no_zeroes: bool,
    fixed: bool,
    structured: bool,
    /// The export for which block status was selected.
    status_of: Option<Arc<Export>>,
}

enum State {
    ClientFlags,
    Options,
    /// Throwing away the rest of an option that is too long.
    Skipping {
        option: u32,
        left: u32,
    },
}

impl Handshake {
    /// A new connection: the greeting is ready to be sent.
    pub fn new(exports: Arc<Exports>, tls: TlsMode) -> Handshake {
        let mut output = Vec::with_capacity(256);
        output.put_u64(GREETING);
        output.put_u64(OPTION_MAGIC);
        output.put_u16(FIXED_NEWSTYLE | NO_ZEROES);
        Handshake {
            exports,
            tls,
            encrypted: false,
            input: Input::new(),
            output,
            state: State::ClientFlags,
            options: 0,
            no_zeroes: false,
            fixed: false,
            structured: false,
            status_of: None,
        }
    }

    /// Where to put bytes that arrive.
    pub fn read_buffer(&mut self) -> &mut [u8] {
        self.input.free()
    }

    /// Says that `length` bytes were put into the read buffer.
    ///
    /// # Panics
    /// When that is more than it holds.
    pub fn advance(&mut self, length: usize) {
        self.input.advance(length);
    }

    /// Bytes to send before anything else is done.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// The connection is encrypted from here on. What was agreed on in plain text is forgotten.
    pub fn tls_started(&mut self) {
        self.encrypted = true;
        self.structured = false;
        self.status_of = None;
    }

    /// Understands the next thing that has arrived.
    pub fn step(&mut self) -> Result<Step> {
        match self.state {
            State::ClientFlags => self.client_flags(),
            State::Options => self.option(),
            State::Skipping { option, left } => Ok(self.skip(option, left)),
        }
    }

    fn client_flags(&mut self) -> Result<Step> {
        let Some(found) = Fields(self.input.unread()).u32() else {
            return Ok(Step::Read);
        };
        let known = u32::from(FIXED_NEWSTYLE | NO_ZEROES);
        if found & !known != 0 {
            return Err(Error::ClientFlags { found, known });
        }
        self.fixed = found & u32::from(FIXED_NEWSTYLE) != 0;
        self.no_zeroes = found & u32::from(NO_ZEROES) != 0;
        self.input.consume(size_of::<u32>());
        self.state = State::Options;
        Ok(Step::Send)
    }

    fn option(&mut self) -> Result<Step> {
        let mut fields = Fields(self.input.unread());
        let (Some(found), Some(option), Some(length)) = (fields.u64(), fields.u32(), fields.u32()) else {
            return Ok(Step::Read);
        };
        if found != OPTION_MAGIC {
            let (what, number) = ("option", u64::from(self.options) + 1);
            return Err(Error::Magic { what, number, found, expected: OPTION_MAGIC });
        }
        if length > MAX_SKIPPED {
            return Err(Error::OptionTooLong { option, length, limit: MAX_SKIPPED });
        }
        if length > MAX_OPTION {
            self.input.consume(OPTION_HEADER);
            self.state = State::Skipping { option, left: length };
            return Ok(Step::Send);
        }
        let Some(data) = fields.0.get(..length as usize) else {
            return Ok(Step::Read);
        };
        let data = data.to_vec();
        self.input.consume(OPTION_HEADER + data.len());
        self.count()?;
        self.answer(option, &data)
    }

    fn skip(&mut self, option: u32, left: u32) -> Step {
        let available = self.input.unread().len();
        let skipped = available.min(left as usize);
        self.input.consume(skipped);
        let left = left - skipped as u32;
        if left > 0 {
            self.state = State::Skipping { option, left };
            return Step::Read;
        }
        self.state = State::Options;
        self.refuse(option, reply::TOO_BIG, "the option is too long")
    }

    fn count(&mut self) -> Result<()> {
        self.options += 1;
        if self.options > MAX_OPTIONS {
            return Err(Error::TooManyOptions { limit: MAX_OPTIONS });
        }
        Ok(())
    }

    fn answer(&mut self, option: u32, data: &[u8]) -> Result<Step> {
        if !self.fixed && option != option::EXPORT_NAME {
            return Err(Error::OldClient { option });
        }
        let in_plain_text = self.tls == TlsMode::Required && !self.encrypted;
        let asks_for_more = !matches!(option, option::ABORT | option::STARTTLS | option::EXPORT_NAME);
        if in_plain_text && asks_for_more {
            return Ok(self.refuse(option, reply::TLS_REQUIRED, "this server demands TLS"));
        }
        match option {
            option::EXPORT_NAME => self.export_name(data, in_plain_text),
            option::ABORT => {
                self.reply(option, reply::ACK, &[]);
                Ok(Step::Ended)
            }
            option::STARTTLS => self.start_tls(data),
            option::LIST => Ok(self.list(data)),
            option::INFO | option::GO => Ok(self.info(option, data)),
            option::STRUCTURED_REPLY => Ok(self.structured_reply(data)),
            option::LIST_META_CONTEXT | option::SET_META_CONTEXT => Ok(self.meta_context(option, data)),
            _ => Ok(self.refuse(option, reply::UNSUPPORTED, "this server does not know the option")),
        }
    }

    fn export_name(&mut self, data: &[u8], in_plain_text: bool) -> Result<Step> {
        let name = String::from_utf8_lossy(data);
        let refused = |why| {
            // What a hostile client chose is kept short in a message.
            Err(Error::Export { name: name.chars().take(MAX_SHOWN).collect(), why })
        };
        if in_plain_text {
            return refused("this server demands TLS");
        }
        let Some(export) = self.exports.find(&name) else {
            return refused("there is no such export");
        };
        self.output.put_u64(export.disk().size().0);
        self.output.put_u16(export.flags(self.structured));
        if !self.no_zeroes {
            self.output.extend_from_slice(&[0; 124]);
        }
        Ok(self.ready(export))
    }

    fn start_tls(&mut self, data: &[u8]) -> Result<Step> {
        let option = option::STARTTLS;
        if self.tls == TlsMode::Off {
            return Ok(self.refuse(option, reply::POLICY, "this server is not configured for TLS"));
        }
        if self.encrypted || !data.is_empty() {
            return Ok(self.refuse(option, reply::INVALID, "TLS is in use already, or the option has data"));
        }
        let bytes = self.input.unread().len();
        if bytes > 0 {
            return Err(Error::PlainTextAfterStartTls { bytes });
        }
        self.reply(option, reply::ACK, &[]);
        Ok(Step::StartTls)
    }

    fn list(&mut self, data: &[u8]) -> Step {
        if !data.is_empty() {
            return self.refuse(option::LIST, reply::INVALID, "the option may have no data");
        }
        for export in self.exports.list() {
            let mut entry = Vec::with_capacity(4 + export.name().len());
            entry.put_u32(export.name().len() as u32);
            entry.extend_from_slice(export.name().as_bytes());
            self.reply(option::LIST, reply::SERVER, &entry);
        }
        self.reply(option::LIST, reply::ACK, &[]);
        Step::Send
    }

    fn info(&mut self, option: u32, data: &[u8]) -> Step {
        let Some((name, wanted)) = info_request(data) else {
            return self.refuse(option, reply::INVALID, "the option's lengths contradict each other");
        };
        let Some(export) = self.exports.find(&name) else {
            return self.refuse(option, reply::UNKNOWN, "there is no such export");
        };
        let mut description = Vec::with_capacity(12);
        description.put_u16(info::EXPORT);
        description.put_u64(export.disk().size().0);
        description.put_u16(export.flags(self.structured));
        self.reply(option, reply::INFO, &description);
        if wanted.contains(&info::NAME) {
            let mut canonical = info::NAME.to_be_bytes().to_vec();
            canonical.extend_from_slice(export.name().as_bytes());
            self.reply(option, reply::INFO, &canonical);
        }
        if wanted.contains(&info::BLOCK_SIZE) {
            let mut sizes = info::BLOCK_SIZE.to_be_bytes().to_vec();
            [1, PREFERRED_BLOCK, MAX_PAYLOAD].into_iter().for_each(|size| sizes.put_u32(size));
            self.reply(option, reply::INFO, &sizes);
        }
        self.reply(option, reply::ACK, &[]);
        if option == option::GO { self.ready(export) } else { Step::Send }
    }

    fn structured_reply(&mut self, data: &[u8]) -> Step {
        if self.structured || !data.is_empty() {
            return self.refuse(option::STRUCTURED_REPLY, reply::INVALID, "asked twice, or with data");
        }
        self.structured = true;
        self.reply(option::STRUCTURED_REPLY, reply::ACK, &[]);
        Step::Send
    }

    fn meta_context(&mut self, option: u32, data: &[u8]) -> Step {
        let selects = option == option::SET_META_CONTEXT;
        if selects {
            self.status_of = None;
        }
        if !self.structured {
            return self.refuse(option, reply::INVALID, "structured replies have to be negotiated first");
        }
        let Some((name, queries)) = context_request(data) else {
            return self.refuse(option, reply::INVALID, "the option's lengths contradict each other");
        };
        let Some(export) = self.exports.find(&name) else {
            return self.refuse(option, reply::UNKNOWN, "there is no such export");
        };
        let named = queries.iter().any(|query| query == ALLOCATION_CONTEXT);
        let listed = !selects && (queries.is_empty() || queries.iter().any(|query| query == "base:"));
        if named || listed {
            let mut context = if selects { ALLOCATION_ID } else { 0 }.to_be_bytes().to_vec();
            context.extend_from_slice(ALLOCATION_CONTEXT.as_bytes());
            self.reply(option, reply::META_CONTEXT, &context);
        }
        if selects && named {
            self.status_of = Some(export);
        }
        self.reply(option, reply::ACK, &[]);
        Step::Send
    }

    fn ready(&mut self, export: Arc<Export>) -> Step {
        let status = self.status_of.take().is_some_and(|of| Arc::ptr_eq(&of, &export));
        let input = std::mem::replace(&mut self.input, Input::new());
        Step::Ready(Transmission::new(export, self.structured, status, input))
    }

    fn refuse(&mut self, option: u32, error: u32, why: &str) -> Step {
        self.reply(option, error, why.as_bytes());
        Step::Send
    }

    fn reply(&mut self, option: u32, kind: u32, data: &[u8]) {
        self.output.put_u64(OPTION_REPLY_MAGIC);
        self.output.put_u32(option);
        self.output.put_u32(kind);
        self.output.put_u32(data.len() as u32);
        self.output.extend_from_slice(data);
    }
}

/// Most characters of a client's text in a message.
const MAX_SHOWN: usize = 100;

fn info_request(data: &[u8]) -> Option<(String, Vec<u16>)> {
    let mut fields = Fields(data);
    let name = fields.text().filter(|name| name.len() <= MAX_NAME)?;
    let count = fields.u16()?;
    let wanted = (0..count).map(|_| fields.u16()).collect::<Option<Vec<_>>>()?;
    fields.end()?;
    Some((name, wanted))
}

fn context_request(data: &[u8]) -> Option<(String, Vec<String>)> {
    let mut fields = Fields(data);
    let name = fields.text().filter(|name| name.len() <= MAX_NAME)?;
    let count = fields.u32()?;
    // Each query takes at least the four bytes of its length, so a count too large ends this early.
    let queries = (0..count).map(|_| fields.text()).collect::<Option<Vec<_>>>()?;
    fields.end()?;
    Some((name, queries))
}
