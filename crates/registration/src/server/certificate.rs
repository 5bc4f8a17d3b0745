//! When a certificate is valid, out of its DER.
//!
//! TLS libraries say only that a certificate is good or is not. Before registration none is good, since its authority
//! is not known yet; but one that has expired must be told, or registration fails for a reason nobody sees.

/// When a certificate is valid, in seconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// From when on.
    pub from: u64,
    /// Until when.
    pub until: u64,
}

const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const VERSION: u8 = 0xa0;

/// The validity in an X.509 certificate; `None` when it cannot be found.
///
/// ```text
/// SEQUENCE { SEQUENCE { [0] version, serial, signature algorithm, issuer, SEQUENCE { from, until }, … }, … }
/// ```
pub fn validity(der: &[u8]) -> Option<Validity> {
    let (certificate, _) = element(der, SEQUENCE)?;
    let (mut rest, _) = element(certificate, SEQUENCE)?;
    if rest.first() == Some(&VERSION) {
        rest = any(rest)?.2;
    }
    for _serial_algorithm_issuer in 0..3 {
        rest = any(rest)?.2;
    }
    let (validity, _) = element(rest, SEQUENCE)?;
    let (from, rest) = time(validity)?;
    let (until, _) = time(rest)?;
    Some(Validity { from, until })
}

/// The first element: its tag, its content, and what follows it.
fn any(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x0f))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

fn element(der: &[u8], wanted: u8) -> Option<(&[u8], &[u8])> {
    any(der).filter(|(tag, _, _)| *tag == wanted).map(|(_, content, rest)| (content, rest))
}

/// Later years, which mean "always", count as this one; like 2400, most of them are leap years.
const LATEST_YEAR: u32 = 2400;

/// `YYMMDDhhmmssZ`, or with four digits of the year.
fn time(der: &[u8]) -> Option<(u64, &[u8])> {
    let (tag, content, rest) = any(der)?;
    let text = std::str::from_utf8(content).ok().filter(|text| text.is_ascii())?;
    let (year, text) = match tag {
        UTC_TIME => {
            let (year, text) = text.split_at_checked(2)?;
            let year: u32 = year.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, text)
        }
        GENERALIZED_TIME => {
            let (year, text) = text.split_at_checked(4)?;
            (year.parse::<u32>().ok()?.min(LATEST_YEAR), text)
        }
        _ => return None,
    };
    let pair = |at: usize| text.get(at..at + 2);
    let (month, day, hour, minute, second) = (pair(0)?, pair(2)?, pair(4)?, pair(6)?, pair(8)?);
    let rfc = format!("{year:04}-{month}-{day}T{hour}:{minute}:{second}Z");
    Some((control_api::time::parse(&rfc)? / control_api::time::SECOND, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    #[test]
    fn the_validity_of_a_certificate_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let certificates = rig::Certificates::make(folder.path()).unwrap();
        let der = CertificateDer::from_pem_file(certificates.certificate("target.example")).unwrap();
        // What rcgen gives a certificate when it is told nothing: 1975 to 4096, which is as good as 2400.
        assert_eq!(validity(&der), Some(Validity { from: 157_766_400, until: 13_569_465_600 }));
        for length in 0..der.len() {
            let _ = validity(&der[..length]);
        }
    }

    #[test]
    fn lengths_are_not_believed() {
        assert_eq!(validity(&[0x30, 0x83, 0xff, 0xff, 0xff, 0]), None);
        assert_eq!(validity(&[0x30, 0x84, 0, 0, 0, 0]), None);
    }
}
