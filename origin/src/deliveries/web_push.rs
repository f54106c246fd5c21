//! Web Push: a notification, encrypted for one browser (RFC 8291), to the push service that the browser named, signed by this service
//! (VAPID, RFC 8292).

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use optimist_plane::clock;
use optimist_plane::config::Config;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::http::body::to_json;
use optimist_plane::outgoing::delivery::{Delivery, Outcome};
use optimist_plane::outgoing::http::{Answer, NoAnswer};
use optimist_plane::outgoing::settings::Vapid;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use serde_json::json;
use web_push_native::{Auth, encrypt};

use crate::deliveries::checking::{Place, Wanted, check};
use crate::deliveries::telling::data;
use crate::deliveries::tokens;

/// How long a push service keeps it for a browser that is away: a day, as long as we try.
const TTL: &str = "86400";
/// How long a signature holds, in seconds: a push service refuses more than a day.
const SIGNED_FOR: i64 = 12 * 60 * 60;

/// The key that browsers need to subscribe: the public one, uncompressed, in base64url. `None` without a configured key.
pub fn public_key(config: &Config) -> Option<String> {
    let key = signing_key(config.outgoing.vapid.as_ref()?)?;
    Some(URL_SAFE_NO_PAD.encode(key.verifying_key().to_encoded_point(false).as_bytes()))
}

/// Whether a browser's public key is a point of the curve.
pub fn is_key(bytes: &[u8]) -> bool {
    p256::PublicKey::from_sec1_bytes(bytes).is_ok()
}

pub async fn send(ctx: &Ctx, delivery: &Delivery) -> Result<Outcome> {
    let Some(vapid) = &ctx.config.outgoing.vapid else { return Ok(Outcome::Failed("no key")) };
    let wanted = match check(ctx, delivery).await? {
        Ok(wanted) => wanted,
        Err(outcome) => return Ok(outcome),
    };
    let mut sent = post(ctx, vapid, delivery, &wanted.place, whole(&wanted, delivery)?).await?;
    if matches!(&sent, Ok(answer) if answer.status == StatusCode::PAYLOAD_TOO_LARGE) {
        sent = post(ctx, vapid, delivery, &wanted.place, without_line(&wanted, delivery)?).await?;
    }
    let answer = match sent {
        Ok(answer) => answer,
        Err(outcome) => return Ok(outcome),
    };
    let after = retry_after(&answer.headers);
    match answer.status.as_u16() {
        200..=299 => Ok(Outcome::Sent),
        404 | 410 => {
            tokens::forget(ctx, delivery.user, delivery.target).await?;
            Ok(Outcome::Failed("gone"))
        }
        413 => Ok(Outcome::Failed("too large")),
        status @ (401 | 403) => {
            // Not the subscription's fault: an operator has to look.
            metrics::counter!("optimist_push_refused_total").increment(1);
            tracing::error!(
                status,
                "a push service refuses our key: check OPTIMIST_VAPID_KEY and its subject"
            );
            Ok(Outcome::Again { reason: "key refused", after })
        }
        429 => Ok(Outcome::Again { reason: "too many", after }),
        400..=499 => Ok(Outcome::Failed("refused")),
        _ => Ok(Outcome::Again { reason: "the push service failed", after }),
    }
}

/// Encrypts, signs and sends. Without an answer it returns what becomes of the delivery.
async fn post(
    ctx: &Ctx,
    vapid: &Vapid,
    delivery: &Delivery,
    place: &Place,
    body: Vec<u8>,
) -> Result<Result<Answer, Outcome>> {
    let Some(body) = encrypted(place, body) else { return Ok(Err(Outcome::Failed("unusable keys"))) };
    let headers = headers(vapid, delivery, &place.endpoint)
        .ok_or_else(|| Error::internal("web push", &"a header that is none"))?;
    Ok(ctx.outgoing.http.post(&place.endpoint, headers, body).await.map_err(without_answer))
}

/// What becomes of a delivery that was not answered.
pub fn without_answer(no_answer: NoAnswer) -> Outcome {
    match no_answer {
        NoAnswer::Refused => Outcome::Failed("address"),
        NoAnswer::Busy => Outcome::Later(Duration::from_secs(5)),
        NoAnswer::Lost => Outcome::Again { reason: "no answer", after: None },
    }
}

/// Seconds that a server asks to wait. (A date is left to our own pauses.)
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get("retry-after")?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// Ids and a line: far below the 4,096 bytes that push services must take. Some may take less.
fn whole(wanted: &Wanted, delivery: &Delivery) -> Result<Vec<u8>> {
    to_json(&json!({"type": "notification", "data": data(wanted, delivery.subject)}))
}

/// Ids alone: the line is null.
fn without_line(wanted: &Wanted, delivery: &Delivery) -> Result<Vec<u8>> {
    let mut data = data(wanted, delivery.subject);
    data["line"] = serde_json::Value::Null;
    to_json(&json!({"type": "notification", "data": data}))
}

fn encrypted(place: &Place, body: Vec<u8>) -> Option<Vec<u8>> {
    let key = p256::PublicKey::from_sec1_bytes(place.p256dh.as_deref()?).ok()?;
    let auth = place.auth.as_deref().filter(|auth| auth.len() == 16)?;
    encrypt(body, &key, Auth::from_slice(auth)).ok()
}

fn headers(vapid: &Vapid, delivery: &Delivery, endpoint: &str) -> Option<HeaderMap> {
    let topic = delivery.subject.simple().to_string();
    let pairs = [
        ("authorization", authorization(vapid, endpoint, clock::now().timestamp())?),
        ("content-encoding", "aes128gcm".to_owned()),
        ("content-type", "application/octet-stream".to_owned()),
        ("ttl", TTL.to_owned()),
        ("urgency", "normal".to_owned()),
        // A repetition replaces what the push service still holds.
        ("topic", topic),
    ];
    let pair = |(name, value): (&'static str, String)| {
        Some((HeaderName::from_static(name), HeaderValue::try_from(value).ok()?))
    };
    pairs.into_iter().map(pair).collect()
}

/// `vapid t=<signed claims>,k=<public key>`: for whom, until when, and who we are. Without a space, which not every reader skips.
fn authorization(vapid: &Vapid, endpoint: &str, now: i64) -> Option<String> {
    let key = signing_key(vapid)?;
    let uri: axum::http::Uri = endpoint.parse().ok()?;
    let audience = format!("{}://{}", uri.scheme_str()?, uri.authority()?);
    let claims = json!({"aud": audience, "exp": now + SIGNED_FOR, "sub": vapid.subject});
    let encode = |text: String| URL_SAFE_NO_PAD.encode(text);
    let signed =
        format!("{}.{}", encode(r#"{"typ":"JWT","alg":"ES256"}"#.to_owned()), encode(claims.to_string()));
    let signature: Signature = key.sign(signed.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(signature.to_bytes());
    let public = URL_SAFE_NO_PAD.encode(key.verifying_key().to_encoded_point(false).as_bytes());
    Some(format!("vapid t={signed}.{signature},k={public}"))
}

fn signing_key(vapid: &Vapid) -> Option<SigningKey> {
    SigningKey::from_slice(&vapid.key).ok()
}

#[cfg(test)]
mod tests {
    use p256::ecdsa::VerifyingKey;
    use p256::ecdsa::signature::Verifier as _;

    use super::*;

    #[test]
    fn a_signature_is_for_one_push_service_and_for_hours() {
        let vapid = Vapid { key: [7; 32], subject: "mailto:ops@example.org".to_owned() };
        let header = authorization(&vapid, "https://push.example.org:8443/send/abc", 1_000).unwrap();
        let (token, key) = header.strip_prefix("vapid t=").unwrap().split_once(",k=").unwrap();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
        let key = VerifyingKey::from_sec1_bytes(&decode(key)).unwrap();
        assert!(key.verify(signed.as_bytes(), &Signature::from_slice(&decode(signature)).unwrap()).is_ok());
        let claims: serde_json::Value =
            serde_json::from_slice(&decode(signed.split_once('.').unwrap().1)).unwrap();
        let expected =
            json!({"aud": "https://push.example.org:8443", "exp": 44_200, "sub": "mailto:ops@example.org"});
        assert_eq!(claims, expected);
    }
}
