//! Write-behind requests: Redis takes the write first. `None` if it does not, or may not have taken it: the origin then takes
//! it, and applying it twice changes nothing.
//!
//! A reaction is made in the trip that admits it, unless Redis is a cluster: its user and its circle are of two slots. The script
//! then judges the caller's right to write as [`crate::answer`] does otherwise, before the second trip.

use optimist_shared::ids::Id;
use optimist_shared::reactions::{Counts, Promise};
use optimist_shared::routes::AtEdge;
#[cfg(feature = "test-hooks")]
use optimist_shared::scripts::Call;
use optimist_shared::scripts::admit::{Admission, Admitted};
use optimist_shared::scripts::admit_react;
use optimist_shared::scripts::mark_read::{self, Marked};
use optimist_shared::scripts::react::{self, Reacted, Reaction};
use optimist_shared::scripts::visit::{self, Visited};
use optimist_shared::session::Token;
use optimist_shared::vouching::Vouched;

use crate::ask::{AtOnce, Found};
use crate::host::{Host, Request, Response};
use crate::passage::Passage;
use crate::sent::Sent;
use crate::trip::Trip;

impl<H: Host, R: Request> Passage<'_, H, R> {
    /// The reaction to make in the trip that admits it, if that may be.
    pub fn reaction_at_once(&self, token: Token) -> Option<Reaction> {
        let AtEdge::React { reacted } = self.route.at_edge else { return None };
        let may_be = self.edge.spans_slots.get() && self.request.header("if-match").is_none();
        self.reaction(token, reacted).filter(|_| may_be)
    }

    /// Admits and reacts in one trip.
    pub async fn admit_and_react(
        &mut self,
        admission: &Admission,
        reaction: Reaction,
    ) -> Option<(Admitted, Found)> {
        let mut trip = Trip::default();
        let call = admit_react::call(admission, &reaction, self.exchange.started_ms);
        #[cfg(feature = "test-hooks")]
        let call = match self.edge.config.is_disabled("edge-belief") {
            true => Call { script: &admit_react::ANY_EPOCH, ..call },
            false => call,
        };
        let slot = trip.call(call, |reply| admit_react::read(admission, reply));
        let (admitted, found) = self.send(&admission.token.user.to_string(), &trip).await?.take(slot);
        let at_once = match found.reacted {
            Some(Reacted::Done(counts)) => AtOnce::Reacted(reaction, counts),
            Some(Reacted::Closed | Reacted::Absent | Reacted::Full) | None => AtOnce::Refused,
        };
        let vouched = Vouched::parse(&found.vouch);
        Some((admitted, Found { vouched, access: found.access, at_once, ..Found::default() }))
    }

    /// Makes a reaction in a trip of its own. The caller's right to write was checked before.
    pub async fn react(&mut self, token: Token, reacted: bool) -> Option<Response> {
        let reaction = self.reaction(token, reacted)?;
        let mut trip = Trip::default();
        let outcome = trip.call(reaction.call(), |reply| react::read(reply));
        match self.send(&token.user.to_string(), &trip).await?.take(outcome)? {
            Reacted::Done(counts) => Some(self.reacted(&reaction, &counts)),
            Reacted::Closed | Reacted::Absent | Reacted::Full => None,
        }
    }

    fn reaction(&self, token: Token, reacted: bool) -> Option<Reaction> {
        Some(Reaction {
            user: token.user,
            circle: self.path.ids.get(Id::Circle)?,
            message: self.path.ids.get(Id::Message)?,
            kind: self.path.kind?,
            reacted,
        })
    }

    pub fn reacted(&self, reaction: &Reaction, counts: &Counts) -> Response {
        self.respond_json(202, reaction.answer(counts, Promise::Redis))
    }

    /// Records a visit. The caller's right to write was checked before.
    pub async fn visit(&mut self, token: Token) -> Option<Response> {
        let circle = self.path.ids.get(Id::Circle)?;
        let mut trip = Trip::default();
        let outcome = trip.call(visit::call(token.user, circle), |reply| visit::read(reply));
        match self.send(&token.user.to_string(), &trip).await?.take(outcome)? {
            Visited::Done => Some(self.respond_json(202, visit::answer(Promise::Redis))),
            Visited::Closed | Visited::Full => None,
        }
    }

    /// Moves the caller's read marker. Their right was checked before.
    pub async fn mark_read(&mut self, token: Token) -> Option<Response> {
        // Only the origin knows what `If-Match` may name.
        if self.request.header("if-match").is_some() {
            return None;
        }
        let circle = self.path.ids.get(Id::Circle)?;
        let number = Sent::of(self.request, &["number"])?.number("number")?;
        let mut trip = Trip::default();
        let call = mark_read::call(token.user, circle, number);
        let outcome = trip.call(call, |reply| mark_read::read(reply));
        match self.send(&token.user.to_string(), &trip).await?.take(outcome)? {
            Marked::Done => Some(self.respond_empty()),
            Marked::Closed | Marked::Full | Marked::Unknown => None,
        }
    }
}
