//! Admission: who asks, and whether a limit refuses. [`crate::answer`] answers an admitted caller.

use optimist_shared::ids::{Id, Partition, Uuid};
use optimist_shared::keys::Key;
use optimist_shared::limits::{Limit, Scope};
use optimist_shared::routes::{AtEdge, Overlay, Pattern};
use optimist_shared::scripts::admit::{Admission, Admitted};
use optimist_shared::scripts::limit::Charge;
use optimist_shared::session::{Token, attempt_entry, autosave_entry};
use optimist_shared::signature::{Charged, Identity};

use crate::host::{Command, Decision, Host, Request, Response};
use crate::limit::rows_of;
use crate::passage::{Forwarded, Passage, apart};
use crate::trip::Trip;

impl<H: Host, R: Request> Passage<'_, H, R> {
    /// Without a session: charges the address's limits, then forwards.
    pub async fn public(mut self) -> Decision {
        let rows = rows_of(self.route, Scope::Address);
        let charged = if rows.is_empty() {
            Charged::Limits
        } else {
            let charge = Charge::new(rows, &self.client(), self.request_entry());
            match self.charge_apart(&charge).await {
                None => Charged::Nothing,
                Some(Err(refused)) => return Decision::Respond(self.limited(&refused)),
                Some(Ok(())) => Charged::Limits,
            }
        };
        let forwarded = Forwarded { cache_status: "optimist; fwd=bypass", ..Forwarded::default() };
        self.forward(Identity::Public, None, charged, forwarded)
    }

    /// Admits and reads the cached value in one trip, then answers or forwards.
    pub async fn signed_in(mut self) -> Decision {
        let authorization = self.request.header("authorization");
        let Some(token) = authorization.as_deref().and_then(Token::from_authorization) else {
            return Decision::Respond(self.exchange.unauthenticated("Send `Authorization: Bearer <token>`."));
        };
        let admission = self.admission(token);
        let Some((admitted, mut found)) = apart(self.ask(&admission)).await else {
            if self.route.at_edge.is_redis_only() {
                return Decision::Respond(self.without_redis());
            }
            let cache_status = "optimist; fwd=bypass; detail=no-redis";
            let forwarded = Forwarded { cache_status, ..Forwarded::default() };
            return self.forward(Identity::Unchecked, None, Charged::Nothing, forwarded);
        };
        match admitted {
            Admitted::WrongSecret => Decision::Respond(apart(self.bad_token()).await),
            Admitted::Unknown => apart(self.unknown_session()).await,
            Admitted::Limited(refused, states) => {
                self.exchange.limits = Some((admission.charge.rows, states));
                Decision::Respond(self.limited(&refused))
            }
            Admitted::Yes(session) => {
                self.exchange.limits = Some((admission.charge.rows.clone(), session.limits.clone()));
                if session.write_back {
                    write_back(self.host, token.user, token.session, session.now_ms);
                }
                apart(self.complete(token, &session, &mut found)).await;
                apart(self.admitted(&admission, &session, &found)).await
            }
        }
    }

    fn admission(&self, token: Token) -> Admission {
        let rows = rows_of(self.route, Scope::User);
        let circle = self.path.ids.get(Id::Circle).filter(|_| self.route.audience.wants_membership());
        Admission {
            token,
            charge: Charge::new(rows, &token.user.to_string(), self.entry(token.user)),
            circle,
            wants_blocked: self.route.at_edge == AtEdge::Cached
                && self.route.overlays.contains(&Overlay::Blocks),
        }
    }

    /// The name that limits remember this attempt by. A retry with the same idempotency key finds it, as does a draft's next
    /// save.
    fn entry(&self, user: Uuid) -> String {
        if let (Pattern::AutoSave, Some(saved)) = (self.route.pattern, self.path.ids.last()) {
            return autosave_entry(user, saved, self.exchange.started_ms);
        }
        match self.request.header("idempotency-key") {
            Some(key) if self.route.is_idempotent => attempt_entry(user, self.route.name, &key),
            _ => self.request_entry(),
        }
    }

    /// Redis does not know the session: the origin checks the token, and counts it if it is bad. An address that has brought too
    /// many of those is refused here.
    async fn unknown_session(mut self) -> Decision {
        let charge = self.bad_token_charge();
        let mut trip = Trip::default();
        let states = trip.call(charge.peek(), |reply| charge.states(reply));
        let client = self.client();
        if let Some(mut answers) = self.send(&client, &trip).await
            && let Some(refused) = charge.exhausted(&answers.take(states))
        {
            return Decision::Respond(self.limited(&refused));
        }
        let cache_status = "optimist; fwd=bypass; detail=unknown-session";
        let forwarded = Forwarded { cache_status, ..Forwarded::default() };
        self.forward(Identity::Unchecked, None, Charged::Nothing, forwarded)
    }

    /// A wrong secret for a session that exists.
    async fn bad_token(mut self) -> Response {
        let charge = self.bad_token_charge();
        match self.charge_apart(&charge).await {
            Some(Err(refused)) => self.limited(&refused),
            _ => self.exchange.unauthenticated("The session is over, or the token is not its own."),
        }
    }

    fn bad_token_charge(&self) -> Charge {
        Charge::new(vec![Limit::BadTokens.row()], &self.client(), self.request_entry())
    }
}

/// Notes that a session is in use, for the job that tells Postgres.
fn write_back<H: Host>(host: &H, user: Uuid, session: Uuid, now_ms: u64) {
    let key = Key::Touched.of_partition(Partition::of(user)).into_bytes();
    let member = format!("{user}:{session}").into_bytes();
    let seconds = Key::Touched.row().kept_seconds().unwrap_or_default().to_string().into_bytes();
    host.redis_after_response(
        &user.to_string(),
        vec![
            Command(vec![b"ZADD".to_vec(), key.clone(), now_ms.to_string().into_bytes(), member]),
            Command(vec![b"EXPIRE".to_vec(), key, seconds]),
        ],
    );
}

#[cfg(test)]
mod tests {
    use optimist_shared::envelope::Envelope;
    use optimist_shared::routes::by_name;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::host::Value;
    use crate::redis::Fields;

    fn values() -> impl Strategy<Value = Value> {
        let numbers = prop_oneof![any::<i64>(), Just(i64::MIN), Just(i64::MAX), -1..3i64];
        prop_oneof![
            Just(Value::Nil),
            numbers.prop_map(Value::Int),
            "[0-9a-f]{16}|1|charged|-?[0-9]{0,20}".prop_map(|text| Value::Bytes(text.into_bytes())),
            vec(any::<u8>(), 0..80).prop_map(Value::Bytes),
        ]
    }

    proptest! {
        /// The reply may come from a script of another release, or from no script of ours.
        #[test]
        fn whatever_admission_is_answered_it_is_understood_or_nobody_is_admitted(
            outcome in "ok|refused|secret|unknown|[a-z]{0,4}",
            rest in vec(values(), 0..16),
        ) {
            let rows = rows_of(by_name("messages.post").unwrap(), Scope::User);
            let (user, session) = (Uuid::from_u128(1), Uuid::from_u128(2));
            let token = Token { user, session, secret: [7; 32] };
            let charge = Charge::new(rows, "user", "entry".to_owned());
            let admission = Admission { token, charge, circle: Some(Uuid::from_u128(3)), wants_blocked: true };
            let windows: usize = admission.charge.rows.iter().map(|row| row.windows.len()).sum();
            let mut reply = [vec![Value::Bytes(outcome.clone().into_bytes())], rest].concat();
            match admission.read(&mut Fields::new(&mut reply)) {
                Admitted::Yes(session) => {
                    prop_assert_eq!(&outcome, "ok");
                    prop_assert_eq!(session.limits.len(), windows);
                    // A malformed membership counts as unknown: it neither admits nor refuses.
                    let envelope = Envelope::decode(&session.membership);
                    prop_assert!(envelope.is_some() || session.role(|_| true).is_none());
                }
                Admitted::Limited(refused, states) => {
                    prop_assert_eq!(&outcome, "refused");
                    prop_assert!(refused.retry_after >= 1 && refused.limit > 0);
                    prop_assert_eq!(states.len(), windows);
                }
                Admitted::WrongSecret => prop_assert_eq!(&outcome, "secret"),
                Admitted::Unknown => prop_assert!(!matches!(&outcome[..], "ok" | "refused" | "secret")),
            }
        }
    }
}
