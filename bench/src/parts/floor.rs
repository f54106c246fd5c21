//! The floor under a warm read: what the same host takes to answer with an empty handler. The rest is ours.
//!
//! Rates cannot say it: a host that answers nothing sooner would make our share look smaller.

use std::sync::Arc;

use optimist_tests::Kind;

use crate::Settings;
use crate::closed_loop::{self, Run, Subject, by_turns};
use crate::http1::{Request, authority};
use crate::parts::warm::{MEMBERS, SERVER};
use crate::peers::{self, Peer};
use crate::region::Region;
use crate::report::{Figure, Outcome, Side, Target};

pub async fn run(settings: Arc<Settings>) -> Outcome {
    let region = Region::start().await;
    let mut outcome = Outcome::default();
    for (kind, host) in [(Kind::Embedded, "embedded host"), (Kind::Cloudflare, "workerd")] {
        let edge = region.edge(kind);
        let empty = match kind {
            Kind::Cloudflare => peers::empty_worker(region.folder.path()),
            _ => peers::empty_component(region.folder.path()),
        };
        let circle = region.circle(&edge.url, MEMBERS).await;
        let workers = region.workers(SERVER, &edge.process);
        let reads = circle.reads(&format!("warm read, {host}"), &edge.url, workers);
        let without = without_work(&region, host, &empty);
        let (warm, bare) = by_turns(&reads, &without, settings.turns, settings.seconds).await;
        outcome.figures.extend(figures(kind, host, &warm, &bare));
    }
    outcome
}

/// An empty handler, as the load asks it.
pub fn without_work(region: &Region, host: &str, empty: &Peer) -> Subject {
    Subject {
        name: format!("empty handler, {host}"),
        url: empty.url.clone(),
        workers: region.workers(SERVER, &empty.process),
        requests: vec![Request::new("GET", authority(&empty.url), "/", &[], b"")],
        is_right: |answer| answer.status == 200,
    }
}

/// The microseconds above the floor and, where there is a target for it, the ratio.
fn figures(kind: Kind, host: &str, warm: &[Run], bare: &[Run]) -> Vec<Figure> {
    let time = |runs: &[Run]| closed_loop::processor(runs, SERVER);
    let side =
        |name: &str, runs| Side::new(&format!("{name}, processor time of {SERVER}"), "µs/req", time(runs));
    let (ours, empty) = (side("warm read", warm), side("empty handler", bare));
    let above = ours.samples.0.iter().zip(&empty.samples.0).map(|(ours, empty)| ours - empty);
    let what = format!("warm read, {host}: processor time above an empty handler's");
    let above = Figure::plain(&what, "µs", above.collect::<Vec<_>>(), Target::None);
    let against = format!("an empty handler, {host}");
    let rates =
        closed_loop::sides("warm read", warm).into_iter().chain(closed_loop::sides("empty handler", bare));
    let above = Figure { against, ..above }.beside(rates);
    let what = format!("warm read, {host}: processor time");
    let ratio = (kind == Kind::Cloudflare).then(|| Figure::times(&what, ours, empty, Target::AtMost(6.0)));
    ratio.into_iter().chain([above]).collect()
}
