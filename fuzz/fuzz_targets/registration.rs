//! Whatever arrives as a message of registration is read or refused; what is read is written and read again to itself.
//!
//! The first byte chooses what the rest is taken for.

#![no_main]

use control_api::ApiError;
use control_api::registration::handshake::{Binding, Client, Server};
use control_api::registration::rand_core::{CryptoRng, Error, RngCore};
use control_api::registration::{
    FinishReply, FinishRequest, Hex, Passphrase, RegistrationAnswer, RegistrationRequest, RenewalRequest, StartReply,
    StartRequest, decode,
};
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;

fuzz_target!(|input: &[u8]| {
    let Some((kind, bytes)) = input.split_first() else { return };
    match kind % 10 {
        0 => json::<StartRequest>(bytes),
        1 => json::<StartReply>(bytes),
        2 => json::<FinishRequest>(bytes),
        3 => json::<FinishReply>(bytes),
        4 => json::<RegistrationAnswer>(bytes),
        5 => json::<RenewalRequest>(bytes),
        6 => json::<ApiError>(bytes),
        7 => {
            json::<RegistrationRequest>(bytes);
            if let Ok(request) = decode::<RegistrationRequest>(bytes) {
                let _ = request.host.check();
            }
        }
        8 => drop(Passphrase::parse(&String::from_utf8_lossy(bytes))),
        _ => handshake(bytes),
    }
});

fn json<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    if let Ok(message) = decode::<T>(bytes) {
        let text = serde_json::to_vec(&message).expect("a message that was read can be written");
        // Escapes can make a text longer than what may be read.
        if let Ok(again) = decode::<T>(&text) {
            assert_eq!(again, message);
        }
    }
}

/// The bytes as each message of a handshake. None of them can be right.
fn handshake(bytes: &[u8]) {
    let mut random = Counter(bytes.len() as u64);
    let passphrase = Passphrase::parse("fuzz-fuzz-fuzz").expect("it is one");
    let binding = Binding { exporter: [1; 32], ca: Hex(vec![2; 8]).0 };
    let _ = Server::start(&mut random, &passphrase, bytes, &binding);
    let (client, hello) = Client::start(&mut random, &passphrase).expect("a handshake begins");
    assert!(client.finish(&mut random, bytes, &binding).is_err());
    let (server, _) = Server::start(&mut random, &passphrase, &hello, &binding).expect("it is answered");
    assert!(server.finish(bytes).is_err());
}

/// Numbers that repeat with the input.
struct Counter(u64);

impl RngCore for Counter {
    fn next_u32(&mut self) -> u32 {
        self.next_u64() as u32
    }

    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        self.0
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        bytes.fill_with(|| (self.next_u64() >> 32) as u8);
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

impl CryptoRng for Counter {}
