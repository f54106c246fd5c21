//! Two thousand clients lose their connections together and come back at once, each with a new ticket and the position after which
//! it continues; each misses one message, which it is told once. A bystander reads meanwhile.
//!
//! The gateway admits so many arrivals a second. Those beyond come again after the seconds that it names.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use optimist_shared::signature::Identity;
use tokio::runtime::Handle;
use tokio::task::block_in_place;

use super::{Circle, LISTENERS, circles, post, seats, take_all};
use crate::Settings;
use crate::http1::{Answer, Connection};
use crate::listeners::{Heard, Listener, Refused, Way};
use crate::made::{Load, signed};
use crate::region::Region;
use crate::report::{Figure, Side, Target};

const CIRCLES: usize = 10;
/// Connections of each person.
const EACH: usize = 4;
/// The bystander's requests a second, and for how many seconds: the clients' first attempts, and the first of those that come again.
const RATE: f64 = 100.0;
const SECONDS: u64 = 4;
/// Between the loss of the connections and their return.
const AWAY: Duration = Duration::from_secs(1);
/// Until everybody must have heard what was missed.
const PATIENCE: Duration = Duration::from_secs(10);

pub async fn run(settings: &Settings) -> Vec<Figure> {
    let region = Region::start().await;
    let circles = circles(&region, if settings.quick { 2 } else { CIRCLES }, LISTENERS);
    let seats = seats(&circles, LISTENERS, EACH, |_| Way::Socket);
    let (mut before, mut during, mut took, mut refused) = (Vec::new(), Vec::new(), Vec::new(), 0);
    bystander(&region, &circles[0], "a bystander, warming up");
    for _ in 0..settings.turns {
        let heard = Heard::default();
        let listeners = take_all(&region, &seats, &heard).await;
        before.push(bystander(&region, &circles[0], "a bystander before"));
        let positions: Vec<String> = listeners.iter().map(|listener| listener.began.clone()).collect();
        drop(listeners);
        tokio::time::sleep(AWAY).await;
        block_in_place(|| say(&region, &circles));
        heard.take();
        let again = AtomicUsize::new(0);
        let began = Instant::now();
        let returning = seats.iter().zip(&positions).map(|(seat, last)| {
            let (region, heard, again) = (&region, &heard, &again);
            async move {
                loop {
                    match seat.take(region, Some(last), heard).await {
                        Ok(listener) => return (listener, began.elapsed()),
                        Err(Refused { status: 503, after: Some(after) }) => {
                            again.fetch_add(1, Ordering::Relaxed);
                            tokio::time::sleep(Duration::from_secs(after)).await;
                        }
                        Err(refused) => panic!("a client that came back was refused: {refused:?}"),
                    }
                }
            }
        });
        let (slowest, returned): (f64, Vec<(Listener, Duration)>) = std::thread::scope(|scope| {
            let beside = scope.spawn(|| bystander(&region, &circles[0], "a bystander during"));
            let returned = block_in_place(|| Handle::current().block_on(join_all(returning)));
            (beside.join().expect("the bystander"), returned)
        });
        during.push(slowest);
        let last = returned.iter().map(|(_, after)| after.as_secs_f64()).fold(0.0, f64::max);
        let deadline = Instant::now() + PATIENCE;
        while heard.len() < seats.len() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(heard.len(), seats.len(), "each is told of the one message that it missed");
        let again = again.into_inner();
        println!("  {} clients are back after {last:.2} s; {again} came again", seats.len());
        took.push(last);
        refused += again;
    }
    let clients = seats.len();
    println!(
        "  of {} attempts {refused} were beyond the bound of arrivals",
        clients * settings.turns + refused
    );
    vec![
        Figure::times(
            &format!("a bystander's p99 while {clients} clients come back at once"),
            Side::new("during", "ms", during),
            Side::new("before", "ms", before),
            Target::AtMost(2.0),
        ),
        Figure::plain(&format!("until {clients} clients are back"), "s", took, Target::None),
    ]
}

/// Posts a message in each circle.
fn say(region: &Region, circles: &[Circle]) {
    let mut connection = Connection::open(&region.origin.api).expect("a connection");
    for circle in circles {
        let answer = connection.send(&post(&region.origin.api, circle)).expect("an answer");
        assert_eq!(answer.status, 201);
    }
}

/// The p99 of reads of a circle's messages from the origin, in milliseconds.
fn bystander(region: &Region, circle: &Circle, name: &str) -> f64 {
    let path = format!("/v1/circles/{}/messages", circle.id);
    let member = &circle.members[0];
    let url = &region.origin.api;
    let request = |_: &mut ()| {
        let identity = Identity::Session { user: member.user, session: member.token.session };
        signed(url, "GET", &path, identity, &[], b"")
    };
    let answered = |_: &mut (), answer: &Answer| assert_eq!(answer.status, 200);
    let workers = [region.origin_worker()];
    let load = Load { name, url, workers: &workers, state: &|_| (), request: &request, answered: &answered };
    block_in_place(|| load.at_rate(RATE, SECONDS)).latencies.percentile(99.0)
}
