//! Admission: one script in the user's slot that checks the secret, charges the limits, reads the membership and keeps
//! the session alive; and what its answer means.

use optimist_shared::envelope::{Body, Envelope};
use optimist_shared::ids::{Partition, Uuid, parse_hex};
use optimist_shared::keys::{Key, Parameters};
use optimist_shared::limits::LimitState;
use optimist_shared::routes::{PathParameters, Route};
use optimist_shared::scripts::EdgeScripts;
use optimist_shared::session::{IDLE_MS, Role, Token, WRITE_BACK_MS};
use optimist_shared::vouching::Vouched;

use crate::host::{Command, Host, Value};
use crate::limit::{Charge, Refused};
use crate::redis::{Call, Fields};

/// What admission sends to Redis, owned so that the calls can borrow from it.
pub struct Admission {
    pub token: Token,
    pub charge: Charge,
    secret_hash: String,
    session_key: String,
    membership_key: Option<String>,
    idle_ms: String,
    write_back_ms: String,
}

impl Admission {
    pub fn new(route: &Route, path: &PathParameters, token: Token, entry: String) -> Admission {
        let parameters = Parameters {
            user: Some(token.user),
            session: Some(token.session),
            circle: path.circle,
            ..Parameters::default()
        };
        let membership_key =
            route.caller.wants_membership().then(|| Key::Membership.render(&parameters)).flatten();
        Admission {
            token,
            charge: Charge::of_user(route, token.user, entry),
            secret_hash: token.secret_hash(),
            session_key: Key::Session.render(&parameters).unwrap_or_default(),
            membership_key,
            idle_ms: IDLE_MS.to_string(),
            write_back_ms: WRITE_BACK_MS.to_string(),
        }
    }

    pub fn call<'a>(&'a self, scripts: &'a EdgeScripts) -> Call<'a> {
        let membership = self.membership_key.as_deref().unwrap_or(&self.session_key);
        let mut keys = vec![self.session_key.as_str(), membership];
        keys.extend(self.charge.keys.iter().map(String::as_str));
        let wants_membership: &[u8] = if self.membership_key.is_some() { b"1" } else { b"0" };
        let mut arguments: Vec<&[u8]> = vec![
            self.secret_hash.as_bytes(),
            self.idle_ms.as_bytes(),
            self.write_back_ms.as_bytes(),
            b"", // Redis's own clock.
            self.charge.entry.as_bytes(),
            wants_membership,
        ];
        arguments.extend(self.charge.description.iter().map(Vec::as_slice));
        Call::Script { script: &scripts.admit, keys, arguments }
    }

    pub fn read(&self, reply: Vec<Value>) -> Admitted {
        let mut fields = Fields::new(reply);
        match fields.text().as_str() {
            "ok" => {
                let epoch = parse_hex(&fields.text()).unwrap_or(0);
                let expires_in_ms = u64::try_from(fields.int()).unwrap_or(0);
                let write_back = fields.text() == "1";
                let membership = fields.bytes();
                let now_ms = u64::try_from(fields.int()).unwrap_or(0);
                let charged = fields.text() == "charged";
                let limits = self.charge.states(&mut fields);
                Admitted::Yes(Session {
                    epoch,
                    expires_in_ms,
                    write_back,
                    membership,
                    now_ms,
                    charged,
                    limits,
                })
            }
            "refused" => {
                fields.text(); // The epoch: a refusal needs no belief.
                let refused = Refused::read(&self.charge.rows, &mut fields);
                Admitted::Limited(refused, self.charge.states(&mut fields))
            }
            "secret" => Admitted::WrongSecret,
            _ => Admitted::Unknown,
        }
    }
}

pub enum Admitted {
    Yes(Session),
    Limited(Refused, Vec<LimitState>),
    /// Redis holds the session, and this is not its secret.
    WrongSecret,
    /// Redis does not hold the session; Postgres may.
    Unknown,
}

/// A session that Redis holds, and what else admission found.
pub struct Session {
    /// Vouched when the session was put into Redis.
    pub epoch: u64,
    pub expires_in_ms: u64,
    /// It is time to tell Postgres that the session is in use.
    pub write_back: bool,
    membership: Vec<u8>,
    /// Redis's clock, Unix milliseconds.
    pub now_ms: u64,
    /// This request made its entry in the limits; otherwise a retry found an earlier one.
    pub charged: bool,
    pub limits: Vec<LimitState>,
}

impl Session {
    /// The caller's role in the circle, if a copy is there that counts under `believed`.
    pub fn role(&self, believed: impl Fn(&Envelope<'_>) -> bool) -> Option<Role> {
        let envelope = Envelope::decode(&self.membership).filter(|envelope| believed(envelope))?;
        match envelope.body {
            Body::Text(role) => Role::parse(role),
            _ => None,
        }
    }

    pub fn is_vouched(&self, vouched: Option<Vouched>) -> bool {
        vouched.is_some_and(|vouched| vouched.epoch == self.epoch)
    }
}

/// Notes that a session is in use, for the job that tells Postgres.
pub fn write_back<H: Host>(host: &H, user: Uuid, session: Uuid, now_ms: u64) {
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
    use optimist_shared::routes::by_name;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

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
        /// A script of another release, or not a script of ours at all.
        #[test]
        fn whatever_admission_is_answered_it_is_understood_or_nobody_is_admitted(
            outcome in "ok|refused|secret|unknown|[a-z]{0,4}",
            rest in vec(values(), 0..16),
        ) {
            let route = by_name("messages.post").unwrap();
            let (user, session) = (Uuid::from_u128(1), Uuid::from_u128(2));
            let path = PathParameters { circle: Some(Uuid::from_u128(3)), ..PathParameters::default() };
            let token = Token { user, session, secret: [7; 32] };
            let admission = Admission::new(route, &path, token, "entry".to_owned());
            let windows: usize = admission.charge.rows.iter().map(|row| row.windows.len()).sum();
            let reply = [vec![Value::Bytes(outcome.clone().into_bytes())], rest].concat();
            match admission.read(reply) {
                Admitted::Yes(session) => {
                    prop_assert_eq!(&outcome, "ok");
                    prop_assert_eq!(session.limits.len(), windows);
                    // What is no membership is unknown: it neither admits nor refuses.
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
