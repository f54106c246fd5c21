//! Forwarding to the origin: the signed request, and the handling of its outcome.

use std::borrow::Cow;

use optimist_shared::error::{ErrorCode, Problem};
use optimist_shared::limits::LimitRow;
use optimist_shared::routes::Route;
use optimist_shared::scripts::limit;
use optimist_shared::session::hex;
use optimist_shared::signature::{
    CONTENT_DIGEST_HEADER, CONTEXT_HEADER, Context, SIGNATURE_HEADER, SIGNATURE_INPUT_HEADER, Signed,
    content_digest, sign,
};

use crate::Edge;
use crate::host::{Decision, Ending, Finish, Forward, HeaderChange, Host, Request, Response};
use crate::redis;
use crate::respond::Exchange;
use crate::trip::Trip;

/// A forwarded request that waits for its outcome.
pub struct Pending {
    pub(crate) exchange: Exchange,
    /// The request changes nothing, whatever its outcome.
    pub(crate) is_read: bool,
    /// `Cache-Status` of an answer that is passed on.
    pub(crate) cache_status: Cow<'static, str>,
    /// Entries in limits to give back when the attempt fails.
    pub(crate) refund: Option<Refund>,
    /// Served, marked as degraded, when the origin cannot answer.
    pub(crate) kept: Option<Kept>,
    pub(crate) forwarded_ms: u64,
}

/// A response that waits for the case that the origin cannot answer.
pub enum Kept {
    Here(Box<Response>),
    /// Handed over beside the forward.
    Apart,
}

pub struct Refund {
    pub spread: String,
    /// The limits that give a failed attempt back, and their keys.
    pub rows: Vec<&'static LimitRow>,
    pub keys: Vec<String>,
    pub entry: String,
}

/// The origin's answer to a request that no edge of its region has signed.
const MISDIRECTED: u16 = 421;

/// The largest body, 600 KB, at 160 kbit/s.
pub const BODY_DEADLINE_MS: u32 = 30_000;

/// Builds the decision to forward.
pub fn forward<R: Request>(
    edge: &Edge,
    request: &R,
    route: &Route,
    context: &Context,
    pending: Pending,
) -> Decision {
    Decision::Forward(Box::new(Forward {
        body_limit: route.body,
        body_deadline_ms: BODY_DEADLINE_MS,
        deadline_ms: edge.config.origin_deadline_ms,
        retry: route.method.is_idempotent() || request.header("idempotency-key").is_some(),
        context: context.render(),
        pending,
    }))
}

impl Forward {
    /// Signs the request with its whole `body`. Returns the headers to set, besides those of the client's for which
    /// [`crate::headers::is_sent_on`] holds.
    pub fn sign<H: Host, R: Request>(
        &mut self,
        edge: &Edge,
        host: &H,
        request: &R,
        body: &[u8],
    ) -> Vec<(&'static str, String)> {
        let mut nonce = [0; 16];
        host.random(&mut nonce);
        let nonce = hex(&nonce);
        let header = |name| request.header(name).unwrap_or_default();
        let content_digest = content_digest(body);
        let signed = Signed {
            method: request.method(),
            target: request.target(),
            context: &self.context,
            authorization: &header("authorization"),
            idempotency_key: &header("idempotency-key"),
            content_digest: &content_digest,
        };
        let (key_id, key) = &edge.config.signing_keys[0];
        self.pending.forwarded_ms = host.now_ms();
        let (signature_input, signature) =
            sign(signed, key_id, key, &nonce, self.pending.forwarded_ms / 1000);
        let mut set = vec![
            (CONTEXT_HEADER, std::mem::take(&mut self.context)),
            (CONTENT_DIGEST_HEADER, content_digest),
            (SIGNATURE_INPUT_HEADER, signature_input),
            (SIGNATURE_HEADER, signature),
        ];
        if !request.header("traceparent").is_some_and(|value| is_traceparent(&value)) {
            set.push(("traceparent", new_traceparent(host)));
        }
        set
    }
}

impl Pending {
    /// Handles the outcome: gives charges back, prefers a kept value to a failure, and names the headers to add.
    pub async fn finish<H: Host>(self, edge: &Edge, host: &H, outcome: Ending) -> Finish {
        // A lost answer may have been a success: its charges stay.
        let failed = match outcome {
            Ending::Answered { status } => status >= 400,
            Ending::Unreached | Ending::BodyTooLarge | Ending::BodyLate => true,
            Ending::Lost => false,
        };
        let mut exchange = self.exchange;
        if let Some(refund) = self.refund.filter(|_| failed) {
            give_back(edge, host, &refund).await;
            exchange.give_back(&refund.rows);
        }
        // 500 is a defect: it would be the same tomorrow, hidden by a copy that grows old.
        let unable = |status| matches!(status, 502..=504);
        match outcome {
            // A fault of the operator's, not of the client's: 401 would end the client's session.
            Ending::Answered { status: MISDIRECTED } => {
                edge.counts.add(format!("refused:{}", edge.config.region), 1);
                host.log(
                    "the origin refused what this edge has signed: compare their keys, regions and clocks",
                );
                serve(self.kept).unwrap_or_else(|| Finish::Replace(exchange.error(ErrorCode::BadGateway)))
            }
            Ending::Answered { status } if !unable(status) => {
                let origin_ms = host.now_ms().saturating_sub(self.forwarded_ms);
                let mut changes = exchange.pass(&self.cache_status, origin_ms);
                // The origin marks its own errors: they must not be stored at all.
                if exchange.private && status < 400 {
                    let value = "private, no-cache".to_owned();
                    changes.push(HeaderChange { name: "cache-control", value, append: false });
                }
                Finish::Pass { headers: changes }
            }
            ending @ (Ending::BodyTooLarge | Ending::BodyLate) => {
                unserved(&exchange, ending, &self.cache_status, 0, self.is_read)
            }
            ending => serve(self.kept).unwrap_or_else(|| {
                let origin_ms = host.now_ms().saturating_sub(self.forwarded_ms);
                unserved(&exchange, ending, &self.cache_status, origin_ms, self.is_read)
            }),
        }
    }
}

/// The answer when the origin cannot answer, if one was kept.
fn serve(kept: Option<Kept>) -> Option<Finish> {
    kept.map(|kept| match kept {
        Kept::Here(response) => Finish::Replace(*response),
        Kept::Apart => Finish::Kept,
    })
}

/// The answer to a request that the origin did not answer, or could not, and for which nothing was kept.
fn unserved(
    exchange: &Exchange,
    ending: Ending,
    cache_status: &str,
    origin_ms: u64,
    is_read: bool,
) -> Finish {
    match ending {
        Ending::Answered { .. } => Finish::Pass { headers: exchange.pass(cache_status, origin_ms) },
        Ending::BodyTooLarge => Finish::Replace(exchange.error(ErrorCode::TooLarge)),
        Ending::BodyLate => Finish::Replace(exchange.error(ErrorCode::RequestTimeout)),
        Ending::Unreached => {
            let problem = Problem::new(ErrorCode::Unavailable, &exchange.request_id).detail(match is_read {
                true => "The origin cannot be reached.",
                false => "The origin cannot be reached; nothing was changed.",
            });
            let mut response = exchange.problem(&problem);
            response.headers.push(("retry-after", "1".to_owned()));
            Finish::Replace(response)
        }
        Ending::Lost => {
            let problem =
                Problem::new(ErrorCode::GatewayTimeout, &exchange.request_id).detail(match is_read {
                    true => "The origin's answer was lost.",
                    false => "The origin's answer was lost; a change may have been made.",
                });
            Finish::Replace(exchange.problem(&problem))
        }
    }
}

async fn give_back<H: Host>(edge: &Edge, host: &H, refund: &Refund) {
    if refund.keys.is_empty() {
        return;
    }
    let mut trip = Trip::default();
    trip.call(limit::give_back(&refund.keys, &refund.entry), |_| ());
    // Without Redis the entry lapses with its window; the trip has logged the reason.
    let deadline_ms = edge.config.redis_deadline_ms;
    let hints = edge.counts.take();
    let _ = redis::send(host, &edge.breaker, deadline_ms, &refund.spread, trip.asks(), hints).await;
}

/// Whether a client's `traceparent` may be passed on (W3C Trace Context, version 00).
fn is_traceparent(value: &str) -> bool {
    let parts: Vec<&str> = value.split('-').collect();
    let hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let nonzero = |text: &str| text.bytes().any(|byte| byte != b'0');
    matches!(parts[..], [version, trace, parent, flags]
        if version == "00" && trace.len() == 32 && parent.len() == 16 && flags.len() == 2
            && hex(trace) && hex(parent) && hex(flags) && nonzero(trace) && nonzero(parent))
}

fn new_traceparent<H: Host>(host: &H) -> String {
    let mut bytes = [0; 24];
    host.random(&mut bytes);
    // An id of nothing but zeros would be invalid.
    bytes[0] |= 1;
    bytes[16] |= 1;
    format!("00-{}-{}-00", hex(&bytes[..16]), hex(&bytes[16..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_traceparent_has_one_spelling(
            trace in "[0-9a-f]{31}[1-9a-f]",
            parent in "[1-9a-f][0-9a-f]{15}",
            flags in "[0-9a-f]{2}",
            at in 0..55usize,
            to in "[g-zA-Z_+ .]",
            noise in "00-[0-9a-f]{30,34}-[0-9a-f]{14,18}-[0-9a-f]{0,3}(-x)?|\\PC*",
        ) {
            let mut value = format!("00-{trace}-{parent}-{flags}");
            prop_assert!(is_traceparent(&value));
            value.replace_range(at..=at, &to);
            prop_assert!(!is_traceparent(&value), "{value}");
            prop_assert!(!is_traceparent(&noise) || noise.len() == 55);
        }
    }

    #[test]
    fn only_a_wellformed_traceparent_passes() {
        assert!(is_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
        assert!(!is_traceparent("00-00000000000000000000000000000000-b7ad6b7169203331-01"));
        assert!(!is_traceparent("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01"));
        assert!(!is_traceparent("x"));
    }
}
