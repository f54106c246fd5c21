//! Rights end on open connections, judged by position: nothing that lies after the end of a right arrives.

use std::time::Duration;

use futures_util::future::join_all;
use optimist_tests::live::{Subscriber, Transport, subscribe};
use optimist_tests::{Client, System};
use serde_json::json;

use super::{BOTH, events_of, gateway, number};

/// How somebody loses a right.
#[derive(Clone, Copy, Debug)]
enum Loss {
    Removed,
    Banned,
    Left,
    LoggedOut,
}

const LOSSES: [Loss; 4] = [Loss::Removed, Loss::Banned, Loss::Left, Loss::LoggedOut];

impl Loss {
    /// The event that it leaves.
    fn kind(self) -> &'static str {
        match self {
            Loss::Removed | Loss::Banned => "member.removed",
            Loss::Left => "member.left",
            Loss::LoggedOut => "session.revoked",
        }
    }

    async fn happen(self, owner: &Client, person: &Client, circle: &str) {
        let members = format!("/v1/circles/{circle}/members");
        let answer = match self {
            Loss::Removed => owner.delete(&format!("{members}/{}", person.user)).await,
            Loss::Banned => owner.delete(&format!("{members}/{}?ban=true", person.user)).await,
            Loss::Left => person.delete(&format!("{members}/me")).await,
            Loss::LoggedOut => person.post("/v1/auth/logout", json!({})).await,
        };
        answer.expect(204);
    }
}

/// One person in a circle, who listens both ways and loses a right.
struct Try {
    person: Client,
    loss: Loss,
    listeners: Vec<Subscriber>,
}

/// `OPTIMIST_RIGHTS` sets another number of tries.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_comes_past_the_end_of_a_right() {
    let tries = optimist_tests::scale("OPTIMIST_RIGHTS", 24);
    let at_once = if tries > 1_000 { 40 } else { 8 };
    let system = System::start().await;
    let gateway = gateway(&system, 0);
    let ada = system.register("Ada").await;
    let mut people = Vec::new();
    for _ in 0..at_once {
        people.push(system.register("Bo").await);
    }
    for turn in 0..tries.div_ceil(at_once) {
        system.forget_limits_of(&ada).await;
        let circle = ada.create_circle("private").await;
        let mut all = Vec::new();
        for (index, person) in people.drain(..).enumerate() {
            system.forget_limits_of(&ada).await;
            system.forget_limits_of(&person).await;
            person.join(&circle, &ada).await;
            let mut listeners = Vec::new();
            for transport in BOTH {
                let mut listener = subscribe(&gateway, transport, &person, "").await;
                listener.expect("ready").await;
                listeners.push(listener);
            }
            all.push(Try { person, loss: LOSSES[(index + turn as usize) % LOSSES.len()], listeners });
        }
        system.forget_limits_of(&ada).await;
        // Events come all the time, before, at and after the end of each right.
        let database = system.database.clone();
        let sql: Vec<String> = (0..40).map(|n| events_of(&circle, n * 25..n * 25 + 25)).collect();
        let flood = std::thread::spawn(move || {
            sql.iter().for_each(|sql| drop(optimist_tests::stores::SHARED.sql(&database, sql)));
        });
        let losses = all.iter().enumerate().map(|(index, one)| {
            let (ada, circle) = (&ada, &circle);
            async move {
                let pause = (turn * 37 + index as u64 * 53) % 300;
                tokio::time::sleep(Duration::from_millis(pause)).await;
                one.loss.happen(ada, &one.person, circle).await;
            }
        });
        join_all(losses).await;
        flood.join().unwrap();
        system.sql(&events_of(&circle, 0..5));
        let judged = all.into_iter().map(|one| judge(&system, one));
        people = join_all(judged).await;
    }
}

/// Reads what a person received. Returns the person, logged in again.
async fn judge(system: &System, Try { person, loss, mut listeners }: Try) -> Client {
    let kind = loss.kind();
    let ended = system.sql(&format!(
        "select xid::text || '-' || seq from outbox where kind = '{kind}' and topics @> array['{}']::uuid[]
         order by xid desc, seq desc limit 1",
        person.user
    ));
    let ended = number(&format!("1.{ended}"));
    let is_closed = matches!(loss, Loss::LoggedOut);
    for (transport, listener) in BOTH.into_iter().zip(&mut listeners) {
        let transport: Transport = transport;
        let mut told = false;
        while let Some(frame) = listener.within(Duration::from_millis(700)).await {
            if frame["type"] == "message.deleted" {
                let at = number(frame["id"].as_str().unwrap());
                assert!(at < ended, "{transport:?} {loss:?}: {frame} after {ended:?}");
            }
            told |= frame["type"] == if is_closed { "closed" } else { kind };
            if is_closed && frame["type"] == "closed" {
                assert_eq!(frame["data"]["code"], 4401);
            }
        }
        assert!(told, "{transport:?}: not told of {loss:?}");
    }
    if is_closed { person.log_in().await } else { person }
}

/// Nobody loses a right; but nothing changes in an archived circle, however many are posting.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_comes_past_the_archiving_of_a_circle() {
    let system = System::start().await;
    let gateway = gateway(&system, 0);
    let ada = system.register("Ada").await;
    let posters = [system.register("Bo").await, system.register("Cy").await];
    for _ in 0..optimist_tests::scale("OPTIMIST_RIGHTS", 24).div_ceil(8) {
        system.forget_limits_of(&ada).await;
        let circle = ada.create_circle("private").await;
        for poster in &posters {
            system.forget_limits_of(poster).await;
            poster.join(&circle, &ada).await;
        }
        let mut listeners = Vec::new();
        for transport in BOTH {
            let mut listener = subscribe(&gateway, transport, &posters[0], "").await;
            listener.expect("ready").await;
            listeners.push(listener);
        }
        let path = format!("/v1/circles/{circle}/messages");
        let posting = posters.iter().map(|poster| async {
            let mut posted = 0;
            loop {
                let answer = poster.post(&path, json!({"body": "Good morning."})).await;
                match answer.status {
                    201 => posted += 1,
                    429 => system.forget_limits_of(poster).await,
                    // It is archived.
                    409 => return posted,
                    _ => panic!("{answer:#?}"),
                }
            }
        });
        let archive = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            ada.delete(&format!("/v1/circles/{circle}")).await.expect(204);
        };
        let (posted, ()) = tokio::join!(join_all(posting), archive);
        assert!(posted.iter().sum::<u32>() > 0);
        for (transport, mut listener) in BOTH.into_iter().zip(listeners) {
            let (mut heard, mut is_archived) = (0, false);
            while let Some(frame) = listener.within(Duration::from_millis(1_500)).await {
                let kind = frame["type"].as_str().unwrap_or_default();
                assert!(!(is_archived && kind.starts_with("message.")), "{transport:?}: {frame}");
                heard += u32::from(kind == "message.posted");
                is_archived |= kind == "circle.archived";
            }
            assert!(is_archived, "{transport:?}: not told");
            assert_eq!(heard, posted.iter().sum::<u32>(), "{transport:?}");
        }
    }
}
