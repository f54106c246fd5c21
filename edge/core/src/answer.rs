//! Answers an admitted request from Redis's values, if they can be trusted and the caller has the right to them; else
//! forwards it. [`crate::cache`] makes an answer from a cached value.

use optimist_shared::envelope::Stamp;
use optimist_shared::error::ErrorCode;
use optimist_shared::routes::{AtEdge, Audience, Pattern};
use optimist_shared::scripts::admit::{Admission, Session};
use optimist_shared::session::{Access, Role, SessionInfo, Token};
use optimist_shared::signature::{Charged, Identity};
use optimist_shared::vouching::Vouched;

use crate::ask::{AtOnce, Found, Veil};
use crate::cache::{self, Mark, Overlays, Right, Wanted};
use crate::copy::Copy;
use crate::host::{Decision, Host, Request, Response};
use crate::origin::Refund;
use crate::passage::{Forwarded, Passage, apart};

/// The findings about an admitted request under the vouched epoch.
#[derive(Clone, Copy)]
struct Judged {
    vouched: Vouched,
    role: Option<Role>,
    access: Option<Access>,
    /// The caller's right to the value that the route reads.
    right: Right,
}

impl<H: Host, R: Request> Passage<'_, H, R> {
    /// The session is in Redis, its secret is right, and no limit is used up.
    pub async fn admitted(mut self, admission: &Admission, session: &Session, found: &Found) -> Decision {
        let token = admission.token;
        if let AtOnce::Reacted(reaction, counts) = found.at_once {
            return Decision::Respond(self.reacted(&reaction, &counts));
        }
        let copy = self.wanted.limit().and_then(|limit| found.value.read(limit));
        let copy = copy.as_ref();
        let refund = session.charged.then(|| Refund {
            spread: token.user.to_string(),
            rows: admission.charge.refundable_rows(),
            keys: admission.charge.refundable(),
            entry: admission.charge.entry.clone(),
        });
        let Some(vouched) = found.vouched.filter(|_| session.is_vouched(found.vouched)) else {
            // Redis may have missed a revocation or a write. The kept copy is the best if the origin cannot answer.
            let kept = self.kept(token, session, found, copy);
            let cache_status = "optimist; fwd=bypass; detail=unvouched";
            let forwarded = Forwarded { cache_status, refund, kept };
            return self.forward(Identity::Unchecked, None, Charged::Limits, forwarded);
        };
        let judged = self.judge(vouched, session, found);
        let answer = match self.route.at_edge {
            AtEdge::Forward => None,
            AtEdge::Cached => self.cached_answer(judged, admission.token, session, found, copy),
            AtEdge::Session => Some(self.session_info(token, session)),
            AtEdge::Limits => {
                // Structs of names and numbers always serialise.
                let items = serde_json::to_string(&found.limits).unwrap_or_default();
                Some(self.respond_json(200, format!(r#"{{"items":{items},"next":null}}"#).into_bytes()))
            }
            AtEdge::React { .. } if matches!(found.at_once, AtOnce::Refused) => None,
            AtEdge::React { reacted } if judged.may_write() && self.request.header("if-match").is_none() => {
                apart(self.react(token, reacted)).await
            }
            AtEdge::Visit if judged.may_write() => apart(self.visit(token)).await,
            AtEdge::MarkRead if judged.is_member() => apart(self.mark_read(token)).await,
            AtEdge::Type if judged.may_write() => apart(self.redis_only(token)).await,
            AtEdge::SaveMessageDraft | AtEdge::ReadMessageDraft | AtEdge::DropMessageDraft
                if judged.is_member() =>
            {
                apart(self.redis_only(token)).await
            }
            AtEdge::SayPresence | AtEdge::NoteRecent | AtEdge::ListRecent => {
                apart(self.redis_only(token)).await
            }
            AtEdge::React { .. } | AtEdge::Visit | AtEdge::MarkRead | AtEdge::Type => None,
            AtEdge::SaveMessageDraft | AtEdge::ReadMessageDraft | AtEdge::DropMessageDraft => None,
        };
        if let Some(response) = answer {
            return Decision::Respond(response);
        }
        self.count_read("miss");
        let cache_status = self.cache_status(judged, copy);
        let kept = (judged.right == Right::Granted).then(|| self.kept(token, session, found, copy)).flatten();
        let identity = Identity::Session { user: token.user, session: token.session };
        let forwarded = Forwarded { cache_status, refund, kept };
        self.forward(identity, judged.role, Charged::Limits, forwarded)
    }

    fn judge(&self, vouched: Vouched, session: &Session, found: &Found) -> Judged {
        let trusted = |stamp: &Stamp| vouched.trusts(stamp, self.exchange.started_ms);
        let (role, access) = (session.role(trusted), found.access(trusted));
        let right = match self.route.audience {
            Audience::CircleReader => cache::right_to_read(role, access),
            _ => Right::Granted,
        };
        Judged { vouched, role, access, right }
    }

    /// The answer from the route's key; 404 for callers who must not know of it; `None` if the origin must answer.
    fn cached_answer(
        &self,
        judged: Judged,
        token: Token,
        session: &Session,
        found: &Found,
        copy: Option<&Copy<'_>>,
    ) -> Option<Response> {
        let Judged { vouched, role, right, .. } = judged;
        if right == Right::Hidden {
            return Some(self.exchange.error(ErrorCode::NotFound));
        }
        let copy = copy.filter(|copy| self.is_hit(judged, copy))?;
        let trusted = |stamp: &Stamp| vouched.trusts(stamp, self.exchange.started_ms);
        match found.veil(self.route, token.user, session, copy, trusted) {
            Veil::None => {}
            _ if self.edge.config.is_disabled("edge-veil") => {}
            Veil::Whole => return Some(self.exchange.error(ErrorCode::NotFound)),
            Veil::Unknown => return None,
        }
        let mark = if vouched.degraded { Mark::Degraded } else { Mark::Fresh };
        let counts = found.counts(copy, |epoch| vouched.epoch == epoch);
        let response = self.render(copy, &Overlays { role, counts }, mark)?;
        self.count_read("hit");
        Some(response)
    }

    fn is_hit(&self, judged: Judged, copy: &Copy<'_>) -> bool {
        judged.right == Right::Granted && judged.vouched.trusts(copy.stamp(), self.exchange.started_ms)
    }

    /// The answer from any copy, of any epoch and age, for when the origin cannot answer.
    fn kept(
        &self,
        token: Token,
        session: &Session,
        found: &Found,
        copy: Option<&Copy<'_>>,
    ) -> Option<Response> {
        let veil = |copy: &&Copy<'_>| found.veil(self.route, token.user, session, copy, |_| true);
        let copy = copy.filter(|copy| veil(copy) == Veil::None)?;
        let role = session.role(|_| true);
        let readable = self.route.audience != Audience::CircleReader
            || cache::right_to_read(role, found.access(|_| true)) == Right::Granted;
        let overlays = Overlays { role, counts: found.counts(copy, |_| true) };
        readable.then(|| self.render(copy, &overlays, Mark::Degraded))?
    }

    /// Whether the bytes that were read of a value suffice for an answer from it, if it can be trusted.
    pub fn suffices(&self, session: &Session, found: &Found) -> bool {
        let copy = self.wanted.limit().and_then(|limit| found.value.read(limit));
        copy.is_some_and(|copy| {
            let overlays = Overlays { role: session.role(|_| true), counts: found.counts(&copy, |_| true) };
            self.render(&copy, &overlays, Mark::Fresh).is_some()
        })
    }

    fn render(&self, copy: &Copy<'_>, overlays: &Overlays, mark: Mark) -> Option<Response> {
        cache::answer(&self.exchange, self.request, self.route, self.wanted, copy, overlays, mark)
    }

    /// `Cache-Status` of a forwarded request.
    fn cache_status(&self, judged: Judged, copy: Option<&Copy<'_>>) -> &'static str {
        match self.route.pattern {
            Pattern::CacheAside if self.wanted == Wanted::Other => "optimist; fwd=bypass",
            Pattern::CacheAside => match copy {
                Some(copy) if self.is_hit(judged, copy) => "optimist; fwd=partial",
                Some(copy) if copy.stamp().fresh_until_ms <= self.exchange.started_ms => {
                    "optimist; fwd=stale"
                }
                _ => "optimist; fwd=uri-miss",
            },
            Pattern::WriteThrough | Pattern::WriteBehind | Pattern::AutoSave => "optimist; fwd=method",
            Pattern::RedisOnly | Pattern::Joined | Pattern::Live | Pattern::Direct => "optimist; fwd=bypass",
        }
    }

    fn session_info(&self, token: Token, session: &Session) -> Response {
        let info = SessionInfo {
            user_id: token.user,
            session_id: token.session,
            expires_in: session.expires_in_ms / 1000,
        };
        // A struct of ids and a number always serialises.
        self.respond_json(200, serde_json::to_vec(&info).unwrap_or_default())
    }
}

impl Judged {
    fn is_member(&self) -> bool {
        self.role.is_some_and(Role::is_member)
    }

    /// Whether Redis may take a write: only from a member, and only for a circle that is not archived.
    fn may_write(&self) -> bool {
        self.is_member() && matches!(self.access, Some(Access::Public | Access::Private))
    }
}
