//! Passwords, and their hashes.
//!
//! argon2id with the least parameters that OWASP recommends. One hash takes 19 MiB for some tens of milliseconds; one is
//! made at a time, on a thread that may block.

use anyhow::{Context, anyhow};
use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use control_api::{ApiError, ErrorCode};
use serde::Deserialize;
use std::fmt;
use tokio::sync::{Semaphore, SemaphorePermit};
use zeroize::Zeroizing;

/// KiB of memory.
const MEMORY: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// Characters that a password must have.
pub(crate) const SHORTEST: usize = 12;
/// Bytes that it may have.
const LONGEST: usize = 1024;

/// Passwords that are hashed at a time, and that may wait for it.
static HASHING: Semaphore = Semaphore::const_new(1);
static WAITING: Semaphore = Semaphore::const_new(32);

/// A hash like those of users, of no password that anybody has: it is verified for a name that nobody has, so that the
/// answer takes as long.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5IGhhcyB0aGlz$\
     rwx2zAA3lZN1OP4uHFVCOPxOcmL5n4SHnP8Ya9nDIaM";

/// A password. It is never shown, and wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub(crate) struct Password(Zeroizing<String>);

impl From<String> for Password {
    fn from(text: String) -> Password {
        Password(Zeroizing::new(text))
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

impl Password {
    /// Whether it may become the password of a user.
    pub(crate) fn check_new(&self) -> Result<(), ApiError> {
        let refused = |why: String| {
            let next = format!("choose one of {SHORTEST} characters or more, such as four words in a row");
            Err(ApiError::new(ErrorCode::BadRequest, "the password", "it cannot be used", why, next))
        };
        if self.0.chars().count() < SHORTEST {
            return refused(format!("it has fewer than {SHORTEST} characters"));
        }
        if self.0.len() > LONGEST {
            return refused(format!("it is longer than {LONGEST} bytes"));
        }
        match self.0.chars().any(char::is_control) {
            true => refused("it holds control characters".into()),
            false => Ok(()),
        }
    }

    /// Its hash as a PHC string, with a salt of its own. It takes tens of milliseconds.
    pub(crate) fn hashed(&self) -> anyhow::Result<String> {
        let salt = SaltString::generate(&mut OsRng);
        let hash = argon2()?.hash_password(self.0.as_bytes(), &salt);
        Ok(hash.map_err(|cause| anyhow!("cannot hash a password: {cause}"))?.to_string())
    }

    /// Whether this is the password with this hash; it takes as long for no hash at all.
    pub(super) fn is(&self, hash: Option<&str>) -> anyhow::Result<bool> {
        let parsed = PasswordHash::new(hash.unwrap_or(NOBODY))
            .map_err(|cause| anyhow!("the store holds a hash that is none: {cause}"))?;
        let text = self.0.as_bytes();
        let text = &text[..text.len().min(LONGEST + 1)];
        Ok(argon2()?.verify_password(text, &parsed).is_ok() && hash.is_some())
    }
}

fn argon2() -> anyhow::Result<Argon2<'static>> {
    let params = Params::new(MEMORY, PASSES, LANES, None).map_err(|cause| anyhow!("argon2: {cause}"))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

/// The hash of a password that somebody is to have from now on.
pub(crate) async fn hash(password: Password) -> Result<String, ApiError> {
    password.check_new()?;
    Turn::wait()?.run(move || password.hashed()).await
}

/// A place among those who wait until their password is hashed.
pub(super) struct Turn(SemaphorePermit<'static>);

impl Turn {
    /// Takes a place; too many who wait are refused.
    pub(super) fn wait() -> Result<Turn, ApiError> {
        WAITING.try_acquire().map(Turn).map_err(|_| {
            ApiError::new(
                ErrorCode::Busy,
                "the configuration server",
                "it is busy",
                "many people log in at this moment, or somebody guesses passwords",
                "try again in a few seconds",
            )
        })
    }

    /// Whether a password has this hash.
    pub(super) async fn verify(self, password: Password, hash: Option<String>) -> Result<bool, ApiError> {
        self.run(move || password.is(hash.as_deref())).await
    }

    /// Does this work when no other is done, on a thread that may block.
    async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
    ) -> Result<T, ApiError> {
        let done = async {
            let place = HASHING.acquire().await.context("no password is hashed any more")?;
            // Also when nobody waits for the outcome any more, the next one begins only after this one.
            let work = move || {
                let _place = (place, self.0);
                work()
            };
            tokio::task::spawn_blocking(work).await.context("the hashing of a password failed")?
        };
        done.await.map_err(|error| crate::server::internal(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Password {
        Password::from(text.to_owned())
    }

    #[test]
    fn a_password_is_known_by_its_hash_and_no_other_is() {
        let hash = password("correct horse battery").hashed().unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(password("correct horse battery").is(Some(&hash)).unwrap());
        assert!(!password("correct horse batterz").is(Some(&hash)).unwrap());
        assert_ne!(password("correct horse battery").hashed().unwrap(), hash);
        assert!(password("x").is(Some("plain")).is_err());
    }

    #[test]
    fn nobody_has_a_hash_of_the_same_form() {
        let (nobody, user) = (PasswordHash::new(NOBODY).unwrap(), password("x").hashed().unwrap());
        let user = PasswordHash::new(&user).unwrap();
        assert_eq!((nobody.algorithm, nobody.version), (user.algorithm, user.version));
        assert_eq!(Params::try_from(&nobody).unwrap(), Params::try_from(&user).unwrap());
        assert_eq!(nobody.hash.unwrap().len(), user.hash.unwrap().len());
        assert!(!password("nobody").is(None).unwrap());
    }

    #[test]
    fn what_is_no_password_is_refused() {
        for text in ["", "elevenchars", "\u{7}twelve chars", &"x".repeat(LONGEST + 1)] {
            assert_eq!(password(text).check_new().unwrap_err().code, ErrorCode::BadRequest, "{text:?}");
        }
        password("zwölf Zeichen").check_new().unwrap();
    }

    #[test]
    fn it_is_not_shown_by_accident() {
        assert_eq!(format!("{:?}", password("secret")), "Password(…)");
    }
}
