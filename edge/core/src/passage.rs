//! A request on its way: admitted, then answered from Redis or handed to the origin.
//!
//! Each method is a step of the pipeline; routing comes before (see the crate's root), the outcome after (see
//! [`crate::origin`]).

use std::pin::Pin;

use optimist_shared::envelope::{DEFAULT_LIMIT, Envelope};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{Partition, Uuid};
use optimist_shared::keys::Key;
use optimist_shared::limits::{LIMITS, Limit, LimitRow, Scope, address_parameter};
use optimist_shared::reactions::{Promise, Reacted, Reaction};
use optimist_shared::routes::{Caller, Method, Overlay, PathParameters, Pattern, Route};
use optimist_shared::session::{
    Access, Role, SessionInfo, Token, attempt_entry, autosave_entry, request_entry,
};
use optimist_shared::signature::{Charged, Context, Identity};
use optimist_shared::visits::Visit;
use optimist_shared::vouching::Vouched;

use crate::Edge;
use crate::cache::{self, Mark, Overlays, Right, Wanted};
use crate::found::{Found, FoundCounts};
use crate::host::{Command, Decision, Host, Request, Response};
use crate::limit::{Charge, Refused, rows_of};
use crate::origin::{self, Pending, Refund};
use crate::redis::{Call, Fields, trip};
use crate::respond::Exchange;
use crate::session::{self, Admission, Admitted, Session};

/// A step of its own when it is compiled: a Worker's functions are compiled when they are first called, each as a whole, and
/// larger ones take longer than as many small ones.
pub fn apart<'a, T>(step: impl Future<Output = T> + 'a) -> Pin<Box<dyn Future<Output = T> + 'a>> {
    Box::pin(step)
}

/// A request on its way through the pipeline.
pub struct Passage<'a, H, R> {
    pub edge: &'a Edge,
    pub host: &'a H,
    pub request: &'a R,
    pub route: &'static Route,
    pub path: PathParameters,
    pub exchange: Exchange,
}

impl<H: Host, R: Request> Passage<'_, H, R> {
    /// No session: the address's limits, then the origin.
    pub async fn public(mut self) -> Decision {
        let rows = rows_of(self.route, Scope::Address);
        let charged = match self.charge_address(rows).await {
            Ok(charged) => charged,
            Err(response) => return Decision::Respond(response),
        };
        let context = self.context(Identity::Public, None, charged);
        self.forward(&context, "optimist; fwd=bypass", None, None, None)
    }

    /// Admission and the cached value in one trip; then an answer, or the origin.
    pub async fn signed_in(mut self) -> Decision {
        let authorization = self.request.header("authorization");
        let Some(token) = authorization.as_deref().and_then(Token::from_authorization) else {
            return Decision::Respond(self.exchange.unauthenticated("Send `Authorization: Bearer <token>`."));
        };
        let admission = Admission::new(self.route, &self.path, token, self.entry(token.user));
        let Some((admitted, mut found)) = apart(self.ask(&admission)).await else {
            return self.unchecked(Charged::Nothing, None, None, "optimist; fwd=bypass; detail=no-redis");
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
                    session::write_back(self.host, token.user, token.session, session.now_ms);
                }
                apart(self.complete(token.user, &mut found)).await;
                apart(self.admitted(&admission, &session, &found)).await
            }
        }
    }

    /// One trip: `admit`; what decides over the request, and the value that may answer it; and the counts joined to that. For
    /// `GET /v1/me/limits` the limits' states as well.
    async fn ask(&mut self, admission: &Admission) -> Option<(Admitted, Found)> {
        let token = admission.token;
        let parameters = self.path.with_session(Some(token.user), Some(token.session));
        let key = self.cached();
        let writes_behind = self.route.pattern == Pattern::WriteBehind;
        let partition = match (key, parameters.circle) {
            (Some(key), _) => key.partition(&parameters),
            (None, Some(circle)) if writes_behind => Some(Partition::of(circle)),
            (None, _) => None,
        };
        let partition = partition.unwrap_or_else(|| Partition::of(token.user));
        let vouch_key = Key::Vouch.of_partition(partition);
        let value_key = key.and_then(|key| key.render(&parameters));
        let wants_access = writes_behind || self.route.caller == Caller::CircleReader;
        let access_key = wants_access.then(|| Key::CircleAccess.render(&parameters)).flatten();
        let counted = self.route.overlays.contains(&Overlay::Reactions) && value_key.is_some();
        let counts_keys =
            [Key::Counts, Key::CountsPage].map(|key| key.render(&parameters).filter(|_| counted));
        let scripts = &self.edge.scripts;
        let mut words: Vec<&[u8]> = vec![b"MGET", vouch_key.as_bytes()];
        words.extend([&value_key, &access_key].into_iter().flatten().map(String::as_bytes));
        let message = self.path.message.map(|message| message.to_string());
        let more;
        let counts_apart = match (&value_key, &counts_keys, &message, self.wanted()) {
            (_, [Some(counts), _], Some(message), _) => {
                Some(Call::Plain(vec![b"HGET", counts.as_bytes(), message.as_bytes()]))
            }
            // Longer than the page that is kept.
            (Some(list), [Some(counts), Some(page)], None, Wanted::First { limit })
                if limit > DEFAULT_LIMIT =>
            {
                more = limit.to_string();
                let (keys, arguments) = (vec![list.as_str(), counts, page], vec![more.as_bytes(), b""]);
                Some(Call::Script { script: &scripts.counts, keys, arguments })
            }
            (_, [_, page], ..) => {
                words.extend(page.iter().map(String::as_bytes));
                None
            }
        };
        let are_apart = counts_apart.is_some();
        let mut calls = vec![admission.call(scripts), Call::Plain(words)];
        calls.extend(counts_apart);
        let peeked = Charge::new(self.peeked(), &token.user.to_string(), String::new());
        if !peeked.rows.is_empty() {
            let keys = peeked.keys.iter().map(String::as_str).collect();
            let mut arguments: Vec<&[u8]> = vec![b""];
            arguments.extend(peeked.description.iter().map(Vec::as_slice));
            calls.push(Call::Script { script: &scripts.peek, keys, arguments });
        }
        let spread = token.user.to_string();
        let asked_ms = self.host.now_ms();
        let replies =
            trip(self.host, &self.edge.breaker, self.edge.config.redis_deadline_ms, &spread, &calls)
                .await
                .ok();
        self.exchange.redis_ms = self.host.now_ms().saturating_sub(asked_ms);
        let mut replies = replies?.into_iter();
        let admitted = admission.read(replies.next()?);
        let mut fields = Fields::new(replies.next()?);
        let mut vouched = Vouched::parse(&fields.bytes());
        if let (true, Admitted::Yes(session)) = (self.edge.config.is_disabled("edge-vouching"), &admitted) {
            vouched = Some(Vouched { epoch: session.epoch, degraded: false });
        }
        let value = if value_key.is_some() { fields.bytes() } else { Vec::new() };
        let access = if access_key.is_some() { fields.bytes() } else { Vec::new() };
        let counts = if are_apart { Fields::new(replies.next()?).bytes() } else { fields.bytes() };
        let counts = match self.path.message {
            None if counted => FoundCounts::page(counts),
            _ => FoundCounts { of: None, lines: counts },
        };
        let limits = replies.next().map(|reply| peeked.states(&mut Fields::new(reply))).unwrap_or_default();
        Some((admitted, Found { vouched, value, access, counts, limits }))
    }

    /// A second trip, if somebody has reacted or written since the page of counts was made, or it is too short.
    async fn complete(&mut self, user: Uuid, found: &mut Found) {
        let Wanted::First { limit } = self.wanted() else { return };
        if found.counts.are_of(&found.value, limit) {
            return;
        }
        let parameters = self.path.with_session(Some(user), None);
        let keys = [self.cached(), Some(Key::Counts), Some(Key::CountsPage)];
        let [Some(list), Some(counts), Some(page)] = keys.map(|key| key?.render(&parameters)) else { return };
        // A page of the usual length is kept for the next reader.
        let is_kept: &[u8] = if limit <= DEFAULT_LIMIT { b"1" } else { b"" };
        let limit = limit.max(DEFAULT_LIMIT).to_string();
        let call = Call::Script {
            script: &self.edge.scripts.counts,
            keys: vec![&list, &counts, &page],
            arguments: vec![limit.as_bytes(), is_kept],
        };
        if let Some(mut fields) = self.second_trip(user, call).await {
            found.counts = FoundCounts::page(fields.bytes());
        }
    }

    /// The session is in Redis, its secret is right, and no limit is used up.
    async fn admitted(mut self, admission: &Admission, session: &Session, found: &Found) -> Decision {
        let token = admission.token;
        let now_ms = self.exchange.started_ms;
        let refund = session.charged.then(|| Refund {
            spread: token.user.to_string(),
            keys: admission.charge.refundable(),
            entry: admission.charge.entry.clone(),
        });
        if !session.is_vouched(found.vouched) {
            // Redis may have missed a revocation or a write. If the origin cannot answer either, what is kept is the best.
            let kept = self.kept(session, found);
            return self.unchecked(Charged::Limits, refund, kept, "optimist; fwd=bypass; detail=unvouched");
        }
        let vouched = found.vouched;
        let believed =
            |envelope: &Envelope<'_>| vouched.is_some_and(|vouched| vouched.believes(envelope, now_ms));
        match (self.route.name, self.route.pattern) {
            ("auth.session", _) => return Decision::Respond(self.session_info(token, session)),
            ("me.limits", _) => {
                // Structs of names and numbers always serialise.
                let items = serde_json::to_string(&found.limits).unwrap_or_default();
                let body = format!(r#"{{"items":{items},"next":null}}"#);
                return Decision::Respond(self.at_edge(200, body.into_bytes()));
            }
            _ => {}
        }
        let role = session.role(believed);
        let access = found.access(believed);
        let right = match self.route.caller {
            Caller::CircleReader => cache::right_to_read(role, access),
            _ => Right::Granted,
        };
        if right == Right::Hidden && self.route.pattern == Pattern::CacheAside {
            return Decision::Respond(self.exchange.error(ErrorCode::NotFound));
        }
        if self.route.pattern == Pattern::WriteBehind
            && role.is_some_and(Role::is_member)
            && matches!(access, Some(Access::Public | Access::Private))
            && let Some(response) = apart(self.write_behind(token.user)).await
        {
            return Decision::Respond(response);
        }
        let degraded = vouched.is_some_and(|vouched| vouched.degraded);
        let envelope = Envelope::decode(&found.value);
        let hit = envelope.as_ref().filter(|envelope| right == Right::Granted && believed(envelope));
        if let Some(envelope) = hit {
            let mark = if degraded { Mark::Degraded } else { Mark::Fresh };
            let counts =
                found.counts.of(envelope, |epoch| vouched.is_some_and(|vouched| vouched.epoch == epoch));
            let overlays = Overlays { role, counts };
            if let Some(response) =
                cache::answer(&self.exchange, self.request, self.route, envelope, &overlays, mark)
            {
                self.count_read("hit");
                return Decision::Respond(response);
            }
        }
        self.count_read("miss");
        let cache_status = match (self.route.pattern, &envelope) {
            (Pattern::CacheAside, _) if self.wanted() == Wanted::Other => "optimist; fwd=bypass",
            (Pattern::CacheAside, Some(envelope))
                if hit.is_none() && envelope.stamp.fresh_until_ms <= now_ms =>
            {
                "optimist; fwd=stale"
            }
            (Pattern::CacheAside, _) if hit.is_some() => "optimist; fwd=partial",
            (Pattern::CacheAside, _) => "optimist; fwd=uri-miss",
            (Pattern::WriteThrough | Pattern::WriteBehind | Pattern::AutoSave, _) => "optimist; fwd=method",
            _ => "optimist; fwd=bypass",
        };
        let kept = (right == Right::Granted).then(|| self.kept(session, found)).flatten();
        let identity = Identity::Session { user: token.user, session: token.session };
        let context = self.context(identity, role, Charged::Limits);
        self.forward(&context, cache_status, refund, None, kept)
    }

    /// The answer from whatever copy there is, of any epoch and age: for when the origin cannot answer.
    fn kept(&self, session: &Session, found: &Found) -> Option<Response> {
        let envelope = Envelope::decode(&found.value)?;
        let role = session.role(|_| true);
        let readable = self.route.caller != Caller::CircleReader
            || cache::right_to_read(role, found.access(|_| true)) == Right::Granted;
        let overlays = Overlays { role, counts: found.counts.of(&envelope, |_| true) };
        readable.then(|| {
            cache::answer(&self.exchange, self.request, self.route, &envelope, &overlays, Mark::Degraded)
        })?
    }

    /// The second trip of an admitted write that Redis takes first. `None` when it does not, or may not have: the origin
    /// does then, and doing it twice changes nothing.
    async fn write_behind(&mut self, user: Uuid) -> Option<Response> {
        let parameters = self.path.with_session(Some(user), None);
        let scripts = &self.edge.scripts;
        let Some(kind) = self.path.kind else {
            let visit = Visit::new(&parameters)?;
            let script = &scripts.visit;
            let call = Call::Script { script, keys: visit.keys(), arguments: visit.arguments() };
            let is_done = self.second_trip(user, call).await?.text() == "done";
            return is_done.then(|| self.at_edge(202, Visit::answer(Promise::Redis)));
        };
        let reaction = Reaction::new(&parameters, kind, self.route.method == Method::Put)?;
        let script = &scripts.react;
        let call = Call::Script { script, keys: reaction.keys(), arguments: reaction.arguments() };
        let mut fields = self.second_trip(user, call).await?;
        match Reacted::read(&fields.text(), &fields.text())? {
            Reacted::Done(counts) => Some(self.at_edge(202, reaction.answer(&counts, Promise::Redis))),
            Reacted::Closed | Reacted::Absent | Reacted::Full => None,
        }
    }

    async fn second_trip(&mut self, user: Uuid, call: Call<'_>) -> Option<Fields> {
        let asked_ms = self.host.now_ms();
        let deadline_ms = self.edge.config.redis_deadline_ms;
        let replies = trip(self.host, &self.edge.breaker, deadline_ms, &user.to_string(), &[call]).await;
        self.exchange.redis_ms += self.host.now_ms().saturating_sub(asked_ms);
        Some(Fields::new(replies.ok()?.pop()?))
    }

    /// Redis does not know the session. The origin does, or the token is bad: which costs the address an attempt.
    async fn unknown_session(mut self) -> Decision {
        let entry = self.request_entry();
        let charge = Charge::new(vec![Limit::BadTokens.row()], &self.client(), entry);
        let refund = match self.charge_apart(&charge).await {
            Some(Err(refused)) => return Decision::Respond(self.limited(&refused)),
            Some(Ok(_)) => {
                Some(Refund { spread: self.client(), keys: charge.keys.clone(), entry: charge.entry.clone() })
            }
            None => None,
        };
        let charged = if refund.is_some() { Charged::Token } else { Charged::Nothing };
        let context = self.context(Identity::Unchecked, None, charged);
        self.forward(&context, "optimist; fwd=bypass; detail=unknown-session", None, refund, None)
    }

    /// A wrong secret for a session that exists.
    async fn bad_token(mut self) -> Response {
        let entry = self.request_entry();
        let charge = Charge::new(vec![Limit::BadTokens.row()], &self.client(), entry);
        match self.charge_apart(&charge).await {
            Some(Err(refused)) => self.limited(&refused),
            _ => self.exchange.unauthenticated("The session is over, or the token is not its own."),
        }
    }

    fn unchecked(
        self,
        charged: Charged,
        refund: Option<Refund>,
        kept: Option<Response>,
        cache_status: &'static str,
    ) -> Decision {
        let context = self.context(Identity::Unchecked, None, charged);
        self.forward(&context, cache_status, refund, None, kept)
    }

    /// Charges the address for a public route. What was charged, or the refusal.
    async fn charge_address(&mut self, rows: Vec<&'static LimitRow>) -> Result<Charged, Response> {
        if rows.is_empty() {
            return Ok(Charged::Limits);
        }
        let entry = self.request_entry();
        let charge = Charge::new(rows, &self.client(), entry);
        match self.charge_apart(&charge).await {
            None => Ok(Charged::Nothing),
            Some(Err(refused)) => Err(self.limited(&refused)),
            Some(Ok(())) => Ok(Charged::Limits),
        }
    }

    /// Charges limits in a trip of their own. `None` without Redis.
    async fn charge_apart(&mut self, charge: &Charge) -> Option<Result<(), Refused>> {
        let keys = charge.keys.iter().map(String::as_str).collect();
        let mut arguments: Vec<&[u8]> = vec![b"", charge.entry.as_bytes()];
        arguments.extend(charge.description.iter().map(Vec::as_slice));
        let call = Call::Script { script: &self.edge.scripts.limit, keys, arguments };
        let client = self.client();
        let asked_ms = self.host.now_ms();
        let replies =
            trip(self.host, &self.edge.breaker, self.edge.config.redis_deadline_ms, &client, &[call]).await;
        self.exchange.redis_ms += self.host.now_ms().saturating_sub(asked_ms);
        let mut fields = Fields::new(replies.ok()?.pop()?);
        let outcome = fields.text();
        let refused = Refused::read(&charge.rows, &mut fields);
        let states = charge.states(&mut fields);
        // Bad tokens are nobody's quota to plan with.
        if self.route.caller == Caller::Public {
            self.exchange.limits = Some((charge.rows.clone(), states));
        }
        Some(if outcome == "refused" { Err(refused) } else { Ok(()) })
    }

    /// Counts a cached read for the metrics: one in sixteen stands for all of them.
    fn count_read(&self, outcome: &str) {
        let Some(key) = self.cached().filter(|_| self.exchange.request_id.ends_with('0')) else { return };
        self.count(&format!("{outcome}:{}", key.row().data_type), "16");
    }

    /// Adds to a counter, once the answer is on its way.
    fn count(&self, counter: &str, by: &str) {
        let counters = Key::Metrics.of_partition(Partition::COMMON).into_bytes();
        let seconds = Key::Metrics.row().kept_seconds().unwrap_or_default().to_string().into_bytes();
        let (counter, by) = (counter.as_bytes().to_vec(), by.as_bytes().to_vec());
        self.host.redis_after_response(
            "",
            vec![
                Command(vec![b"HINCRBY".to_vec(), counters.clone(), counter, by]),
                Command(vec![b"EXPIRE".to_vec(), counters, seconds, b"NX".to_vec()]),
            ],
        );
    }

    /// 429, counted for the metrics.
    fn limited(&self, refused: &Refused) -> Response {
        let mut response = self.exchange.problem(&refused.problem(&self.exchange.request_id));
        response.headers.push(("retry-after", refused.retry_after.to_string()));
        self.count(&format!("limit:{}", refused.policy), "1");
        response
    }

    fn session_info(&self, token: Token, session: &Session) -> Response {
        let info = SessionInfo {
            user_id: token.user,
            session_id: token.session,
            expires_in: session.expires_in_ms / 1000,
        };
        // A struct of ids and a number always serialises.
        self.at_edge(200, serde_json::to_vec(&info).unwrap_or_default())
    }

    fn at_edge(&self, status: u16, json: Vec<u8>) -> Response {
        let timing = format!("redis;dur={}", self.exchange.redis_ms);
        let headers = vec![("content-type", "application/json".to_owned()), ("server-timing", timing)];
        self.exchange.respond(status, headers, json)
    }

    fn forward(
        self,
        context: &Context,
        cache_status: &'static str,
        refund: Option<Refund>,
        suspicion: Option<Refund>,
        kept: Option<Response>,
    ) -> Decision {
        let Passage { edge, request, route, exchange, .. } = self;
        let is_read = route.method == Method::Get;
        let pending = Pending { exchange, is_read, cache_status, refund, suspicion, kept, forwarded_ms: 0 };
        origin::forward(edge, request, route, context, pending)
    }

    fn context(&self, identity: Identity, role: Option<Role>, charged: Charged) -> Context {
        Context {
            identity,
            role,
            client: self.client(),
            region: self.edge.config.region.clone(),
            request_id: self.exchange.request_id.clone(),
            charged,
        }
    }

    /// The client's address as limits count it. Hosts always know it; `unknown` is shared by those that do not.
    fn client(&self) -> String {
        self.request.client_address().map_or_else(|| "unknown".to_owned(), address_parameter)
    }

    /// The key whose value may answer.
    fn cached(&self) -> Option<Key> {
        self.route.key.filter(|_| self.wanted() != Wanted::Other)
    }

    fn wanted(&self) -> Wanted {
        cache::wanted(self.request.target())
    }

    /// How limits remember this attempt: a retry with the same idempotency key finds it, as does the next save of a draft.
    fn entry(&self, user: Uuid) -> String {
        if let (Pattern::AutoSave, Some(draft)) = (self.route.pattern, self.path.draft) {
            return autosave_entry(user, draft, self.exchange.started_ms);
        }
        match self.request.header("idempotency-key") {
            Some(key) if self.route.method == Method::Post => attempt_entry(user, self.route.name, &key),
            _ => self.request_entry(),
        }
    }

    fn request_entry(&self) -> String {
        request_entry(&self.exchange.request_id)
    }

    /// The limits whose state the answer lists.
    fn peeked(&self) -> Vec<&'static LimitRow> {
        let all = self.route.name == "me.limits";
        LIMITS.iter().filter(|row| all && row.scope == Scope::User).collect()
    }
}
