//! What a connection takes of the server's memory while nothing happens: after its first heartbeat.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::iter;

use super::{Circle, LISTENERS, OPENING, circles, seats, take_all};
use crate::Settings;
use crate::listeners::{Heard, Listener, Way, listen_to_peer};
use crate::peers::socketio;
use crate::processor::resident;
use crate::region::Region;
use crate::report::{Figure, Side, Target};

const CIRCLES: usize = 20;
/// Connections of each person.
const EACH: usize = 4;
/// Connections that come and go before.
const FIRST: usize = 20;
/// Time in which every job runs once.
const SETTLING: Duration = Duration::from_secs(8);
/// Longer than between two heartbeats, of the gateway and of the peer.
const BEAT: Duration = Duration::from_secs(30);

pub async fn run(settings: &Settings) -> Vec<Figure> {
    let (number, beat) = match settings.quick {
        true => (2, Duration::from_secs(2)),
        false => (CIRCLES, BEAT),
    };
    let mut figures = Vec::new();
    for (way, what, most) in [(Way::Socket, "WebSocket", 8.0), (Way::Events, "event stream", 14.0)] {
        let region = Region::start().await;
        let circles = circles(&region, number, LISTENERS);
        let seats = seats(&circles, LISTENERS, EACH, |_| way);
        let heard = Heard::default();
        let take = |count: usize| take_all(&region, &seats[..count], &heard);
        let ours = each(region.origin.process_id(), what, seats.len(), beat, take).await;
        let figure = Figure::plain(
            &format!("memory: an idle {what} of {}", seats.len()),
            "KiB",
            [ours],
            Target::AtMost(most),
        );
        figures.push(if way == Way::Socket {
            let peers = of_peer(&region, &circles, beat).await;
            figure.beside([Side::new("an idle WebSocket of Socket.IO", "KiB", [peers])])
        } else {
            figure
        });
    }
    figures
}

async fn of_peer(region: &Region, circles: &[Circle], beat: Duration) -> f64 {
    let peer = socketio(region, "socketio");
    let members: Vec<_> = circles.iter().flat_map(|circle| &circle.members).collect();
    let members: Vec<_> = members.into_iter().flat_map(|member| std::iter::repeat_n(member, EACH)).collect();
    let heard = Heard::default();
    let take = async |count: usize| -> Vec<Listener> {
        let opened = iter(&members[..count]).map(|member| listen_to_peer(&peer.url, member, &heard));
        opened.buffered(OPENING).collect().await
    };
    each(peer.process.id(), "WebSocket of Socket.IO", members.len(), beat, take).await
}

/// KiB that each of `count` connections adds. Some come and go before, so that what is loaded once is not counted.
async fn each(
    process: u32,
    what: &str,
    count: usize,
    beat: Duration,
    take: impl AsyncFn(usize) -> Vec<Listener>,
) -> f64 {
    drop(take(FIRST).await);
    tokio::time::sleep(SETTLING).await;
    let at_rest = resident(process);
    let listeners = take(count).await;
    tokio::time::sleep(beat).await;
    let kept = resident(process);
    drop(listeners);
    let each = (kept - at_rest) / count as f64;
    println!("  {what}: resident {at_rest} KiB at rest, {kept} KiB with {count}: {each:.1} KiB each");
    each
}
