//! The state that the steps of a request share. After routing (in the crate's root), [`crate::admit`] admits the request,
//! [`crate::ask`] reads Redis, [`crate::answer`] answers from that, and [`crate::behind`] and [`crate::redis_only`] write there. [`crate::origin`]
//! handles the outcome of a forwarded request.

use std::borrow::Cow;
use std::pin::Pin;

use optimist_shared::error::{ErrorCode, Problem};
use optimist_shared::ids::{Id, Ids};
use optimist_shared::limits::address_parameter;
use optimist_shared::routes::{AtEdge, Method, Path, Route};
use optimist_shared::session::{Role, Token, request_entry};
use optimist_shared::signature::{Charged, Context, Identity};

use crate::Edge;
use crate::cache::Wanted;
use crate::host::{Decision, Host, Request, Response};
use crate::origin::{self, Kept, Pending, Refund};
use crate::redis::{self, NoRedis};
use crate::respond::Exchange;
use crate::trip::{Answers, Trip};

/// Boxes a step so that it is compiled as a function of its own. A Worker compiles each function as a whole when it is first
/// called, and large functions take longer than as many small ones.
pub fn apart<'a, T>(step: impl Future<Output = T> + 'a) -> Pin<Box<dyn Future<Output = T> + 'a>> {
    Box::pin(step)
}

/// A request on its way through the pipeline.
pub struct Passage<'a, H, R> {
    pub edge: &'a Edge,
    pub host: &'a H,
    pub request: &'a R,
    pub route: &'static Route,
    pub path: Path,
    /// The part that the query asks for.
    pub wanted: Wanted,
    pub exchange: Exchange,
    /// Redis was too slow to answer a trip of this request.
    pub is_late: bool,
}

/// The parts of a forwarded request that depend on why it is forwarded.
#[derive(Default)]
pub struct Forwarded {
    pub cache_status: &'static str,
    /// Entries in limits to give back when the attempt fails.
    pub refund: Option<Refund>,
    /// Served, marked as degraded, when the origin cannot answer.
    pub kept: Option<Response>,
}

/// Seconds after which Redis may be less busy.
const LATE_RETRY: &str = "1";

impl<H: Host, R: Request> Passage<'_, H, R> {
    /// The ids that keys are bound to: from the path where it names them, else from the session.
    pub fn ids(&self, token: Token) -> Ids {
        self.path.ids.or(Id::User, token.user).or(Id::Session, token.session)
    }

    /// Asks Redis. `None` without an answer.
    pub async fn send(&mut self, spread: &str, trip: &Trip<'_>) -> Option<Answers> {
        let asked_ms = self.host.now_ms();
        let deadline_ms = self.edge.config.redis_deadline_ms;
        let hints = self.edge.counts.take();
        let replies =
            redis::send(self.host, &self.edge.breaker, deadline_ms, spread, trip.asks(), hints).await;
        self.exchange.redis_ms += self.host.now_ms().saturating_sub(asked_ms);
        self.is_late |= replies == Err(NoRedis::Late);
        if replies == Err(NoRedis::CrossesSlots) {
            self.edge.spans_slots.set(false);
        }
        replies.ok().map(Answers)
    }

    /// An answer without overlays.
    pub fn respond_json(&self, status: u16, json: Vec<u8>) -> Response {
        let timing = format!("redis;dur={}", self.exchange.redis_ms);
        let headers = vec![("content-type", "application/json".to_owned()), ("server-timing", timing)];
        self.exchange.respond(status, headers, json)
    }

    /// 204.
    pub fn respond_empty(&self) -> Response {
        let timing = format!("redis;dur={}", self.exchange.redis_ms);
        self.exchange.respond(204, vec![("server-timing", timing)], Vec::new())
    }

    /// Forwards the request; but not what Redis was too slow for. Each slow answer would then cost the origin work, and the origin
    /// would ask the same Redis: an overload would feed itself.
    pub fn forward(
        self,
        identity: Identity,
        role: Option<Role>,
        charged: Charged,
        forwarded: Forwarded,
    ) -> Decision {
        if self.is_late {
            return Decision::Respond(forwarded.kept.unwrap_or_else(|| self.late()));
        }
        let context = Context {
            identity,
            role,
            client: self.client(),
            region: self.edge.config.region.clone(),
            request_id: self.exchange.request_id.clone(),
            charged,
        };
        let Passage { edge, request, route, exchange, .. } = self;
        let Forwarded { cache_status, refund, kept } = forwarded;
        let is_read = route.method == Method::Get;
        let cache_status = Cow::Borrowed(cache_status);
        let kept = kept.map(|response| Kept::Here(Box::new(response)));
        let pending = Pending { exchange, is_read, cache_status, refund, kept, forwarded_ms: 0 };
        origin::forward(edge, request, route, &context, pending)
    }

    /// The answer about what only Redis knows, when it does not answer: the origin would ask the same Redis.
    pub fn without_redis(&self) -> Response {
        if self.is_late {
            return self.late();
        }
        let problem = Problem::new(ErrorCode::Unavailable, &self.exchange.request_id)
            .detail("Redis cannot be reached at the moment.");
        let mut response = self.exchange.problem(&problem);
        response.headers.push(("retry-after", LATE_RETRY.to_owned()));
        response
    }

    fn late(&self) -> Response {
        let detail = match self.route.at_edge {
            AtEdge::React { .. } | AtEdge::Visit | AtEdge::MarkRead | AtEdge::Type | AtEdge::SayPresence => {
                "The region is too busy to answer in time; the change may have been made."
            }
            AtEdge::SaveMessageDraft | AtEdge::DropMessageDraft | AtEdge::NoteRecent => {
                "The region is too busy to answer in time; the change may have been made."
            }
            _ => "The region is too busy to answer in time; nothing was changed.",
        };
        let problem = Problem::new(ErrorCode::Unavailable, &self.exchange.request_id).detail(detail);
        let mut response = self.exchange.problem(&problem);
        response.headers.push(("retry-after", LATE_RETRY.to_owned()));
        response
    }

    /// The client's address as limits count it. Hosts always know it; `unknown` is shared by clients without one.
    pub fn client(&self) -> String {
        let client = self.edge.config.trusted_proxies.client(self.request);
        client.map_or_else(|| "unknown".to_owned(), address_parameter)
    }

    /// The name that limits remember an attempt by that has no other name.
    pub fn request_entry(&self) -> String {
        request_entry(&self.exchange.request_id)
    }
}
