//! The request headers that the API reads: how several lines of one are read, and which are sent to the origin.
//!
//! Every other header of a client's ends at the edge. So no client can set a header that is internal to edge and origin, and
//! none can name one that a host's runtime refuses to send.

use crate::host::Request;

/// How several lines of a header are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lines {
    /// As one list (RFC 9110, 5.3), or as one text of no form.
    Combined,
    /// It has one value; two are refused, since readers could disagree about which of them counts.
    Once,
}

struct Header {
    /// In lower case.
    name: &'static str,
    /// As problems name it.
    title: &'static str,
    lines: Lines,
    is_sent_on: bool,
}

const fn header(name: &'static str, title: &'static str, lines: Lines, is_sent_on: bool) -> Header {
    Header { name, title, lines, is_sent_on }
}

/// The table.
const HEADERS: [Header; 11] = [
    header("authorization", "Authorization", Lines::Once, true),
    header("content-encoding", "Content-Encoding", Lines::Combined, true),
    // Servers refuse two lengths, or make one of them. The host frames the forwarded message anew.
    header("content-length", "Content-Length", Lines::Combined, false),
    header("content-type", "Content-Type", Lines::Once, true),
    header("idempotency-key", "Idempotency-Key", Lines::Once, true),
    header("if-match", "If-Match", Lines::Combined, true),
    header("if-none-match", "If-None-Match", Lines::Combined, true),
    header("last-event-id", "Last-Event-ID", Lines::Once, true),
    // A ticket for the gateway is for the page that asks for it.
    header("origin", "Origin", Lines::Once, true),
    // Two begin a new trace (W3C Trace Context, 4.2): they are no valid value.
    header("traceparent", "traceparent", Lines::Combined, true),
    header("user-agent", "User-Agent", Lines::Combined, true),
];

/// Joins the lines of one header.
const SEPARATOR: &str = ", ";

/// The value of a header from its lines, as [`Request::header`] returns it: joined by `, `. `None` without lines, or if one
/// holds anything but visible ASCII, spaces and tabs. A host whose runtime has joined them passes one line.
pub fn combined<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Option<String> {
    let mut value = None;
    for line in lines {
        let is_text = line.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
        let line = std::str::from_utf8(line).ok().filter(|_| is_text)?;
        value =
            Some(value.map_or_else(|| line.to_owned(), |before| [before, line.to_owned()].join(SEPARATOR)));
    }
    value
}

/// Whether a client's header, its name in lower case, is sent to the origin in a message that the host frames anew.
pub fn is_sent_on(name: &str) -> bool {
    HEADERS.iter().any(|header| header.name == name && header.is_sent_on)
}

/// The title of a header that came twice though it has one value.
pub fn doubled(request: &impl Request) -> Option<&'static str> {
    let mut once = HEADERS.iter().filter(|header| header.lines == Lines::Once);
    let is_doubled = |header: &&Header| {
        let value = request.header(header.name);
        value.is_some_and(|value| value.contains(SEPARATOR))
    };
    once.find(is_doubled).map(|header| header.title)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    /// A request with these lines of one header.
    struct Asked(&'static str, &'static [&'static str]);

    impl Request for Asked {
        fn method(&self) -> &str {
            "GET"
        }

        fn target(&self) -> &str {
            "/"
        }

        fn header(&self, name: &str) -> Option<String> {
            combined(self.1.iter().filter(|_| name == self.0).map(|line| line.as_bytes()))
        }

        fn client_address(&self) -> Option<IpAddr> {
            None
        }
    }

    #[test]
    fn lines_of_one_header_are_one_value() {
        let value = |lines: &[&str]| combined(lines.iter().map(|line| line.as_bytes()));
        assert_eq!(value(&[]), None);
        assert_eq!(value(&[""]).as_deref(), Some(""));
        assert_eq!(value(&["a", "", "b,\tc"]).as_deref(), Some("a, , b,\tc"));
        assert_eq!(value(&["a", "caf\u{e9}"]), None);
    }

    #[test]
    fn a_header_with_one_value_is_refused_twice_and_a_list_is_not() {
        for header in &HEADERS {
            for lines in [&["a", "b"][..], &["a", "a"], &["", "a"], &["a", ""], &["", ""]] {
                let named = doubled(&Asked(header.name, lines));
                assert_eq!(named.is_some(), header.lines == Lines::Once, "{} {lines:?}", header.name);
                assert!(named.is_none_or(|named| named.to_lowercase() == header.name));
            }
            assert_eq!(doubled(&Asked(header.name, &["a,b"])), None);
        }
    }

    #[test]
    fn only_what_the_api_reads_is_sent_on() {
        for name in [
            "optimist-context",
            "signature-input",
            "content-digest",
            "x-forwarded-for",
            "spin-client-addr",
            "connection",
            "http2-settings",
            "proxy-authorization",
            "te",
            "expect",
            "host",
            "content-length",
            "cookie",
        ] {
            assert!(!is_sent_on(name), "{name}");
        }
        assert!(is_sent_on("idempotency-key") && is_sent_on("authorization"));
    }
}
