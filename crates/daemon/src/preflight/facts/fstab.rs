//! What fstab says is to be mounted.

/// One entry of fstab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) device: String,
    pub(crate) place: String,
    pub(crate) kind: String,
    pub(crate) options: Vec<String>,
}

/// Reads /etc/fstab.
pub(crate) fn fstab(text: &str) -> Vec<Entry> {
    let entry = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [device, place, kind, rest @ ..] = &words[..] else { return None };
        let options = rest.first().unwrap_or(&"defaults").split(',').map(str::to_owned).collect();
        let place = unescaped(place);
        let place = if place.len() > 1 { place.trim_end_matches('/').to_owned() } else { place };
        Some(Entry { device: unescaped(device), place, kind: kind.to_string(), options })
    };
    text.lines().map(str::trim).filter(|line| !line.starts_with('#')).filter_map(entry).collect()
}

/// `\040` and its like, as bytes.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..3).filter(|_| *first == b'\\').and_then(octal);
        match code {
            Some(code) => {
                bytes.push(code);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn octal(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fstab_is_read() {
        let entries =
            fstab("# c\n/dev/sda1 / ext4\n\n/dev/mapper/3a /mnt/retention/ ext4 rw,nofail 0 2\nx\n");
        assert_eq!(entries.len(), 2);
        assert_eq!((entries[1].place.as_str(), entries[1].options.len()), ("/mnt/retention", 2));
        assert_eq!(entries[0].options, ["defaults"]);
    }

    #[test]
    fn a_backslash_without_octal_digits_stays() {
        for text in ["\\", "a\\04", "\\999", "\\é"] {
            assert_eq!(unescaped(text), text);
        }
    }
}
