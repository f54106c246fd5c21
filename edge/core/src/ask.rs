//! Asks Redis about a request and reads its replies, without judging them. One trip; a second one if a page of counts is
//! stale.

use optimist_shared::blocks::Blocked;
use optimist_shared::envelope::{Body, DEFAULT_LIMIT, Envelope, Stamp};
use optimist_shared::ids::{Id, Partition, Uuid};
use optimist_shared::keys::{BoundKey, Key};
use optimist_shared::limits::{LIMITS, LimitState, Scope};
use optimist_shared::reactions::Counts;
use optimist_shared::routes::{AtEdge, Audience, Overlay, Route};
use optimist_shared::scripts::Scalars as _;
use optimist_shared::scripts::admit::{Admission, Admitted, Session};
use optimist_shared::scripts::counts::{self, Shown};
use optimist_shared::scripts::limit::Charge;
use optimist_shared::scripts::react::Reaction;
use optimist_shared::session::{Access, Token};
use optimist_shared::vouching::Vouched;

use crate::copy::{Bytes, Copy, further_reach, reach};
use crate::host::{Host, Request};
use crate::passage::{Passage, apart};
use crate::redis::Fields;
use crate::trip::{Slot, Trip};

#[derive(Default)]
pub struct Found {
    pub vouched: Option<Vouched>,
    /// The value of the route's key; empty if Redis has none.
    pub value: Bytes,
    /// The envelope of the circle's access.
    pub access: Vec<u8>,
    /// The envelope of those whom the person that the value is about has blocked.
    pub blocked_there: Vec<u8>,
    pub counts: Option<Shown>,
    /// The state of the caller's limits, if the route answers with it.
    pub limits: Vec<LimitState>,
    pub at_once: AtOnce,
}

/// What of a copy its reader must not see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Veil {
    None,
    /// For this reader it does not exist.
    Whole,
    /// Only the origin can say.
    Unknown,
}

/// The outcome of a write in the trip that admits it.
#[derive(Default)]
pub enum AtOnce {
    #[default]
    NotTried,
    /// Redis has not made it: the origin must.
    Refused,
    Reacted(Reaction, Counts),
}

/// Whether a page of counts is kept for the readers of this list: there is one for each circle.
fn keeps_page(key: &BoundKey) -> bool {
    key.key() == Key::CircleMessages
}

impl Found {
    pub fn access(&self, trusted: impl Fn(&Stamp) -> bool) -> Option<Access> {
        let envelope = Envelope::decode(&self.access).filter(|envelope| trusted(&envelope.stamp))?;
        match envelope.body {
            Body::Text(access) => Access::parse(access),
            _ => None,
        }
    }

    /// What blocks mean for this copy, which `caller` asks for.
    pub fn veil(
        &self,
        route: &Route,
        caller: Uuid,
        session: &Session,
        copy: &Copy<'_>,
        trusted: impl Fn(&Stamp) -> bool,
    ) -> Veil {
        if !route.overlays.contains(&Overlay::Blocks) {
            return Veil::None;
        }
        let read = |bytes: &[u8], judge: &dyn Fn(Blocked<'_>) -> Veil| {
            let envelope = Envelope::decode(bytes).filter(|envelope| trusted(&envelope.stamp));
            match envelope.map(|envelope| envelope.body) {
                Some(Body::Text(ids)) => Blocked::parse(ids).map_or(Veil::Unknown, judge),
                _ => Veil::Unknown,
            }
        };
        let own = read(&session.blocked, &|blocked| match copy {
            _ if blocked.is_empty() => Veil::None,
            Copy::Read(envelope) if !envelope.body.texts().any(|json| blocked.are_named(json)) => Veil::None,
            _ => Veil::Unknown,
        });
        if own == Veil::None && route.key == Some(Key::Profile) {
            let there =
                |blocked: Blocked<'_>| if blocked.contains(caller) { Veil::Whole } else { Veil::None };
            return read(&self.blocked_there, &there);
        }
        own
    }

    /// The reaction counts of a value's items, where `trusted` accepts their epoch.
    pub fn counts(&self, copy: &Copy<'_>, trusted: impl Fn(u64) -> bool) -> Vec<Option<Counts>> {
        self.counts.as_ref().map(|counts| counts.of(copy.ids(), trusted)).unwrap_or_default()
    }
}

/// Reads a reply of counts, whichever command asked for it.
type ReadCounts = fn(&mut Fields<'_>) -> Shown;

impl<H: Host, R: Request> Passage<'_, H, R> {
    /// One trip. A reaction may be made in it: see [`crate::behind`]. Else it has `admit`; the vouching, access and value that decide and answer the request, with the value's counts; and the
    /// states of the limits, if they are the answer. Of a value that may be large, the first bytes: see [`crate::copy`].
    pub async fn ask(&mut self, admission: &Admission) -> Option<(Admitted, Found)> {
        let token = admission.token;
        if let Some(reaction) = self.reaction_at_once(token) {
            let asked = apart(self.admit_and_react(admission, reaction)).await;
            if asked.is_some() || self.edge.spans_slots.get() {
                return asked;
            }
        }
        let key = self.cached(token);
        let mut trip = Trip::default();
        let admitted = trip.call(admission.call(), |reply| admission.read(reply));
        let vouch = Key::Vouch.of_partition(self.partition(token, key.as_ref()));
        let vouched = trip.value(vouch, |reply| Vouched::parse(&reply.bytes()));
        let reach = key.and_then(|_| reach(self.wanted, self.request.header("if-none-match").is_some()));
        let access = self.access_key().map(|key| trip.value(key.name(), |reply| reply.bytes()));
        let blocked_there = self.blocked_there(key).map(|key| trip.get(key.name(), |reply| reply.bytes()));
        let counts = key.and_then(|key| self.ask_counts(&mut trip, &key));
        // After the vouching: a value that is newer than its vouching is as good.
        let value = key.map(|key| trip.bytes(key.name(), reach, |reply| reply.bytes()));
        let all_limits = self.all_limits(token);
        let limits = all_limits.as_ref().map(|charge| trip.call(charge.peek(), |reply| charge.states(reply)));

        let mut answers = self.send(&token.user.to_string(), &trip).await?;
        let admitted = answers.take(admitted);
        let mut vouched = answers.take(vouched);
        if let (true, Admitted::Yes(session)) = (self.edge.config.is_disabled("edge-vouching"), &admitted) {
            vouched = session.epoch.map(|epoch| Vouched { epoch, degraded: false });
        }
        let value = value.map(|slot| answers.take(slot)).unwrap_or_default();
        let found = Found {
            vouched,
            value: Bytes::new(value, reach),
            access: access.map(|slot| answers.take(slot)).unwrap_or_default(),
            blocked_there: blocked_there.map(|slot| answers.take(slot)).unwrap_or_default(),
            counts: counts.map(|slot| answers.take(slot)),
            limits: limits.map(|slot| answers.take(slot)).unwrap_or_default(),
            ..Found::default()
        };
        Some((admitted, found))
    }

    /// Makes a second trip if somebody reacted or posted since the page of counts was made, if it is too short, or if the first
    /// bytes of the value do not suffice.
    pub async fn complete(&mut self, token: Token, session: &Session, found: &mut Found) {
        let (Some(limit), Some(key)) = (self.wanted.limit(), self.cached(token)) else { return };
        let mut trip = Trip::default();
        let is_stale = found.counts.as_ref().is_some_and(|counts| !counts.are_of(found.value.first(), limit));
        // A page of the usual length is kept for the next reader.
        let is_kept = limit <= DEFAULT_LIMIT && keeps_page(&key);
        let call = counts::call(&key, limit.max(DEFAULT_LIMIT), is_kept).filter(|_| is_stale);
        let counts = call.map(|call| trip.call(call, |reply| counts::read(reply)));
        let suffices = !found.value.are_cut() || !is_stale && self.suffices(session, found);
        let reach = further_reach(self.wanted);
        let value = (!suffices).then(|| trip.bytes(key.name(), reach, |reply| reply.bytes()));
        if counts.is_none() && value.is_none() {
            return;
        }
        if let Some(mut answers) = self.send(&token.user.to_string(), &trip).await {
            found.counts = counts.map(|slot| answers.take(slot)).or(found.counts.take());
            if let Some(bytes) = value.map(|slot| answers.take(slot)) {
                found.value = Bytes::new(bytes, reach);
            }
        }
    }

    /// The key whose value may answer the request.
    pub fn cached_key(&self) -> Option<Key> {
        self.route.key.filter(|_| self.wanted.limit().is_some())
    }

    fn cached(&self, token: Token) -> Option<BoundKey> {
        self.cached_key()?.of(&self.ids(token))
    }

    /// The partition whose vouching decides: that of the key that is read or written, else the caller's.
    fn partition(&self, token: Token, key: Option<&BoundKey>) -> Partition {
        let of = match self.route.at_edge {
            AtEdge::Cached => key.map(BoundKey::partition),
            AtEdge::React { .. } | AtEdge::Visit | AtEdge::MarkRead | AtEdge::Type => {
                self.path.ids.get(Id::Circle).map(Partition::of)
            }
            AtEdge::Forward | AtEdge::Session | AtEdge::Limits | AtEdge::SayPresence => None,
            AtEdge::SaveMessageDraft | AtEdge::ReadMessageDraft | AtEdge::DropMessageDraft => None,
            AtEdge::NoteRecent | AtEdge::ListRecent => None,
        };
        of.unwrap_or_else(|| Partition::of(token.user))
    }

    /// The key of the circle's access, where it decides.
    fn access_key(&self) -> Option<BoundKey> {
        let decides = self.route.audience == Audience::CircleReader
            || matches!(self.route.at_edge, AtEdge::React { .. } | AtEdge::Visit | AtEdge::Type);
        self.path.ids.get(Id::Circle).filter(|_| decides).map(Key::circle_access)
    }

    /// The key of those whom the person has blocked that the value is about.
    fn blocked_there(&self, key: Option<BoundKey>) -> Option<BoundKey> {
        key.filter(|key| key.key() == Key::Profile)?.ids().get(Id::User).map(Key::blocked)
    }

    /// Asks for the reaction counts that are joined to a value.
    fn ask_counts(&self, trip: &mut Trip<'_>, key: &BoundKey) -> Option<Slot<ReadCounts>> {
        if !self.route.overlays.contains(&Overlay::Reactions) {
            return None;
        }
        if let Some(message) = key.ids().get(Id::Message).filter(|_| key.key() == Key::Message) {
            let counts = key.beside(Key::Counts)?.name();
            return Some(trip.field(counts, message.to_string(), |reply| Shown::of_message(reply.bytes())));
        }
        match self.wanted.limit() {
            // More items than the kept page has, or there is none.
            Some(limit) if limit > DEFAULT_LIMIT || !keeps_page(key) => {
                Some(trip.call(counts::call(key, limit, false)?, |reply| counts::read(reply)))
            }
            _ => Some(trip.value(key.beside(Key::CountsPage)?.name(), |reply| counts::read(reply))),
        }
    }

    /// The limits whose state is the answer.
    fn all_limits(&self, token: Token) -> Option<Charge> {
        let rows = || LIMITS.iter().filter(|row| row.scope == Scope::User).collect();
        let is_answer = self.route.at_edge == AtEdge::Limits;
        is_answer.then(|| Charge::new(rows(), &token.user.to_string(), String::new()))
    }
}
