//! A person's own webhooks, signed as the Standard Webhooks specification says. One is used once it has answered a challenge.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use optimist_plane::clock;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::hash::keyed_hash;
use optimist_plane::http::body::to_json;
use optimist_plane::http::time::Time;
use optimist_plane::outgoing::delivery::{Delivery, Outcome};
use optimist_shared::ids::Uuid;
use serde_json::json;

use crate::deliveries::checking::check;
use crate::deliveries::telling::data;
use crate::deliveries::tokens;
use crate::deliveries::web_push::{retry_after, without_answer};
use crate::people::secrets::TOKEN_KEYS;

/// A webhook's secret, derived from its id: nothing in a store can sign.
pub fn secret(ctx: &Ctx, key_id: &str, token: Uuid) -> Result<[u8; 32]> {
    let key = ctx.config.keys(TOKEN_KEYS).get(key_id);
    let key =
        key.ok_or_else(|| Error::internal("token keys", &"a key that webhooks' secrets come from is gone"))?;
    Ok(keyed_hash(key, &[b"webhook", token.as_bytes()]))
}

/// As its owner configures it.
pub fn shown(secret: &[u8]) -> String {
    format!("whsec_{}", STANDARD.encode(secret))
}

pub async fn send(ctx: &Ctx, delivery: &Delivery) -> Result<Outcome> {
    if let Some(challenge) = delivery.about.as_ref().and_then(|about| about.get("challenge")?.as_str()) {
        return challenged(ctx, delivery, challenge).await;
    }
    let wanted = match check(ctx, delivery).await? {
        Ok(wanted) => wanted,
        Err(outcome) => return Ok(outcome),
    };
    let body = to_json(&json!({
        "type": "notification",
        "timestamp": Time(wanted.at),
        "data": data(&wanted, delivery.subject),
    }))?;
    let key = wanted.place.token_key.as_deref().unwrap_or_default();
    let headers = headers(ctx, delivery, key, &body)?;
    match ctx.outgoing.http.post(&wanted.place.endpoint, headers, body).await {
        Ok(answer) => match answer.status.as_u16() {
            200..=299 => Ok(Outcome::Sent),
            410 => {
                tokens::forget(ctx, delivery.user, delivery.target).await?;
                Ok(Outcome::Failed("gone"))
            }
            status => {
                let reason = if (300..400).contains(&status) { "redirects" } else { "refused" };
                Ok(Outcome::Again { reason, after: retry_after(&answer.headers) })
            }
        },
        Err(no_answer) => Ok(without_answer(no_answer)),
    }
}

/// Asks a webhook to repeat a word, so that nobody can make the service write to an address that is not theirs.
async fn challenged(ctx: &Ctx, delivery: &Delivery, challenge: &str) -> Result<Outcome> {
    let Some(hook) = tokens::find(ctx, delivery.user, delivery.target).await? else {
        return Ok(Outcome::Withdrawn("place"));
    };
    if hook.is_verified {
        return Ok(Outcome::Withdrawn("verified"));
    }
    let body = to_json(
        &json!({"type": "challenge", "timestamp": Time(clock::now()), "data": {"challenge": challenge}}),
    )?;
    let headers = headers(ctx, delivery, &hook.token_key, &body)?;
    match ctx.outgoing.http.post(&hook.endpoint, headers, body).await {
        Ok(answer) if answer.status.is_success() && repeats(&answer.body, challenge) => {
            tokens::verified(ctx, delivery.user, delivery.target).await?;
            Ok(Outcome::Sent)
        }
        Ok(answer) => {
            Ok(Outcome::Again { reason: "challenge not repeated", after: retry_after(&answer.headers) })
        }
        Err(no_answer) => Ok(without_answer(no_answer)),
    }
}

/// The word alone, or as `challenge` of a JSON object.
fn repeats(body: &[u8], challenge: &str) -> bool {
    let text = std::str::from_utf8(body).unwrap_or_default().trim();
    let object = serde_json::from_str::<serde_json::Value>(text).ok();
    let field = object.as_ref().and_then(|object| object.get("challenge")?.as_str());
    text == challenge || field == Some(challenge)
}

fn headers(ctx: &Ctx, delivery: &Delivery, key_id: &str, body: &[u8]) -> Result<HeaderMap> {
    let secret = secret(ctx, key_id, delivery.target)?;
    let (id, now) = (delivery.subject.to_string(), clock::now().timestamp().to_string());
    let signature = signature(&secret, &id, &now, body);
    let pairs = [
        ("content-type", "application/json".to_owned()),
        ("user-agent", "Optimist".to_owned()),
        ("webhook-id", id),
        ("webhook-timestamp", now),
        ("webhook-signature", signature),
    ];
    let pair = |(name, value): (&'static str, String)| {
        Some((HeaderName::from_static(name), HeaderValue::try_from(value).ok()?))
    };
    let headers: Option<HeaderMap> = pairs.into_iter().map(pair).collect();
    headers.ok_or_else(|| Error::internal("webhook", &"a header that is none"))
}

fn signature(secret: &[u8], id: &str, timestamp: &str, body: &[u8]) -> String {
    let mac = keyed_hash(secret, &[id.as_bytes(), b".", timestamp.as_bytes(), b".", body]);
    format!("v1,{}", STANDARD.encode(mac))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's own libraries.
    #[test]
    fn a_signature_is_the_specifications() {
        let secret = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let made =
            signature(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", br#"{"test": 2432232314}"#);
        assert_eq!(made, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_challenge_is_repeated_whole() {
        assert!(
            repeats(b"abc", "abc") && repeats(b" abc\n", "abc") && repeats(br#"{"challenge":"abc"}"#, "abc")
        );
        assert!(!repeats(b"abcd", "abc") && !repeats(b"", "abc") && !repeats(br#"{"other":"abc"}"#, "abc"));
    }
}
