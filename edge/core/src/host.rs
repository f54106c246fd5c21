//! The interface between a Wasm host and the pipeline.
//!
//! A host does only I/O: it builds a [`crate::Edge`] once per instance, passes each request through [`crate::Edge::handle`],
//! and carries out the [`Decision`]. It holds no policy: no path, key, limit or header name of Optimist's appears in a host.

use std::net::IpAddr;

/// One Redis command: its name and arguments, unencoded. It may hold a password or a secret's hash, so only tests print it.
#[cfg_attr(test, derive(Clone, Debug, PartialEq, Eq))]
pub struct Command(pub Vec<Vec<u8>>);

/// A scalar of a Redis reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Nil,
    Int(i64),
    /// A bulk or a simple string.
    Bytes(Vec<u8>),
}

/// The reply to one command: a flat list (a scalar is a list of one), or the text of Redis's error.
///
/// Flat, because Spin's Redis interface flattens nested arrays; Redis answers every command of the pipeline with a scalar or
/// a flat list.
pub type Reply = Result<Vec<Value>, String>;

/// Whether an error of a host's Redis client is Redis's answer, rather than the end of the connection. Spin's client says
/// `An error was signalled by the server - …`, or `CODE: text` with a code of Redis's own.
pub fn is_reply(error: &str) -> bool {
    let code = error.split(':').next().unwrap_or_default();
    error.starts_with("An error was signalled by the server")
        || (code.len() >= 2 && code.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'))
}

/// Why there are no replies from Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisUnavailable {
    /// It cannot be asked: refused, cut off, or silent. The text is only for the log.
    Lost(String),
    /// It answers, but not this within the deadline. The commands may still be carried out.
    Late,
}

/// A connection on which Redis was silent for so many deadlines, while it owed replies, is lost.
pub const SILENT_DEADLINES: u32 = 2;

/// The host's I/O, clock and randomness.
#[allow(async_fn_in_trait)] // Wasm hosts are single-threaded: the futures are deliberately not `Send`.
pub trait Host {
    /// Sends `commands` together, in one write, and returns their replies in order.
    ///
    /// `spread` chooses among a host's connections: equal values should use the same one. After `deadline_ms` the host gives
    /// up: with [`RedisUnavailable::Late`] if other replies have arrived on the connection meanwhile, which it keeps, and
    /// discards the late replies by their position. While no byte arrives it waits on, until [`SILENT_DEADLINES`] have passed; then the
    /// connection is lost, and with it everyone who waits on it.
    async fn redis(
        &self,
        spread: &str,
        commands: Vec<Command>,
        deadline_ms: u32,
    ) -> Result<Vec<Reply>, RedisUnavailable>;

    /// Sends `commands` after the response. Errors are dropped: only hints are sent this way.
    fn redis_after_response(&self, spread: &str, commands: Vec<Command>);

    /// Milliseconds since the Unix epoch.
    fn now_ms(&self) -> u64;

    /// Fills `bytes` from a cryptographically secure source.
    fn random(&self, bytes: &mut [u8]);

    /// One line for the operator.
    fn log(&self, line: &str);
}

/// A request as the pipeline sees it.
pub trait Request {
    fn method(&self) -> &str;
    /// Path and query as sent: origin-form, starting with `/`.
    fn target(&self) -> &str;
    /// The value of a header, `name` in lower case: see [`crate::headers::combined`].
    fn header(&self, name: &str) -> Option<String>;
    /// The client's address from the platform, never from a header that a client can set.
    fn client_address(&self) -> Option<IpAddr>;
    /// The id that the host has given the request with [`crate::new_request_id`], for a host that may have the pipeline
    /// handle one request twice: limits know an attempt by it, and charge it once.
    fn id(&self) -> Option<&str> {
        None
    }
    /// Its body, where [`crate::Edge::collects`] has asked the host for it.
    fn body(&self) -> Option<&Body> {
        None
    }
}

/// A body to collect before the pipeline handles its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Collect {
    /// Bytes to let through.
    pub limit: usize,
    pub deadline_ms: u32,
}

/// How collecting a body ended. Its text is the client's own: nothing prints it.
pub enum Body {
    Whole(Vec<u8>),
    TooLarge,
    Late,
}

/// An answer that the edge gives by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

/// What to do with a request.
pub enum Decision {
    Respond(Response),
    Forward(Box<Forward>),
}

/// The host collects the body, unless it has it already, has it signed ([`Forward::sign`]), and sends the native request to the origin's base URL.
pub struct Forward {
    /// Bytes of body to let through. If the body is longer, the host stops and reports [`Ending::BodyTooLarge`]. (A request
    /// with a longer `content-length` never gets this far.)
    pub body_limit: usize,
    /// Milliseconds until the body must be complete; after that the host reports [`Ending::BodyLate`].
    pub body_deadline_ms: u32,
    /// Milliseconds from sending the request until the response's head must arrive.
    pub deadline_ms: u32,
    /// Whether to retry once when the first attempt surely never reached the origin (connection refused).
    pub retry: bool,
    /// The pipeline's statement about the caller, to be signed: a rendered `Context`.
    pub(crate) context: String,
    /// The host finishes it with the outcome before it sends the response.
    pub pending: crate::Pending,
}

/// How a forwarded request ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ending {
    /// The origin answered with this status.
    Answered {
        status: u16,
    },
    /// The request surely never reached the origin.
    Unreached,
    /// It may have reached the origin, but no answer came: deadline, reset.
    Lost,
    BodyTooLarge,
    /// The client took too long to send the body.
    BodyLate,
}

impl Ending {
    /// The ending that Cloudflare reports by a status of its own instead of the origin's answer.
    pub fn of_platform(status: u16) -> Option<Ending> {
        match status {
            // Refused, or no route.
            521 | 523 => Some(Ending::Unreached),
            // An answer that is incomplete or late. 522 also stands for a connection that was made and then not acknowledged: the
            // origin may have the request, and would refuse its nonce a second time.
            520 | 522 | 524..=530 => Some(Ending::Lost),
            _ => None,
        }
    }
}

/// The response that [`crate::Pending::finish`] decides on.
pub enum Finish {
    /// Pass the origin's response on. Each change replaces a header, or adds to it with `append`.
    Pass { headers: Vec<HeaderChange> },
    /// Discard the origin's response, if any, and answer this.
    Replace(Response),
    /// Discard it, and answer what was handed over beside the forward: see [`Forward::hand_over`].
    Kept,
}

pub struct HeaderChange {
    pub name: &'static str,
    pub value: String,
    /// Add a further line instead of replacing what the origin sent.
    pub append: bool,
}

/// Headers about one connection alone (RFC 9110, 7.6.1). The host removes them from the origin's answer.
pub const HOP_BY_HOP: [&str; 7] =
    ["connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_request_that_surely_did_not_arrive_counts_as_unreached() {
        for status in [521, 523] {
            assert_eq!(Ending::of_platform(status), Some(Ending::Unreached), "{status}");
        }
        for status in [520, 522, 524, 530] {
            assert_eq!(Ending::of_platform(status), Some(Ending::Lost), "{status}");
        }
        for status in [200, 421, 502, 504, 519, 531] {
            assert_eq!(Ending::of_platform(status), None, "{status}");
        }
    }

    #[test]
    fn an_answer_is_told_from_a_lost_connection() {
        for answer in [
            "An error was signalled by the server - ResponseError: wrong number of arguments",
            "An error was signalled by the server - NoScriptError: No matching script.",
            "WRONGTYPE: Operation against a key holding the wrong kind of value",
            "NOSCRIPT: No matching script. Please use EVAL.",
            "BUSY_KEY: there is one",
            "OOM: command not allowed when used memory > 'maxmemory'.",
        ] {
            assert!(is_reply(answer), "{answer}");
        }
        for lost in [
            "",
            "Connection refused (os error 111)",
            "Broken pipe (os error 32)",
            "unexpected end of file",
            "IO error: connection reset",
            "E: a code has two letters at least",
            "WRONGTYPE but no code",
        ] {
            assert!(!is_reply(lost), "{lost}");
        }
    }
}
