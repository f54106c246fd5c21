//! Requests about what Redis alone holds: presence, typing, messages that are being composed, and what one has looked at. `None` if the edge cannot
//! take the request, since it is none that the edge understands: the origin then says what is wrong with it. Without Redis
//! nobody can answer, and the answer is 503.

use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{Id, Uuid, parse_sent_id};
use optimist_shared::presence::{MESSAGE_DRAFT_MS, State, TYPING_MS, is_device, is_message_draft};
use optimist_shared::recent::{RECENT_MS, Recent};
use optimist_shared::routes::AtEdge;
use optimist_shared::scripts::message_drafts::{self, Kept};
use optimist_shared::scripts::{Call, presence, recent};
use optimist_shared::session::Token;

use crate::host::{Host, Request, Response};
use crate::passage::Passage;
use crate::redis::Fields;
use crate::sent::Sent;
use crate::trip::Trip;

impl<H: Host, R: Request> Passage<'_, H, R> {
    /// Makes a request's change, or its answer. The caller's right was checked before.
    pub async fn redis_only(&mut self, token: Token) -> Option<Response> {
        // Only the origin knows what `If-Match` may name, and which parameters there are.
        if self.request.header("if-match").is_some() || self.request.target().contains('?') {
            return None;
        }
        let user = token.user;
        match self.route.at_edge {
            AtEdge::SayPresence => self.say_presence(user).await,
            AtEdge::Type => {
                let call = presence::typing(user, self.path.ids.get(Id::Circle)?);
                let taken = self.ask_alone(user, call, |reply| presence::is_typing(reply)).await;
                Some(match taken {
                    Some(true) => self.promised(&format!(r#""expires_in":{}"#, TYPING_MS / 1_000)),
                    _ => self.without_redis(),
                })
            }
            AtEdge::SaveMessageDraft => self.save_message_draft(user, self.path.ids.get(Id::Circle)?).await,
            AtEdge::ReadMessageDraft => {
                let call = message_drafts::read(user, self.path.ids.get(Id::Circle)?);
                let draft = self.ask_alone(user, call, |reply| message_drafts::draft(reply)).await;
                Some(match draft {
                    Some(Some((text, left_ms))) => {
                        // A text always serialises.
                        let body = serde_json::to_string(&text).unwrap_or_default();
                        let json = format!(r#"{{"body":{body},"expires_in":{}}}"#, left_ms / 1_000);
                        self.respond_json(200, json.into_bytes())
                    }
                    Some(None) => self.exchange.error(ErrorCode::NotFound),
                    None => self.without_redis(),
                })
            }
            AtEdge::DropMessageDraft => {
                let call = message_drafts::discard(user, self.path.ids.get(Id::Circle)?);
                Some(match self.ask_alone(user, call, |_| ()).await {
                    Some(()) => self.promised(""),
                    None => self.without_redis(),
                })
            }
            AtEdge::NoteRecent => self.note_recent(user).await,
            AtEdge::ListRecent => {
                let listed = self.ask_alone(user, recent::list(user), |reply| recent::listed(reply)).await;
                let Some(listed) = listed else { return Some(self.without_redis()) };
                let items: Vec<String> =
                    listed.into_iter().map(|(recent, left_ms)| render(recent, left_ms)).collect();
                let json = format!(r#"{{"items":[{}],"next":null}}"#, items.join(","));
                Some(self.respond_json(200, json.into_bytes()))
            }
            AtEdge::Forward | AtEdge::Cached | AtEdge::Session | AtEdge::Limits => None,
            AtEdge::React { .. } | AtEdge::Visit | AtEdge::MarkRead => None,
        }
    }

    async fn say_presence(&mut self, user: Uuid) -> Option<Response> {
        let mut sent = Sent::of(self.request, &["state", "device"])?;
        let (state, device) = (sent.text("state")?, sent.text("device")?);
        let said = State::parse(&state).filter(|_| is_device(&device))?;
        let lease = self.edge.config.presence_lease_s;
        // A mutant's lease outlasts every test.
        let factor = if self.edge.config.is_disabled("edge-presence-lease") { 1_000_000 } else { 1_000 };
        let call = presence::say(user, &device, said, u64::from(lease) * factor);
        let state = self.ask_alone(user, call, |reply| presence::state(reply)).await.flatten();
        Some(match state {
            Some(state) => self.promised(&format!(r#""state":"{}","expires_in":{lease}"#, state.as_str())),
            None => self.without_redis(),
        })
    }

    async fn save_message_draft(&mut self, user: Uuid, circle: Uuid) -> Option<Response> {
        let body = Sent::of(self.request, &["body"])?.text("body")?;
        if !is_message_draft(&body) {
            return None;
        }
        let call = message_drafts::save(user, circle, &body);
        let kept = self.ask_alone(user, call, |reply| message_drafts::kept(reply)).await.flatten();
        Some(match kept {
            Some(Kept::Saved) => self.promised(&format!(r#""expires_in":{}"#, MESSAGE_DRAFT_MS / 1_000)),
            // The origin says which quota refuses it.
            Some(Kept::Full) => return None,
            None => self.without_redis(),
        })
    }

    async fn note_recent(&mut self, user: Uuid) -> Option<Response> {
        let mut sent = Sent::of(self.request, &["kind", "id", "circle_id"])?;
        let (kind, id) = (sent.text("kind")?, sent.text("id")?);
        let circle = match sent.optional("circle_id")? {
            Some(circle) => Some(parse_sent_id(&circle)?),
            None => None,
        };
        let looked = Recent::new(&kind, parse_sent_id(&id)?, circle)?;
        let noted = self.ask_alone(user, recent::note(user, looked), |reply| recent::is_noted(reply)).await;
        Some(match noted {
            Some(true) => self.promised(&format!(r#""expires_in":{}"#, RECENT_MS / 1_000)),
            _ => self.without_redis(),
        })
    }

    async fn ask_alone<T>(
        &mut self,
        user: Uuid,
        call: Call<'_>,
        read: impl FnOnce(&mut Fields<'_>) -> T,
    ) -> Option<T> {
        let mut trip = Trip::default();
        let slot = trip.call(call, read);
        Some(self.send(&user.to_string(), &trip).await?.take(slot))
    }

    /// 200, with the promise and further fields.
    fn promised(&self, fields: &str) -> Response {
        let comma = if fields.is_empty() { "" } else { "," };
        self.respond_json(200, format!(r#"{{"promise":"redis-only"{comma}{fields}}}"#).into_bytes())
    }
}

/// An item of the list of what one has looked at.
fn render(recent: Recent, left_ms: u64) -> String {
    let circle =
        recent.circle_of_message().map_or_else(|| "null".to_owned(), |circle| format!("\"{circle}\""));
    format!(
        r#"{{"kind":"{}","id":"{}","circle_id":{circle},"expires_in":{}}}"#,
        recent.kind(),
        recent.id(),
        left_ms / 1_000
    )
}
