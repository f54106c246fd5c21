//! `admit.lua`: admission in the user's slot. It checks the secret, charges the limits, reads the membership and whom the caller has
//! blocked, and keeps the session alive. The caller judges whether Redis is to be trusted.

use super::limit::{Charge, Refused};
use super::script::{Script, script};
use super::{Call, Scalars};
use crate::envelope::{Body, Envelope, Stamp};
use crate::ids::{Uuid, parse_hex};
use crate::keys::Key;
use crate::limits::LimitState;
use crate::session::{IDLE_MS, Role, Token, WRITE_BACK_MS};
use crate::vouching::Vouched;

pub static ADMIT: Script =
    script!("admit": "clock_core.lua", "envelope_core.lua", "limits_core.lua", "admit_core.lua", "admit.lua");

/// The caller's token, the limits that the request is charged to, the circle in which the caller's membership matters, and whether it
/// matters whom the caller has blocked.
#[derive(Clone)]
pub struct Admission {
    pub token: Token,
    pub charge: Charge,
    pub circle: Option<Uuid>,
    pub wants_blocked: bool,
}

#[derive(Debug)]
pub enum Admitted {
    Yes(Session),
    Limited(Refused, Vec<LimitState>),
    /// Redis holds the session, but with another secret.
    WrongSecret,
    /// Redis does not hold the session; Postgres may.
    Unknown,
}

/// A session that Redis holds, and the other findings of admission.
#[derive(Debug)]
pub struct Session {
    /// The epoch vouched when the session was put into Redis. `None` if it is malformed.
    pub epoch: Option<u64>,
    pub expires_in_ms: u64,
    /// It is time to tell Postgres that the session is in use.
    pub write_back: bool,
    /// The membership's envelope; empty if Redis has none.
    pub membership: Vec<u8>,
    /// The envelope of those whom the caller has blocked; empty if Redis has none, or if it does not matter.
    pub blocked: Vec<u8>,
    /// Redis's clock, Unix milliseconds.
    pub now_ms: u64,
    /// This request added its entry to the limits; otherwise a retry found an earlier one.
    pub charged: bool,
    pub limits: Vec<LimitState>,
}

impl Admission {
    pub fn call(&self) -> Call<'_> {
        let [session, membership] = self.keys();
        let (blocked, wanted) = match (self.wants_blocked, self.circle) {
            (true, _) => (Key::blocked(self.token.user).name(), 3),
            (false, Some(_)) => (session.clone(), 2),
            (false, None) => (session.clone(), 1),
        };
        let call = Call::new(&ADMIT).keys([session, membership, blocked]).keys(self.charge.names());
        self.charge.describe(self.describe(call).number(wanted))
    }

    /// The keys of session and membership, which come first. A script takes the session again where no membership is wanted.
    pub(super) fn keys(&self) -> [String; 2] {
        let Token { user, session, .. } = self.token;
        let session = Key::session(user, session).name();
        let membership =
            self.circle.map_or_else(|| session.clone(), |circle| Key::membership(user, circle).name());
        [session, membership]
    }

    /// Adds the arguments that `admit_core.lua` reads, which come first.
    pub(super) fn describe<'a>(&'a self, call: Call<'a>) -> Call<'a> {
        call.text(self.token.secret_hash())
            .number(IDLE_MS)
            .number(WRITE_BACK_MS)
            .text("") // Redis's own clock.
            .text(self.charge.entry.as_str())
    }

    pub fn read(&self, reply: &mut impl Scalars) -> Admitted {
        match reply.text().as_str() {
            "ok" => {
                let mut session = Session {
                    epoch: parse_hex(&reply.text()),
                    expires_in_ms: reply.count(),
                    write_back: reply.text() == "1",
                    membership: reply.bytes(),
                    blocked: Vec::new(),
                    now_ms: reply.count(),
                    charged: reply.text() == "charged",
                    limits: self.charge.states(reply),
                };
                if self.wants_blocked {
                    session.blocked = reply.bytes();
                }
                Admitted::Yes(session)
            }
            "refused" => {
                reply.text(); // The epoch: a refusal needs no trust.
                let refused = Refused::read(&self.charge.rows, reply);
                Admitted::Limited(refused, self.charge.states(reply))
            }
            "secret" => Admitted::WrongSecret,
            _ => Admitted::Unknown,
        }
    }
}

impl Session {
    /// The caller's role in the circle, if `trusted` accepts the copy.
    pub fn role(&self, trusted: impl Fn(&Stamp) -> bool) -> Option<Role> {
        let envelope = Envelope::decode(&self.membership).filter(|envelope| trusted(&envelope.stamp))?;
        match envelope.body {
            Body::Text(role) => Role::parse(role),
            _ => None,
        }
    }

    pub fn is_vouched(&self, vouched: Option<Vouched>) -> bool {
        vouched.is_some_and(|vouched| Some(vouched.epoch) == self.epoch)
    }
}
