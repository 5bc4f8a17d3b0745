//! Every handshake that should fail, and the one that should not.

use super::*;
use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assume, proptest};
use rand_core::{CryptoRng, RngCore};

/// Randomness that a seed repeats.
pub(in super::super) struct Counter {
    seed: u64,
    block: u64,
}

impl Counter {
    pub(in super::super) fn new(seed: u64) -> Counter {
        Counter { seed, block: 0 }
    }
}

impl RngCore for Counter {
    fn next_u32(&mut self) -> u32 {
        self.next_u64() as u32
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_bytes(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        self.block += 1;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.seed.to_le_bytes()).update(&self.block.to_le_bytes());
        hasher.finalize_xof().fill(bytes);
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> std::result::Result<(), rand_core::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

impl CryptoRng for Counter {}

fn passphrase(text: &str) -> Passphrase {
    Passphrase::parse(text).unwrap()
}

fn binding() -> Binding {
    Binding { exporter: [7; 32], ca: b"an authority".to_vec() }
}

/// What becomes of each message, told by its number.
type Change = Box<dyn Fn(usize, &mut Vec<u8>)>;

/// A handshake in which each message can be changed on its way.
struct Run {
    seed: u64,
    client: (Passphrase, Binding),
    server: (Passphrase, Binding),
    change: Change,
}

impl Run {
    fn good() -> Run {
        let side = || (passphrase("correct-horse-42"), binding());
        Run { seed: 1, client: side(), server: side(), change: Box::new(|_, _| {}) }
    }

    /// What each side comes to.
    fn outcome(&self) -> (Result<Session>, Result<Session>) {
        let failed = |cause| (Err(cause), Err(cause));
        let (mut ours, mut theirs) = (Counter::new(self.seed), Counter::new(!self.seed));
        let (client, mut hello) = Client::start(&mut ours, &self.client.0).unwrap();
        (self.change)(0, &mut hello);
        let (server, mut reply) = match Server::start(&mut theirs, &self.server.0, &hello, &self.server.1) {
            Ok(started) => started,
            Err(cause) => return failed(cause),
        };
        (self.change)(1, &mut reply);
        match client.finish(&mut ours, &reply, &self.client.1) {
            Ok((session, mut proof)) => {
                (self.change)(2, &mut proof);
                (Ok(session), server.finish(&proof))
            }
            // Whoever goes on without the passphrase has no better proof than a made-up one.
            Err(cause) => (Err(cause), server.finish(&[0; PROOF_LENGTH])),
        }
    }

    fn fails(&self) -> bool {
        matches!(self.outcome(), (Err(_), Err(_)))
    }
}

#[test]
fn both_sides_come_to_the_same_key() {
    let (Ok(client), Ok(server)) = Run::good().outcome() else { panic!("the handshake failed") };
    let sealed = client.seal(Sender::Host, "please".into());
    assert_eq!(server.open(Sender::Host, &sealed), Ok("please"));
    let answer = server.seal(Sender::Server, "granted".into());
    assert_eq!(client.open(Sender::Server, &answer), Ok("granted"));
}

#[test]
fn another_passphrase_channel_or_authority_fails_on_both_sides() {
    let mut run = Run::good();
    run.client.0 = passphrase("correct-horse-43");
    assert!(run.fails());
    let mut run = Run::good();
    run.client.1.exporter[31] ^= 1;
    assert!(run.fails());
    let mut run = Run::good();
    run.server.1.ca.push(0);
    assert!(run.fails());
}

/// The forms stay: a host and a server of different versions have to understand each other.
#[test]
fn the_messages_are_as_they_always_were() {
    let shown = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut run = Run::good();
    let seen = shown.clone();
    run.change = Box::new(move |_, message| {
        seen.lock().unwrap().push((message.len(), blake3::hash(message).to_hex()[..16].to_owned()));
    });
    let (Ok(client), Ok(_)) = run.outcome() else { panic!("the handshake failed") };
    let sealed = client.seal(Sender::Host, "please".into());
    let shown = shown.lock().unwrap();
    let expected = [(HELLO_LENGTH, GOLDEN[0]), (REPLY_LENGTH, GOLDEN[1]), (PROOF_LENGTH, GOLDEN[2])];
    assert_eq!(shown.iter().map(|(length, hash)| (*length, hash.as_str())).collect::<Vec<_>>(), expected);
    assert_eq!(sealed.tag.to_string()[..16], *GOLDEN[3]);
}

const GOLDEN: [&str; 4] = ["296438edbf9edba8", "90385461704f2bf5", "028428cf19ed93ab", "de09e08c4b9b497d"];

#[test]
fn a_sealed_text_belongs_to_its_sender_and_session() {
    let (Ok(client), Ok(server)) = Run::good().outcome() else { panic!("the handshake failed") };
    let sealed = client.seal(Sender::Host, "please".into());
    assert_eq!(server.open(Sender::Server, &sealed), Err(HandshakeError::Changed));
    let text = Sealed { text: "Please".into(), ..sealed.clone() };
    assert_eq!(server.open(Sender::Host, &text), Err(HandshakeError::Changed));
    let mut tag = sealed.clone();
    tag.tag.0[0] ^= 1;
    assert_eq!(server.open(Sender::Host, &tag), Err(HandshakeError::Changed));
    let short = Sealed { tag: Hex(vec![0; 31]), ..sealed.clone() };
    assert_eq!(server.open(Sender::Host, &short), Err(HandshakeError::Changed));
    let other = Run { seed: 2, ..Run::good() };
    let (_, Ok(other)) = other.outcome() else { panic!("the handshake failed") };
    assert_eq!(other.open(Sender::Host, &sealed), Err(HandshakeError::Changed));
}

/// Beginning, state and end of what a message could be.
const LENGTHS: [usize; 3] = [HELLO_LENGTH, REPLY_LENGTH, PROOF_LENGTH];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_changed_bit_of_any_message_makes_it_fail(which in 0usize..3, at in 0usize..8 * 320, seed: u64) {
        let at = at % (8 * LENGTHS[which]);
        let mut run = Run { seed, ..Run::good() };
        run.change = Box::new(move |message, bytes| {
            if message == which {
                bytes[at / 8] ^= 1 << (at % 8);
            }
        });
        let (client, server) = run.outcome();
        // A changed third message is seen by the server alone, which then sends no certificate.
        prop_assert!(server.is_err());
        prop_assert!(which == 2 || client.is_err());
    }

    #[test]
    fn any_other_passphrase_makes_it_fail(text in "[!-~]{1,40}", seed: u64) {
        prop_assume!(text != "correct-horse-42");
        let mut run = Run { seed, ..Run::good() };
        run.client.0 = passphrase(&text);
        prop_assert!(run.fails());
    }

    #[test]
    fn any_other_channel_makes_it_fail(at in 0usize..256, seed: u64) {
        let mut run = Run { seed, ..Run::good() };
        run.server.1.exporter[at / 8] ^= 1 << (at % 8);
        prop_assert!(run.fails());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut random = Counter::new(3);
        let known = passphrase("correct-horse-42");
        let _ = Server::start(&mut random, &known, &bytes, &binding());
        let (client, hello) = Client::start(&mut random, &known).unwrap();
        prop_assert!(client.finish(&mut random, &bytes, &binding()).is_err());
        let (server, _) = Server::start(&mut random, &known, &hello, &binding()).unwrap();
        prop_assert!(server.finish(&bytes).is_err());
    }
}
