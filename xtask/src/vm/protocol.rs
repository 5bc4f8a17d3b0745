//! What the guest says through its port, and what it is told.
//!
//! A line each way. The guest begins with `hello`, at each boot, and is told `run BOOT SECONDS NAME` or `shell`. A
//! script's wish is `call ID VERB WORD…`, answered by `ok ID TEXT` or `error ID TEXT`; the id lets the guest tell an
//! answer from a late one. `end STATUS` is the last line of a run. A power cut may break a line off: the guest begins
//! each boot with an empty one.

use super::scenario::number_of_bytes;
use anyhow::{Context, Result, bail, ensure};

#[derive(Debug, PartialEq)]
pub(super) enum Said {
    Hello,
    Call {
        id: String,
        wish: Result<Wish, String>,
    },
    End {
        status: i32,
    },
    /// Not of this protocol, such as the rest of a line that a power cut broke.
    Noise,
}

/// What a script asks of the world outside.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Wish {
    /// Takes a disk, or one path of it, out of the machine.
    Detach {
        disk: String,
        path: Option<u8>,
    },
    Attach {
        disk: String,
        path: Option<u8>,
    },
    Resize {
        disk: String,
        bytes: u64,
    },
    /// Lets each access to a disk, or through one path of it, fail.
    IoError {
        disk: String,
        path: Option<u8>,
        on: bool,
    },
    /// Fills a disk's file with bytes that only the seed decides.
    Pattern {
        disk: String,
        seed: u64,
    },
    Sha256 {
        disk: String,
    },
    /// Where the guest finds the attached paths of a disk, or one path: `SLOT:TARGET` of each.
    Places {
        disk: String,
        path: Option<u8>,
    },
    Reboot,
    Crash,
}

pub(super) fn parse(line: &str) -> Said {
    let mut words = line.split_ascii_whitespace();
    match words.next() {
        Some("hello") => Said::Hello,
        Some("end") => match words.next().and_then(|word| word.parse().ok()) {
            Some(status) => Said::End { status },
            None => Said::Noise,
        },
        Some("call") => match words.next() {
            Some(id) => {
                let words: Vec<&str> = words.collect();
                Said::Call { id: id.to_owned(), wish: wish(&words).map_err(|error| format!("{error:#}")) }
            }
            None => Said::Noise,
        },
        _ => Said::Noise,
    }
}

pub(super) fn answer(id: &str, outcome: &Result<String>) -> String {
    match outcome {
        Ok(text) => format!("ok {id} {}", one_line(text)),
        Err(error) => format!("error {id} {}", one_line(&format!("{error:#}"))),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn wish(words: &[&str]) -> Result<Wish> {
    let (verb, rest) = words.split_first().context("which verb?")?;
    let name = |words: &[&str]| words.first().map(|word| (*word).to_owned());
    let disk = || name(rest).with_context(|| format!("{verb} which disk?"));
    let most_words = match *verb {
        "reboot" | "crash" => 0,
        "sha256" => 1,
        "io-error" => 3,
        _ => 2,
    };
    ensure!(rest.len() <= most_words, "{verb} takes {most_words} words at most");
    let wish = match *verb {
        "detach" => Wish::Detach { disk: disk()?, path: path(rest.get(1))? },
        "attach" => Wish::Attach { disk: disk()?, path: path(rest.get(1))? },
        "resize" => {
            let bytes = rest.get(1).context("resize to how many bytes?")?;
            Wish::Resize { disk: disk()?, bytes: number_of_bytes(bytes)? }
        }
        "io-error" => Wish::IoError { disk: disk()?, on: on_or_off(rest.get(1))?, path: path(rest.get(2))? },
        "pattern" => {
            let seed = rest.get(1).context("pattern of which seed?")?;
            Wish::Pattern { disk: disk()?, seed: seed.parse().with_context(|| format!("{seed} is no seed"))? }
        }
        "sha256" => Wish::Sha256 { disk: disk()? },
        "places" => Wish::Places { disk: disk()?, path: path(rest.get(1))? },
        "reboot" => Wish::Reboot,
        "crash" => Wish::Crash,
        _ => bail!("unknown verb {verb}; tests/vm/README.md lists them"),
    };
    Ok(wish)
}

fn path(word: Option<&&str>) -> Result<Option<u8>> {
    word.map(|word| word.parse().with_context(|| format!("{word} is no number of a path"))).transpose()
}

fn on_or_off(word: Option<&&str>) -> Result<bool> {
    match word {
        Some(&"on") => Ok(true),
        Some(&"off") => Ok(false),
        _ => bail!("io-error on or off?"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish_of(line: &str) -> Result<Wish, String> {
        match parse(line) {
            Said::Call { id, wish } => {
                assert_eq!(id, "7");
                wish
            }
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn lines_of_the_guest() {
        assert_eq!(parse("hello"), Said::Hello);
        assert_eq!(parse("end 3"), Said::End { status: 3 });
        for noise in ["", "end", "end soon", "call", "kernel: oops"] {
            assert_eq!(parse(noise), Said::Noise, "{noise}");
        }
    }

    #[test]
    fn wishes() {
        let data = || "data1".to_owned();
        assert_eq!(wish_of("call 7 detach data1"), Ok(Wish::Detach { disk: data(), path: None }));
        assert_eq!(wish_of("call 7 attach data1 1"), Ok(Wish::Attach { disk: data(), path: Some(1) }));
        assert_eq!(wish_of("call 7 resize data1 2M"), Ok(Wish::Resize { disk: data(), bytes: 2 << 20 }));
        assert_eq!(
            wish_of("call 7 io-error data1 on 0"),
            Ok(Wish::IoError { disk: data(), path: Some(0), on: true })
        );
        assert_eq!(wish_of("call 7 pattern data1 9"), Ok(Wish::Pattern { disk: data(), seed: 9 }));
        assert_eq!(wish_of("call 7 crash"), Ok(Wish::Crash));
    }

    #[test]
    fn a_wish_that_cannot_be_read_says_why() {
        for (line, part) in [
            ("call 7", "which verb"),
            ("call 7 explode data1", "unknown verb explode"),
            ("call 7 detach", "detach which disk"),
            ("call 7 detach data1 x", "no number of a path"),
            ("call 7 io-error data1 maybe", "on or off"),
            ("call 7 reboot now", "takes 0 words"),
        ] {
            let error = wish_of(line).expect_err(line);
            assert!(error.contains(part), "{line}: {error}");
        }
    }

    #[test]
    fn an_answer_is_one_line() {
        assert_eq!(answer("7", &Ok("a\n b".into())), "ok 7 a b");
        assert_eq!(answer("7", &Err(anyhow::anyhow!("no\ndisk"))), "error 7 no disk");
    }
}
