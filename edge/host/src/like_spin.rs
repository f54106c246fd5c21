//! `--like-spin`: what Spin 4.1 does to a request before its component sees it, and no component needs.
//!
//! It answers two paths of its own to everybody, closes connections whose `Host` it cannot use, refuses headers that are
//! not UTF-8, and runs out of fibers. (Its sockets also wait before they send small segments: see [`crate::outbound`].)

use http::uri::Authority;
use http::{HeaderMap, Request, Uri};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Requests in work at once. Each takes one of the fibers that Spin's allocator has.
const FIBERS: usize = 1_000;

/// The paths that belong to the runtime.
const RESERVED: &str = "/.well-known/spin/";
/// Of the application in `spin.toml`.
const INFO: &str = r#"{"name": "optimist", "version": "0.1.0"}"#;

pub struct LikeSpin {
    fibers: Semaphore,
}

impl Default for LikeSpin {
    fn default() -> LikeSpin {
        LikeSpin { fibers: Semaphore::new(FIBERS) }
    }
}

/// What becomes of a request that the component does not see.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    Answered {
        status: u16,
        body: &'static str,
    },
    /// The connection is closed without an answer.
    Closed,
}

const BROKEN: Refusal = Refusal::Answered { status: 500, body: "" };

impl LikeSpin {
    /// A fiber for the request, which ends with it.
    pub fn admit<B>(&self, request: &Request<B>) -> Result<SemaphorePermit<'_>, Refusal> {
        if let Some(name) = request.uri().path().strip_prefix(RESERVED) {
            return Err(match name {
                "health" => Refusal::Answered { status: 200, body: "OK" },
                "info" => Refusal::Answered { status: 200, body: INFO },
                _ => Refusal::Answered { status: 404, body: "" },
            });
        }
        if !has_one_authority(request.uri(), request.headers()) {
            return Err(Refusal::Closed);
        }
        if request.headers().values().any(|value| std::str::from_utf8(value.as_bytes()).is_err()) {
            return Err(BROKEN);
        }
        self.fibers.try_acquire().map_err(|_| BROKEN)
    }
}

/// Whether the request names one server, in its `Host` header or in its line, or the same in both.
fn has_one_authority(uri: &Uri, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all("host").iter();
    let host = hosts.next().map(|host| host.to_str().ok()?.parse::<Authority>().ok());
    match (host, uri.authority()) {
        _ if hosts.next().is_some() => false,
        (Some(None), _) | (None, None) => false,
        (Some(Some(host)), Some(named)) => host == *named,
        (Some(Some(_)), None) | (None, Some(_)) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(uri: &str, headers: &[(&str, &[u8])]) -> Option<Refusal> {
        let mut request = Request::new(());
        *request.uri_mut() = uri.parse().unwrap();
        for (name, value) in headers {
            let name: http::HeaderName = name.parse().unwrap();
            request.headers_mut().append(name, http::HeaderValue::from_bytes(value).unwrap());
        }
        LikeSpin::default().admit(&request).err()
    }

    #[test]
    fn a_request_names_one_server() {
        let named = |uri: &str, hosts: &[&str]| {
            asked(uri, &hosts.iter().map(|host| ("host", host.as_bytes())).collect::<Vec<_>>())
        };
        assert_eq!(named("/v1/me", &["a.example.org:80"]), None);
        assert_eq!(named("http://a.example.org/v1/me", &["a.example.org"]), None);
        assert_eq!(named("http://a.example.org/v1/me", &[]), None);
        for hosts in [&[][..], &["a b"], &[""], &["a", "a"]] {
            assert_eq!(named("/v1/me", hosts), Some(Refusal::Closed), "{hosts:?}");
        }
        assert_eq!(named("http://a.example.org/", &["b.example.org"]), Some(Refusal::Closed));
    }

    #[test]
    fn the_runtime_answers_for_itself() {
        let answered = |path| asked(path, &[]);
        assert_eq!(answered("/.well-known/spin/health"), Some(Refusal::Answered { status: 200, body: "OK" }));
        assert_eq!(answered("/.well-known/spin/x"), Some(Refusal::Answered { status: 404, body: "" }));
    }

    #[test]
    fn a_header_that_is_not_utf_8_is_an_empty_500() {
        let asked = |value: &'static [u8]| asked("/", &[("host", b"a"), ("user-agent", value)]);
        assert_eq!(asked(b"caf\xc3\xa9"), None);
        assert_eq!(asked(b"caf\xe9"), Some(BROKEN));
    }

    #[test]
    fn a_request_takes_a_fiber_until_it_ends() {
        let spin = LikeSpin::default();
        let request = Request::builder().header("host", "a").body(()).unwrap();
        let mut working: Vec<_> = (0..FIBERS).map(|_| spin.admit(&request).unwrap()).collect();
        assert_eq!(spin.admit(&request).err(), Some(BROKEN));
        working.pop();
        assert!(spin.admit(&request).is_ok());
    }
}
