//! Properties of every signature and every context, genuine or not.

use proptest::prelude::*;

use super::*;

const KEY: &[u8] = b"a key of the edge's and the origin's";
const NOW: u64 = 1_800_000_000;

#[derive(Clone, Debug)]
struct Sent {
    method: String,
    target: String,
    context: String,
    authorization: String,
    idempotency_key: String,
    content_digest: String,
    input: String,
    signature: String,
}

impl Sent {
    fn verify(&self, now: u64) -> Result<Verified, Refusal> {
        let Sent {
            method,
            target,
            context,
            authorization,
            idempotency_key,
            content_digest,
            input,
            signature,
        } = self;
        let signed = Signed { method, target, context, authorization, idempotency_key, content_digest };
        verify(signed, input, signature, |id| (id == "k1").then_some(KEY), now)
    }

    fn parts(&mut self) -> [&mut String; 8] {
        let Sent {
            method,
            target,
            context,
            authorization,
            idempotency_key,
            content_digest,
            input,
            signature,
        } = self;
        [method, target, context, authorization, idempotency_key, content_digest, input, signature]
    }
}

prop_compose! {
    fn sent()(
        method in "GET|POST|PUT|PATCH|DELETE",
        target in "/[a-z0-9/]{0,40}([?][a-z0-9=&%]{0,20})?",
        context in "identity=[a-z]{0,12};role=[a-z]{0,8}",
        authorization in "(Bearer [0-9a-f.]{10,60})?",
        idempotency_key in "[0-9a-f-]{0,36}",
        body in "[a-z]{0,40}",
        nonce in "[0-9a-f]{32}",
    ) -> Sent {
        let content_digest = content_digest(body.as_bytes());
        let signed = Signed {
            method: &method,
            target: &target,
            context: &context,
            authorization: &authorization,
            idempotency_key: &idempotency_key,
            content_digest: &content_digest,
        };
        let (input, signature) = sign(signed, "k1", KEY, &nonce, NOW);
        Sent { method, target, context, authorization, idempotency_key, content_digest, input, signature }
    }
}

fn contexts() -> impl Strategy<Value = Context> {
    let identity = prop_oneof![
        Just(Identity::Public),
        Just(Identity::Unchecked),
        any::<(u128, u128)>().prop_map(|(user, session)| Identity::Session {
            user: Uuid::from_u128(user),
            session: Uuid::from_u128(session)
        }),
    ];
    let role = proptest::option::of(prop_oneof![Just(Role::Owner), Just(Role::None), Just(Role::Banned)]);
    let text = "[0-9a-z:./-]{0,40}";
    (identity, role, text, "[a-z0-9-]{1,12}", text, proptest::sample::select(&Charged::ALL[..])).prop_map(
        |(identity, role, client, region, request_id, charged)| Context {
            identity,
            role,
            client,
            region,
            request_id,
            charged,
        },
    )
}

proptest! {
    #[test]
    fn what_is_signed_verifies_in_its_time(sent in sent(), after in 0..=VALIDITY_SECONDS, later in 1..1_000u64) {
        prop_assert!(sent.verify(NOW + after).is_ok());
        prop_assert_eq!(sent.verify(NOW + VALIDITY_SECONDS + later), Err(Refusal::Expired));
    }

    /// In method, target, context, token, key, digest, parameters or signature.
    #[test]
    fn no_bit_may_change(sent in sent(), part in 0..8usize, at: usize, bit in 0..7u8) {
        let mut forged = sent;
        let text = &mut *forged.parts()[part];
        prop_assume!(!text.is_empty());
        let mut bytes = std::mem::take(text).into_bytes();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        // Every part is ASCII.
        *text = String::from_utf8(bytes).unwrap();
        prop_assert!(forged.verify(NOW).is_err(), "{forged:?}");
    }

    #[test]
    fn nothing_may_be_missing(sent in sent(), part in 0..8usize, length: usize) {
        let mut cut = sent.clone();
        let text = &mut *cut.parts()[part];
        prop_assume!(!text.is_empty());
        text.truncate(length % text.len());
        // An empty query and none are the same (RFC 9421, 2.2.7).
        prop_assume!(format!("{}?", cut.target) != sent.target);
        prop_assert!(cut.verify(NOW).is_err(), "{cut:?}");
    }

    #[test]
    fn whatever_comes_as_a_signature_is_refused(
        sent in sent(),
        input in "(edge=)?([(]\"@method\" \"@path\" \"@query\" \"optimist-context\" \"authorization\" \"idempotency-key\" \"content-digest\"[)])?(;(created|expires|nonce|keyid)=\"?[k0-9]{0,24}\"?){0,5}|\\PC*",
        signature in "(edge=:)?[0-9A-Za-z+/=]{0,60}:?|\\PC*",
    ) {
        let forged = Sent { input, signature, ..sent };
        prop_assert!(forged.verify(NOW).is_err());
    }

    #[test]
    fn contexts_have_one_spelling(context in contexts(), text in "identity=(public|unchecked|x);role=(unknown|owner|king);client=[a-z=]{0,3};region=eu;request=;charged=(nothing|token|limits|x)?(;x=y)?|\\PC*") {
        prop_assert_eq!(Context::parse(&context.render()), Some(context));
        if let Some(context) = Context::parse(&text) {
            prop_assert_eq!(context.render(), text);
        }
    }
}
