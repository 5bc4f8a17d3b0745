//! The server against transcripts written by hand: every byte that it must send, and what ends a connection.

use disk::{ByteRange, Bytes, Class, Disk, Extent, Fault, FaultDisk, FaultPlan, MemoryDisk, Operation};
use nbd::{Error, Export, Exports, Handshake, Incoming, MAX_PAYLOAD, Step, TlsMode, Transmission};
use std::sync::Arc;

const GREETING: &[u8] = b"NBDMAGICIHAVEOPT\x00\x03";
const GO: u32 = 7;

/// A disk whose first 64 KiB are data and whose rest is a hole.
struct HalfHole(MemoryDisk);

impl Disk for HalfHole {
    fn name(&self) -> &str {
        self.0.name()
    }
    fn size(&self) -> Bytes {
        self.0.size()
    }
    fn read_at(&self, offset: Bytes, buffer: &mut [u8]) -> disk::Result<()> {
        self.0.read_at(offset, buffer)
    }
    fn write_at(&self, offset: Bytes, data: &[u8]) -> disk::Result<()> {
        self.0.write_at(offset, data)
    }
    fn write_zeroes(&self, range: ByteRange) -> disk::Result<()> {
        self.0.write_zeroes(range)
    }
    fn sync(&self) -> disk::Result<()> {
        self.0.sync()
    }
    fn extent_at(&self, offset: Bytes) -> disk::Result<Extent> {
        let middle = Bytes(65536);
        Ok(match offset < middle {
            true => Extent { length: middle - offset, allocation: disk::Allocation::Data },
            false => Extent { length: self.size() - offset, allocation: disk::Allocation::Hole },
        })
    }
}

fn exports(disk: impl Disk + 'static) -> Arc<Exports> {
    let exports = Exports::new();
    exports.add(Export::new("d", Arc::new(disk), false)).unwrap();
    Arc::new(exports)
}

fn memory() -> Arc<Exports> {
    exports(MemoryDisk::with_contents("m", (0..=255).cycle().take(131_072).collect()))
}

fn option(number: u32, data: &[u8]) -> Vec<u8> {
    let header = [b"IHAVEOPT".as_slice(), &number.to_be_bytes(), &(data.len() as u32).to_be_bytes()];
    [header.concat().as_slice(), data].concat()
}

fn reply(number: u32, kind: u32, data: &[u8]) -> Vec<u8> {
    let magic = 0x0003_e889_0455_65a9_u64.to_be_bytes();
    let length = data.len() as u32;
    let numbers = [number, kind, length].map(u32::to_be_bytes).concat();
    [magic.as_slice(), &numbers, data].concat()
}

fn text(text: &str) -> Vec<u8> {
    [(text.len() as u32).to_be_bytes().as_slice(), text.as_bytes()].concat()
}

fn go() -> Vec<u8> {
    option(GO, &[text("d"), vec![0, 0]].concat())
}

fn feed(handshake: &mut Handshake, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let buffer = handshake.read_buffer();
        let length = buffer.len().min(bytes.len());
        buffer[..length].copy_from_slice(&bytes[..length]);
        handshake.advance(length);
        bytes = &bytes[length..];
        if !bytes.is_empty() {
            while !matches!(handshake.step().unwrap(), Step::Read) {}
        }
    }
}

/// Steps until the server wants to read or the handshake is over.
fn settle(handshake: &mut Handshake) -> Result<Step, Error> {
    loop {
        match handshake.step()? {
            Step::Send => {}
            step => return Ok(step),
        }
    }
}

/// A fixed newstyle client that wants no zeroes has said hello.
fn greeted(exports: Arc<Exports>, tls: TlsMode) -> Handshake {
    let mut handshake = Handshake::new(exports, tls);
    assert_eq!(handshake.take_output(), GREETING);
    feed(&mut handshake, &[0, 0, 0, 3]);
    assert!(matches!(settle(&mut handshake), Ok(Step::Read)));
    handshake
}

fn answer_to(handshake: &mut Handshake, sent: &[u8]) -> Vec<u8> {
    feed(handshake, sent);
    assert!(matches!(settle(handshake), Ok(Step::Read)));
    handshake.take_output()
}

fn opened(exports: Arc<Exports>, options: &[Vec<u8>]) -> Transmission {
    let mut handshake = greeted(exports, TlsMode::Off);
    for option in options {
        answer_to(&mut handshake, option);
    }
    feed(&mut handshake, &go());
    match settle(&mut handshake) {
        Ok(Step::Ready(transmission)) => transmission,
        _ => panic!("the export was not opened"),
    }
}

fn request(flags: u16, command: u16, offset: u64, length: u32) -> Vec<u8> {
    let cookie = 0x1122_3344_5566_7788_u64;
    [
        0x2560_9513_u32.to_be_bytes().as_slice(),
        &flags.to_be_bytes(),
        &command.to_be_bytes(),
        &cookie.to_be_bytes(),
        &offset.to_be_bytes(),
        &length.to_be_bytes(),
    ]
    .concat()
}

/// Sends bytes in pieces of at most `piece`, and returns the answers.
fn converse(transmission: &mut Transmission, mut bytes: &[u8], piece: usize) -> Result<Vec<u8>, Error> {
    let mut answer = Vec::new();
    loop {
        loop {
            match transmission.next()? {
                Incoming::Request(request) => request.run(&mut answer),
                Incoming::Nothing => break,
                Incoming::Disconnect => return Ok(answer),
            }
        }
        if bytes.is_empty() {
            return Ok(answer);
        }
        let buffer = transmission.read_buffer();
        let length = buffer.len().min(bytes.len()).min(piece);
        buffer[..length].copy_from_slice(&bytes[..length]);
        transmission.advance(length);
        bytes = &bytes[length..];
    }
}

fn simple(errno: u32) -> Vec<u8> {
    [&hex("67446698"), errno.to_be_bytes().as_slice(), &hex("1122334455667788")].concat()
}

fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<_> = digits.chars().filter(|digit| !digit.is_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap()).collect()
}

#[test]
fn golden_handshake() {
    let mut handshake = greeted(memory(), TlsMode::Off);
    assert_eq!(
        answer_to(&mut handshake, &option(8, &[])),
        hex("0003e889045565a9 00000008 00000001 00000000")
    );
    assert_eq!(
        answer_to(&mut handshake, &option(3, &[])),
        hex("0003e889045565a9 00000003 00000002 00000005 00000001 64
             0003e889045565a9 00000003 00000001 00000000")
    );
    let context = [text("d"), vec![0, 0, 0, 1], text("base:allocation")].concat();
    let selected = [vec![0, 0, 0, 1], b"base:allocation".to_vec()].concat();
    assert_eq!(
        answer_to(&mut handshake, &option(10, &context)),
        [reply(10, 4, &selected), reply(10, 1, &[])].concat()
    );
    feed(&mut handshake, &option(GO, &[text("d"), hex("0001 0003")].concat()));
    assert!(matches!(settle(&mut handshake), Ok(Step::Ready(_))));
    assert_eq!(
        handshake.take_output(),
        hex("0003e889045565a9 00000007 00000003 0000000c 0000 0000000000020000 01ed
             0003e889045565a9 00000007 00000003 0000000e 0003 00000001 00001000 02000000
             0003e889045565a9 00000007 00000001 00000000")
    );
}

#[test]
fn golden_export_name_with_and_without_zeroes() {
    for (flags, zeroes) in [(1u8, 124), (3, 0)] {
        let mut handshake = Handshake::new(memory(), TlsMode::Off);
        handshake.take_output();
        feed(&mut handshake, &[vec![0, 0, 0, flags], option(1, b"d")].concat());
        assert!(matches!(settle(&mut handshake), Ok(Step::Ready(_))));
        let expected = [hex("0000000000020000 016d"), vec![0; zeroes]].concat();
        assert_eq!(handshake.take_output(), expected);
    }
}

#[test]
fn golden_simple_replies() {
    let mut transmission = opened(memory(), &[]);
    let sent = [
        request(0, 0, 254, 4),
        request(1, 1, 10, 3),
        b"xyz".to_vec(),
        request(0, 0, 9, 5),
        request(0, 3, 0, 0),
        request(0, 9, 0, 0),
        request(0, 2, 0, 0),
    ]
    .concat();
    let expected = [
        simple(0),
        vec![254, 255, 0, 1],
        simple(0),
        simple(0),
        b"\x09xyz\x0d".to_vec(),
        simple(0),
        simple(22),
    ]
    .concat();
    for piece in [1, 7, 1 << 20] {
        assert_eq!(converse(&mut transmission, &sent, piece).unwrap(), expected);
        transmission = opened(memory(), &[]);
    }
}

#[test]
fn golden_structured_replies() {
    let half = exports(HalfHole(MemoryDisk::new("h", Bytes(1 << 20))));
    let context = [text("d"), vec![0, 0, 0, 1], text("base:allocation")].concat();
    let mut transmission = opened(half, &[option(8, &[]), option(10, &context)]);
    let chunk = |flags_kind: &str, length: &str| {
        [hex("668e33ef"), hex(flags_kind), hex("1122334455667788"), hex(length)].concat()
    };
    let answer = converse(&mut transmission, &request(0, 0, 65536 - 2, 65536), 99).unwrap();
    let expected = [
        chunk("0000 0001", "0000000a"),
        hex("000000000000fffe 0000"),
        chunk("0001 0002", "0000000c"),
        hex("0000000000010000 0000fffe"),
    ]
    .concat();
    assert_eq!(answer, expected);
    let answer = converse(&mut transmission, &request(0, 7, 65000, 1000), 99).unwrap();
    let extents = hex("00000001 00000218 00000000 000001d0 00000003");
    assert_eq!(answer, [chunk("0001 0005", "00000014"), extents].concat());
    let answer = converse(&mut transmission, &request(0, 3, 0, 0), 99).unwrap();
    assert_eq!(answer, chunk("0001 0000", "00000000"));
    let answer = converse(&mut transmission, &request(0, 0, 1 << 20, 1), 99).unwrap();
    let why = b"the range is empty or leaves the disk";
    let error = [hex("00000016 0025"), why.to_vec()].concat();
    assert_eq!(answer, [chunk("0001 8001", "0000002b"), error].concat());
}

#[test]
fn a_disk_error_takes_the_place_of_the_data_and_the_connection_goes_on() {
    let plan = FaultPlan::none().at(Operation::Read, 0, Fault::Fail).at(Operation::Write, 0, Fault::NoSpace);
    let mut transmission = opened(exports(FaultDisk::new(MemoryDisk::new("m", Bytes(4096)), plan)), &[]);
    let sent = [request(0, 0, 0, 512), request(0, 6, 0, 512), request(0, 0, 0, 1)].concat();
    let expected = [simple(5), simple(28), simple(0), vec![0]].concat();
    assert_eq!(converse(&mut transmission, &sent, 512).unwrap(), expected);
}

#[test]
fn a_payload_that_is_refused_is_read_to_its_end() {
    let mut transmission = opened(memory(), &[]);
    let length = MAX_PAYLOAD + 1;
    let mut sent = request(0, 1, 0, length);
    sent.resize(sent.len() + length as usize, 0x25);
    sent.extend(request(0, 1, 131_071, 2));
    sent.extend(b"xx");
    sent.extend(request(0, 0, 1, 1));
    let expected = [simple(22), simple(28), simple(0), vec![1]].concat();
    assert_eq!(converse(&mut transmission, &sent, 1 << 20).unwrap(), expected);
}

#[test]
fn a_long_payload_arrives_whole_however_it_is_cut() {
    let data: Vec<u8> = (0..100_000u32).map(|at| (at / 3) as u8).collect();
    for piece in [1000, 65_537, 1 << 20] {
        let exports = memory();
        let mut transmission = opened(exports.clone(), &[]);
        let sent = [request(0, 1, 7, 100_000), data.clone(), request(0, 3, 0, 0)].concat();
        assert_eq!(converse(&mut transmission, &sent, piece).unwrap(), [simple(0), simple(0)].concat());
        let mut seen = vec![0; 100_000];
        exports.find("d").unwrap().disk().read_at(Bytes(7), &mut seen).unwrap();
        assert!(seen == data);
    }
}

#[test]
fn what_cannot_be_understood_ends_the_connection() {
    let mut transmission = opened(memory(), &[]);
    let sent = [request(0, 3, 0, 0), vec![0xff; 28]].concat();
    let error = converse(&mut transmission, &sent, 99).unwrap_err();
    assert_eq!(error.to_string(), "its request number 2 begins with 0xffffffff, not with 0x25609513");
    assert_eq!(error.class(), Class::Peer);

    let ended_by = |bytes: &[u8]| {
        let mut handshake = Handshake::new(memory(), TlsMode::Off);
        feed(&mut handshake, bytes);
        settle(&mut handshake).map(|_| ()).unwrap_err()
    };
    assert!(matches!(ended_by(&[0, 0, 0, 7]), Error::ClientFlags { found: 7, known: 3 }));
    assert!(matches!(ended_by(&[[0, 0, 0, 3].as_slice(), &[b'x'; 16]].concat()), Error::Magic { .. }));
    assert!(matches!(ended_by(&[[0, 0, 0, 0].as_slice(), &go()].concat()), Error::OldClient { option: GO }));
    let absent = [[0, 0, 0, 3].as_slice(), &option(1, b"absent")].concat();
    assert!(matches!(ended_by(&absent), Error::Export { name, .. } if name == "absent"));
    let mut long = [[0, 0, 0, 3].as_slice(), &option(3, &[])].concat();
    long[16..20].copy_from_slice(&u32::MAX.to_be_bytes());
    assert!(matches!(ended_by(&long), Error::OptionTooLong { length: u32::MAX, .. }));
    let many = [vec![0, 0, 0, 3], option(3, &[]).repeat(1001)].concat();
    assert!(matches!(ended_by(&many), Error::TooManyOptions { limit: 1000 }));
}

#[test]
fn options_that_are_refused_leave_the_handshake_going() {
    let mut handshake = greeted(memory(), TlsMode::Off);
    let mut refused = |number: u32, data: &[u8]| {
        let answer = answer_to(&mut handshake, &option(number, data));
        u32::from_be_bytes(answer[12..16].try_into().unwrap()) ^ 1 << 31
    };
    assert_eq!(refused(11, &[]), 1, "extended headers");
    assert_eq!(refused(99, b"?"), 1, "unknown");
    assert_eq!(refused(5, &[]), 2, "TLS where there is none");
    assert_eq!(refused(GO, &[text("absent"), vec![0, 0]].concat()), 6, "unknown export");
    assert_eq!(refused(GO, &[text("d"), vec![0, 1]].concat()), 3, "one request announced, none there");
    assert_eq!(refused(GO, &u32::MAX.to_be_bytes()), 3, "a name longer than the option");
    assert_eq!(refused(3, b"x"), 3, "a list with data");
    assert_eq!(refused(10, &[text("d"), vec![0xff; 4]].concat()), 3, "contexts before structured replies");
    assert_eq!(refused(7, &vec![0; 100_000]), 9, "too long");
    assert_eq!(refused(10, &vec![0; 65_537]), 9, "too long");
}

#[test]
fn nothing_is_served_before_tls_where_it_is_required() {
    let mut handshake = greeted(memory(), TlsMode::Required);
    for number in [3, 6, 7, 8, 9, 10, 11] {
        let answer = answer_to(&mut handshake, &option(number, &text("d")));
        assert_eq!(answer[12..16], (5u32 | 1 << 31).to_be_bytes());
    }
    feed(&mut handshake, &option(5, &[]));
    assert!(matches!(settle(&mut handshake), Ok(Step::StartTls)));
    assert_eq!(handshake.take_output(), reply(5, 1, &[]));
    handshake.tls_started();
    feed(&mut handshake, &go());
    assert!(matches!(settle(&mut handshake), Ok(Step::Ready(_))));

    let mut handshake = greeted(memory(), TlsMode::Required);
    feed(&mut handshake, &option(1, b"d"));
    assert!(matches!(settle(&mut handshake), Err(Error::Export { .. })));
}

#[test]
fn plain_text_behind_the_request_for_tls_ends_the_connection() {
    let mut handshake = greeted(memory(), TlsMode::Allowed);
    feed(&mut handshake, &[option(5, &[]), go()].concat());
    assert!(matches!(settle(&mut handshake), Err(Error::PlainTextAfterStartTls { .. })));
}

#[test]
fn what_was_agreed_on_in_plain_text_is_forgotten_by_tls() {
    let mut handshake = greeted(memory(), TlsMode::Allowed);
    answer_to(&mut handshake, &option(8, &[]));
    feed(&mut handshake, &option(5, &[]));
    assert!(matches!(settle(&mut handshake), Ok(Step::StartTls)));
    handshake.take_output();
    handshake.tls_started();
    assert_eq!(answer_to(&mut handshake, &option(8, &[])), reply(8, 1, &[]));
    let again = answer_to(&mut handshake, &option(5, &[]));
    assert_eq!(again[12..16], (3u32 | 1 << 31).to_be_bytes());
}

#[test]
fn a_withdrawn_export_refuses_with_shutdown() {
    let exports = memory();
    let mut transmission = opened(exports.clone(), &[]);
    assert!(exports.remove("d").is_some() && exports.find("d").is_none());
    assert_eq!(converse(&mut transmission, &request(0, 0, 0, 1), 99).unwrap(), simple(108));
}

#[test]
fn names_are_unique_and_the_empty_one_means_the_only_export() {
    let exports = memory();
    let disk = || Arc::new(MemoryDisk::new("m", Bytes(1)));
    assert_eq!(exports.find("").unwrap().name(), "d");
    let taken = exports.add(Export::new("d", disk(), true)).map(|_| ()).unwrap_err();
    assert_eq!(taken.class(), Class::Operator);
    assert!(exports.add(Export::new("x".repeat(5000), disk(), true)).is_err());
    exports.add(Export::new("e", disk(), true)).unwrap();
    assert!(exports.find("").is_none());
}
