//! As much of HTTP/1.1 as the answer to one request needs.

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// The server's clock, in seconds since the epoch.
    pub date: Option<u64>,
    /// What came with it, at most as long as it was said to be.
    pub body: Vec<u8>,
}

/// Takes an answer apart; `None` when it is no HTTP. The body reaches as far as it is said to be long, else to the end
/// unless it is in chunks.
pub fn parse(bytes: &[u8]) -> Option<Reply> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]);
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(':')).collect();
    let header = |wanted: &str| {
        headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim())
    };
    let body = &bytes[end + 4..];
    let chunked = header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
    let length = header("content-length").and_then(|value| value.parse().ok()).unwrap_or(usize::MAX);
    let body = if chunked { dechunked(body) } else { body[..body.len().min(length)].to_vec() };
    Some(Reply { status, date: header("date").and_then(date), body })
}

/// Whether an answer that tells its length is all there.
pub(super) fn is_complete(bytes: &[u8]) -> bool {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&bytes[..end]);
    let length = head.split("\r\n").filter_map(|line| line.split_once(':')).find_map(|(name, value)| {
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    length.is_some_and(|length| bytes.len() - end - 4 >= length)
}

/// Puts chunks together; what is cut off is left out.
fn dechunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|window| window == b"\r\n") {
        let line = String::from_utf8_lossy(&rest[..end]);
        let size = line.split(';').next().and_then(|size| usize::from_str_radix(size.trim(), 16).ok());
        let Some(chunk) = size.filter(|size| *size > 0).and_then(|size| rest.get(end + 2..)?.get(..size))
        else {
            break;
        };
        body.extend_from_slice(chunk);
        rest = rest.get(end + 2 + chunk.len() + 2..).unwrap_or_default();
    }
    body
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// `Sun, 06 Nov 1994 08:49:37 GMT`, in seconds since the epoch.
pub fn date(text: &str) -> Option<u64> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [_, day, month, year, clock, "GMT"] = words[..] else { return None };
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    let (year, day): (u32, u32) = (year.parse().ok()?, day.parse().ok()?);
    let rfc = format!("{year:04}-{month:02}-{day:02}T{clock}Z");
    Some(control_api::time::parse(&rfc)? / control_api::time::SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_apart() {
        let bytes = b"HTTP/1.1 200 OK\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\nX: y\r\n\r\n{}";
        assert_eq!(parse(bytes), Some(Reply { status: 200, date: Some(784_111_777), body: b"{}".to_vec() }));
        let chunks =
            b"HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\n{}\r\n1\r\n!\r\n0\r\n\r\n";
        assert_eq!(parse(chunks).unwrap().body, b"{}!");
        for bytes in [&b""[..], b"HTTP/1.1 200 OK\r\n", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 2OO OK\r\n\r\n"] {
            assert_eq!(parse(bytes), None);
        }
    }

    #[test]
    fn an_answer_of_known_length_ends_with_it() {
        let bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}HTTP/1.1";
        assert_eq!(parse(bytes).unwrap().body, b"{}");
        assert!((0..40).all(|length| !is_complete(&bytes[..length])) && is_complete(&bytes[..40]));
        assert!(!is_complete(b"HTTP/1.1 200 OK\r\n\r\n{}"));
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in
            ["", "Sun, 06 Nox 1994 08:49:37 GMT", "Sun, 31 Feb 1994 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
        {
            assert_eq!(date(text), None, "{text}");
        }
    }
}
