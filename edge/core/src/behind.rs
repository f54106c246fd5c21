//! Write-behind requests: Redis takes the write first. `None` if it does not, or may not have taken it: the origin then takes
//! it, and applying it twice changes nothing. The caller's right to write was checked before.

use optimist_shared::ids::Id;
use optimist_shared::reactions::Promise;
use optimist_shared::scripts::react::{self, Reacted, Reaction};
use optimist_shared::scripts::visit::{self, Visited};
use optimist_shared::session::Token;

use crate::host::{Host, Request, Response};
use crate::passage::Passage;
use crate::trip::Trip;

impl<H: Host, R: Request> Passage<'_, H, R> {
    pub async fn react(&mut self, token: Token, reacted: bool) -> Option<Response> {
        let reaction = Reaction {
            user: token.user,
            circle: self.path.ids.get(Id::Circle)?,
            message: self.path.ids.get(Id::Message)?,
            kind: self.path.kind?,
            reacted,
        };
        let mut trip = Trip::default();
        let outcome = trip.call(reaction.call(), |reply| react::read(reply));
        match self.send(&token.user.to_string(), &trip).await?.take(outcome)? {
            Reacted::Done(counts) => Some(self.respond_json(202, reaction.answer(&counts, Promise::Redis))),
            Reacted::Closed | Reacted::Absent | Reacted::Full => None,
        }
    }

    pub async fn visit(&mut self, token: Token) -> Option<Response> {
        let circle = self.path.ids.get(Id::Circle)?;
        let mut trip = Trip::default();
        let outcome = trip.call(visit::call(token.user, circle), |reply| visit::read(reply));
        match self.send(&token.user.to_string(), &trip).await?.take(outcome)? {
            Visited::Done => Some(self.respond_json(202, visit::answer(Promise::Redis))),
            Visited::Closed | Visited::Full => None,
        }
    }
}
