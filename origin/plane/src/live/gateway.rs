//! The gateway's own listener: event streams and sockets for clients that bring a ticket, and the route that gives tickets out.

use std::collections::HashSet;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get};
use axum::{Extension, Router};
use futures_util::FutureExt as _;
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{Uuid, parse_sent_id};
use optimist_shared::live::{EVENTS, SOCKET, STREAMS_HEADER};
use schemars::JsonSchema;
use serde::Serialize;

use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::http::body::{json_response, to_json};
use crate::http::handover::hand_over;
use crate::http::page::parameters_of;
use crate::http::serve::Peer;
use crate::http::served::{Served, on};
use crate::live::door::Through;
use crate::live::follower::{Follower, Wanted};
use crate::live::pass::Pass;
use crate::live::place::Place;
use crate::live::tickets::{GOOD_FOR, Ticket, redeem};
use crate::live::{socket, stream};
use crate::request::Caller;

/// The subprotocol of sockets, and what a ticket among the offered ones begins with.
const PROTOCOL: &str = "optimist.v1";
const TICKET: &str = "ticket.";

pub fn routes() -> Vec<Served> {
    vec![
        on("realtime.events", follow)
            .says("What happens in the caller's circles, and to the caller, as server-sent events.")
            .notes(
                "Each event's data is a frame of `x-events`, and its id a position: `Last-Event-ID` continues after it. The first frame, \
                 `ready`, says whether everything since follows (`recovered`), and which circles to load anew (`reload`). A frame without \
                 an id is a state, of which the last one counts. `heartbeat` comes every 25 seconds at least.",
            )
            .filter::<String>("circles", "Ids, separated by commas: only these of the caller's circles.")
            .filter::<String>("last_event_id", "As the header `Last-Event-ID`, for clients that cannot set it.")
            .streams(),
        on("realtime.socket", socket_through_edge)
            .says("The same through a WebSocket, for a client with a ticket.")
            .notes(
                "The subprotocols are `optimist.v1, ticket.…`. Commands are JSON too: `{\"type\": \"ping\"}`, or a type of \
                 `x-commands` with the fields of that operation's path and body, and a `ref` of one's own. Each of those is answered by a \
                 frame `answer` with `ref`, `status` and `body`. It closes with 4400 after what is \
                 no command, 4401 when the session is over, and 4429 after too many commands. 426 names the gateway where the edge carries no \
                 WebSockets.",
            )
            .filter::<String>("circles", "Ids, separated by commas: only these of the caller's circles.")
            .filter::<String>("last_event_id", "The id after which it continues.")
            .upgrades(),
        on("realtime.tickets", ticket)
            .says("A ticket for the gateway, good once and for half a minute.")
            .notes(
                "With it `GET {url}/v1/events` (`Authorization: Ticket …`) streams events, and a WebSocket at `{url}/v1/ws` (subprotocols \
                 `optimist.v1, ticket.…`) brings the same. `x-events` lists what comes. `Last-Event-ID` or `?last_event_id=` continues, \
                 `?circles=` narrows.",
            )
            .answers::<TicketShape>(201),
    ]
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Ticket")]
struct TicketShape {
    /// Where the gateway is.
    url: String,
    ticket: String,
    /// In seconds.
    expires_in: u64,
}

/// For a caller whom an edge has admitted.
async fn follow(
    State(ctx): State<Ctx>,
    Extension(Peer(edge)): Extension<Peer>,
    caller: Caller,
    version: Version,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response> {
    let (only, last) = wanted(&uri, &headers)?;
    let most = text(&headers, STREAMS_HEADER).parse().ok();
    let through = most.map(|most| Through { edge, most });
    let pass = Pass::take(&ctx, caller.user, &caller.request.client, through)?;
    let Caller { user, session, .. } = caller;
    Ok(stream(Follower::start(pass, Wanted { user, session, only, last }).await?, version))
}

async fn ticket(State(ctx): State<Ctx>, caller: Caller, headers: HeaderMap) -> Result<Response> {
    let url = ctx.live.url.get().cloned().ok_or_else(|| Error::unavailable("The gateway"))?;
    let ticket = Ticket::new(caller.user, caller.session, &caller.request.client);
    let ticket = ticket.render(ctx.config.signing_keys(), text(&headers, "origin"));
    let ticket = ticket.ok_or_else(|| Error::internal("tickets", &"no key signs them"))?;
    let mut response = json_response(201, None, to_json(&TicketShape { url, ticket, expires_in: GOOD_FOR })?);
    response.headers_mut().insert("cache-control", HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Through an edge that carries WebSockets.
async fn socket_through_edge(State(ctx): State<Ctx>, request: Request) -> Response {
    if let Err(error) = wanted(request.uri(), request.headers()) {
        return error.into_response();
    }
    if request.headers().contains_key("upgrade") {
        return socket(State(ctx), request).await;
    }
    let gateway = ctx.live.url.get().map_or("the gateway", String::as_str);
    let detail = format!(
        "This is for WebSockets, which this edge does not carry. Connect to {gateway} with a ticket."
    );
    Error::new(ErrorCode::UpgradeRequired).detail(detail).into_response()
}

/// The router of the gateway's listener.
pub fn router(ctx: Ctx) -> Router {
    Router::new()
        .route(EVENTS, any(events))
        .route(SOCKET, get(socket))
        .fallback(|| async { Error::new(ErrorCode::NotFound) })
        .with_state(ctx)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// A page of any origin may ask: only a ticket lets it in, and that is for one origin.
fn allow(mut response: Response, origin: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(origin)
        && !origin.is_empty()
    {
        response.headers_mut().insert("access-control-allow-origin", value);
        response.headers_mut().insert("vary", HeaderValue::from_static("Origin"));
    }
    response
}

async fn events(State(ctx): State<Ctx>, request: Request) -> Response {
    let origin = text(request.headers(), "origin").to_owned();
    let response = match *request.method() {
        Method::OPTIONS => {
            let mut response = StatusCode::NO_CONTENT.into_response();
            let headers = response.headers_mut();
            headers.insert("access-control-allow-methods", HeaderValue::from_static("GET"));
            headers.insert(
                "access-control-allow-headers",
                HeaderValue::from_static("authorization, last-event-id"),
            );
            headers.insert("access-control-max-age", HeaderValue::from_static("7200"));
            response
        }
        Method::GET => {
            let authorization = text(request.headers(), "authorization");
            let ticket =
                authorization.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("ticket"));
            let ticket = ticket.map_or("", |(_, ticket)| ticket.trim());
            match enter(&ctx, ticket, &origin, request.uri(), request.headers()).await {
                Ok(follower) => stream(follower, request.version()),
                Err(error) => error.into_response(),
            }
        }
        _ => Error::new(ErrorCode::MethodNotAllowed).into_response(),
    };
    allow(response, &origin)
}

async fn socket(State(ctx): State<Ctx>, request: Request) -> Response {
    let Some(mut response) = socket::opening(&request) else {
        return Error::new(ErrorCode::BadRequest).detail("This is for WebSockets.").into_response();
    };
    let headers = request.headers();
    let mut offered = text(headers, "sec-websocket-protocol").split(',').map(str::trim);
    let ticket = offered.clone().find_map(|name| name.strip_prefix(TICKET)).unwrap_or_default();
    let mut follower = match enter(&ctx, ticket, text(headers, "origin"), request.uri(), headers).await {
        Ok(follower) => follower,
        Err(error) => return error.into_response(),
    };
    if offered.any(|name| name == PROTOCOL) {
        let protocol = HeaderValue::from_static(PROTOCOL);
        response.headers_mut().insert("sec-websocket-protocol", protocol);
    }
    hand_over(response, move |left| async move { socket::serve(left, &mut follower).await }.boxed())
}

/// Admits a client with a ticket, and begins to follow.
async fn enter(ctx: &Ctx, ticket: &str, origin: &str, uri: &Uri, headers: &HeaderMap) -> Result<Follower> {
    let Ticket { user, session, client, .. } = redeem(ctx, ticket, origin).await?;
    let pass = Pass::take(ctx, user, &client, None)?;
    let (only, last) = wanted(uri, headers)?;
    Follower::start(pass, Wanted { user, session, only, last }).await
}

/// Reads what a client asks for: the circles, and the position after which it continues.
fn wanted(uri: &Uri, headers: &HeaderMap) -> Result<(Option<HashSet<Uuid>>, Option<Place>)> {
    let (mut only, mut last) = (None, None);
    let place = |text: &str| {
        let place = Place::parse(text).map(Some);
        place.ok_or_else(|| {
            Error::new(ErrorCode::BadRequest).field("last_event_id", "is not the id of an event")
        })
    };
    // Browsers that have received nothing may send an empty one.
    let header = text(headers, "last-event-id");
    if !header.is_empty() {
        last = place(header)?;
    }
    for (name, value) in parameters_of(uri.query())? {
        let refused = |reason: &str| Error::new(ErrorCode::BadRequest).field(name.clone(), reason);
        match name.as_str() {
            "circles" => {
                let ids = value.split(',').map(parse_sent_id).collect::<Option<HashSet<Uuid>>>();
                only = Some(ids.ok_or_else(|| refused("must be ids, separated by commas"))?);
            }
            "last_event_id" => last = place(&value)?,
            _ => return Err(refused("is not a parameter of events")),
        }
    }
    Ok((only, last))
}

/// An endless answer: server-sent events.
fn stream(mut follower: Follower, version: Version) -> Response {
    let is_chunked = version == Version::HTTP_11;
    let mut response = Response::default();
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("text/event-stream"));
    headers.insert("cache-control", HeaderValue::from_static("no-store, no-transform"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    hand_over(response, move |left| {
        async move { stream::serve(left.stream, &mut follower, is_chunked).await }.boxed()
    })
}
