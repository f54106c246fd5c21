//! HTTP Message Signatures (RFC 9421, hmac-sha256) between edge and origin, in the one shape that Optimist uses.
//!
//! The edge signs the requests that it forwards; the origin verifies them. The callers supply keys and clocks, and remember
//! nonces.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::ids::{Uuid, parse_id};
use crate::session::Role;

/// Seconds that a signature is valid.
pub const VALIDITY_SECONDS: u64 = 30;

/// The header that carries the edge's findings: see [`Context`].
pub const CONTEXT_HEADER: &str = "optimist-context";
pub const SIGNATURE_HEADER: &str = "signature";
pub const SIGNATURE_INPUT_HEADER: &str = "signature-input";
/// RFC 9530; see [`content_digest`].
pub const CONTENT_DIGEST_HEADER: &str = "content-digest";

/// The edge's statement about a request that it forwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    pub identity: Identity,
    /// The caller's membership of the circle in the path, where the edge knows it.
    pub role: Option<Role>,
    /// The client's address as limits count it.
    pub client: String,
    pub region: String,
    pub request_id: String,
    pub charged: Charged,
}

/// The charges that the edge has already made in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charged {
    Nothing,
    /// Every limit of the route except those by account.
    Limits,
}

impl Charged {
    const ALL: [Charged; 2] = [Charged::Nothing, Charged::Limits];

    fn as_str(self) -> &'static str {
        match self {
            Charged::Nothing => "nothing",
            Charged::Limits => "limits",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The route needs none.
    Public,
    /// The edge has checked the session.
    Session { user: Uuid, session: Uuid },
    /// The edge could not check the session; the origin checks the bearer token.
    Unchecked,
}

impl Context {
    /// `key=value` pairs, separated by semicolons; no value contains one.
    pub fn render(&self) -> String {
        let identity = match self.identity {
            Identity::Public => "public".to_owned(),
            Identity::Unchecked => "unchecked".to_owned(),
            Identity::Session { user, session } => format!("{user}/{session}"),
        };
        let role = self.role.map_or("unknown", Role::as_str);
        let Context { client, region, request_id, charged, .. } = self;
        let charged = charged.as_str();
        format!(
            "identity={identity};role={role};client={client};region={region};request={request_id};charged={charged}"
        )
    }

    pub fn parse(text: &str) -> Option<Context> {
        let mut pairs = text.split(';').map(|pair| pair.split_once('='));
        let mut take = |name: &str| pairs.next()?.filter(|(key, _)| *key == name).map(|(_, value)| value);
        let identity = match take("identity")? {
            "public" => Identity::Public,
            "unchecked" => Identity::Unchecked,
            ids => {
                let (user, session) = ids.split_once('/')?;
                Identity::Session { user: parse_id(user)?, session: parse_id(session)? }
            }
        };
        let role = match take("role")? {
            "unknown" => None,
            role => Some(Role::parse(role)?),
        };
        let client = take("client")?.to_owned();
        let region = take("region")?.to_owned();
        let request_id = take("request")?.to_owned();
        let charged = take("charged")?;
        let charged = Charged::ALL.into_iter().find(|known| known.as_str() == charged)?;
        pairs.next().is_none().then_some(Context { identity, role, client, region, request_id, charged })
    }
}

/// The parts of a request that are signed.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    pub method: &'a str,
    /// Path and query as sent.
    pub target: &'a str,
    pub context: &'a str,
    /// The `authorization` header, or empty. The origin checks an unchecked identity by it.
    pub authorization: &'a str,
    /// The `idempotency-key` header, or empty.
    pub idempotency_key: &'a str,
    /// The `content-digest` header: [`content_digest`] of the body, even of an empty one.
    pub content_digest: &'a str,
}

/// Why the origin refuses a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Unsigned,
    Malformed,
    UnknownKey,
    Forged,
    Expired,
    /// The edge belongs to another region. The origin finds this refusal and the next.
    OtherRegion,
    Replayed,
}

impl Refusal {
    /// As metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::Unsigned => "unsigned",
            Refusal::Malformed => "malformed",
            Refusal::UnknownKey => "unknown-key",
            Refusal::Forged => "forged",
            Refusal::Expired => "expired",
            Refusal::OtherRegion => "other-region",
            Refusal::Replayed => "replayed",
        }
    }
}

/// A verified signature. Its nonce is still to be checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    pub nonce: String,
    /// Unix seconds after which the nonce may be forgotten.
    pub expires: u64,
}

const LABEL: &str = "edge";
const COMPONENTS: &str = concat!(
    r#"("@method" "@path" "@query" "optimist-context" "authorization" "#,
    r#""idempotency-key" "content-digest")"#
);

/// A body's `content-digest` (RFC 9530): `sha-256=:<base64>:`.
pub fn content_digest(body: &[u8]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(Sha256::digest(body)))
}

/// Signs, and returns the values of `signature-input` and `signature`. `now` in Unix seconds; `nonce` must never repeat.
pub fn sign(signed: Signed<'_>, key_id: &str, key: &[u8], nonce: &str, now: u64) -> (String, String) {
    let expires = now + VALIDITY_SECONDS;
    let parameters = format!(
        "{COMPONENTS};created={now};expires={expires};nonce=\"{nonce}\";keyid=\"{key_id}\";alg=\"hmac-sha256\""
    );
    let tag = mac(key, &signature_base(signed, &parameters)).finalize().into_bytes();
    (format!("{LABEL}={parameters}"), format!("{LABEL}=:{}:", STANDARD.encode(tag)))
}

/// Verifies a signature against the key that its id names. `now` in Unix seconds.
pub fn verify<'k>(
    signed: Signed<'_>,
    signature_input: &str,
    signature: &str,
    key_by_id: impl Fn(&str) -> Option<&'k [u8]>,
    now: u64,
) -> Result<Verified, Refusal> {
    let parameters = signature_input
        .strip_prefix(LABEL)
        .and_then(|rest| rest.strip_prefix('='))
        .ok_or(Refusal::Malformed)?;
    let values = parameters.strip_prefix(COMPONENTS).ok_or(Refusal::Malformed)?;
    let value = |name: &str| {
        values
            .split(';')
            .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
            .map(|value| value.trim_matches('"'))
    };
    let number = |name: &str| value(name).and_then(|text| text.parse::<u64>().ok()).ok_or(Refusal::Malformed);
    let (created, expires) = (number("created")?, number("expires")?);
    let nonce = value("nonce").filter(|nonce| (16..=64).contains(&nonce.len())).ok_or(Refusal::Malformed)?;
    let key = value("keyid").and_then(key_by_id).ok_or(Refusal::UnknownKey)?;
    let tag = signature
        .strip_prefix(LABEL)
        .and_then(|rest| rest.strip_prefix("=:"))
        .and_then(|rest| rest.strip_suffix(':'))
        .and_then(|text| STANDARD.decode(text).ok())
        .ok_or(Refusal::Malformed)?;
    mac(key, &signature_base(signed, parameters)).verify_slice(&tag).map_err(|_| Refusal::Forged)?;
    // The signer's clock may run ahead of ours by as much as a signature is valid.
    if now > expires || created > now + VALIDITY_SECONDS || expires > created + VALIDITY_SECONDS {
        return Err(Refusal::Expired);
    }
    Ok(Verified { nonce: nonce.to_owned(), expires })
}

fn signature_base(signed: Signed<'_>, parameters: &str) -> String {
    let (path, query) = signed.target.split_once('?').unwrap_or((signed.target, ""));
    let Signed { method, context, authorization, idempotency_key, content_digest, .. } = signed;
    format!(
        "\"@method\": {method}\n\"@path\": {path}\n\"@query\": ?{query}\n\"optimist-context\": {context}\n\
         \"authorization\": {authorization}\n\"idempotency-key\": {idempotency_key}\n\
         \"content-digest\": {content_digest}\n\"@signature-params\": {parameters}"
    )
}

fn mac(key: &[u8], base: &str) -> Hmac<Sha256> {
    // HMAC takes a key of any length.
    #[allow(clippy::expect_used)]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC accepts any key length");
    mac.update(base.as_bytes());
    mac
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = &[9; 32];
    const NOW: u64 = 1_800_000_000;

    fn signed(target: &str) -> Signed<'_> {
        Signed {
            method: "GET",
            target,
            context: "identity=public",
            authorization: "",
            idempotency_key: "",
            content_digest: "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:",
        }
    }

    fn check(signed: Signed<'_>, now: u64, key: &'static [u8]) -> Result<Verified, Refusal> {
        let (input, signature) = sign(super::tests::signed("/v1/me?x=1"), "k1", KEY, "0123456789abcdef", NOW);
        verify(signed, &input, &signature, |id| (id == "k1").then_some(key), now)
    }

    #[test]
    fn a_signature_verifies_for_thirty_seconds() {
        assert_eq!(check(signed("/v1/me?x=1"), NOW + 30, KEY).unwrap().nonce, "0123456789abcdef");
        assert_eq!(check(signed("/v1/me?x=1"), NOW + 31, KEY), Err(Refusal::Expired));
        assert_eq!(check(signed("/v1/me?x=1"), NOW - 31, KEY), Err(Refusal::Expired));
    }

    #[test]
    fn any_change_is_a_forgery() {
        assert_eq!(check(signed("/v1/me?x=2"), NOW, KEY), Err(Refusal::Forged));
        assert_eq!(check(signed("/v1/me"), NOW, KEY), Err(Refusal::Forged));
        assert_eq!(check(Signed { method: "PUT", ..signed("/v1/me?x=1") }, NOW, KEY), Err(Refusal::Forged));
        assert_eq!(
            check(Signed { context: "identity=unchecked", ..signed("/v1/me?x=1") }, NOW, KEY),
            Err(Refusal::Forged)
        );
        assert_eq!(
            check(Signed { authorization: "Bearer x", ..signed("/v1/me?x=1") }, NOW, KEY),
            Err(Refusal::Forged)
        );
        assert_eq!(
            check(Signed { idempotency_key: "x", ..signed("/v1/me?x=1") }, NOW, KEY),
            Err(Refusal::Forged)
        );
        assert_eq!(
            check(Signed { content_digest: &content_digest(b"x"), ..signed("/v1/me?x=1") }, NOW, KEY),
            Err(Refusal::Forged)
        );
        assert_eq!(check(signed("/v1/me?x=1"), NOW, &[8; 32]), Err(Refusal::Forged));
    }

    /// The digest of an empty body, from RFC 9530.
    #[test]
    fn a_digest_is_of_the_body() {
        assert_eq!(content_digest(b""), signed("/").content_digest);
        assert_ne!(content_digest(b"{}"), content_digest(b""));
    }

    #[test]
    fn contexts_round_trip() {
        let context = Context {
            identity: Identity::Session { user: Uuid::from_u128(1), session: Uuid::from_u128(2) },
            role: Some(Role::Member),
            client: "2001:db8:1:2::/64".to_owned(),
            region: "eu".to_owned(),
            request_id: "0190a0a0-0000-7000-8000-000000000001".to_owned(),
            charged: Charged::Limits,
        };
        assert_eq!(Context::parse(&context.render()), Some(context.clone()));
        let unchecked =
            Context { identity: Identity::Unchecked, role: None, charged: Charged::Nothing, ..context };
        assert_eq!(Context::parse(&unchecked.render()), Some(unchecked));
        assert_eq!(Context::parse("identity=public"), None);
    }
}
