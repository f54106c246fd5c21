//! Sockets whose network vanishes: their people are gone once their leases are over, and nobody else flaps.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::iter;
use optimist_tests::live::{Subscriber, Transport, connect};
use optimist_tests::proxy::{Mode, Proxy};
use optimist_tests::{Client, Options, System};
use reqwest::Method;
use serde_json::json;

use super::gateway;

/// Within so much of its lease's end a device that vanished is gone.
const GONE_WITHIN: Duration = Duration::from_secs(15);
/// The devices of each person.
const DEVICES: [&str; 2] = ["phone", "desk"];

/// A device's socket.
struct Device {
    name: &'static str,
    socket: Subscriber,
}

impl Device {
    /// `from` is the client's address: fewer come from one than may.
    async fn open(address: &str, client: &Client, name: &'static str, from: &str) -> Device {
        let (told, body) = ([("x-forwarded-for", from)], Some(b"{}".to_vec()));
        let ticket = client.send(Method::POST, "/v1/realtime/tickets", &told, body).await;
        let ticket = ticket.expect(201).text("/ticket");
        let mut socket = connect(address, Transport::Socket, &ticket, "").await.expect("a socket");
        socket.expect("ready").await;
        Device { name, socket }
    }

    /// Says that its person is there, and does not wait for the answer.
    fn say(&self) {
        let said = json!({"type": "presence", "state": "online", "device": self.name, "ref": self.name});
        self.socket.command(&said.to_string());
    }
}

/// How many are there, and in what state somebody is.
async fn online(client: &Client, circle: &str) -> u64 {
    client.get(&format!("/v1/circles/{circle}/live")).await.expect(200).body["online"].as_u64().unwrap()
}

async fn state_of(client: &Client, other: &Client) -> String {
    client.get(&format!("/v1/users/{}/presence", other.user)).await.expect(200).text("/state")
}

/// Half of the people vanish. Of the others, half lose one of their two devices. `OPTIMIST_GHOSTS` sets another number of devices.
#[tokio::test(flavor = "multi_thread")]
async fn sockets_whose_network_vanishes_leave_no_ghosts() {
    let devices = optimist_tests::scale("OPTIMIST_GHOSTS", 40) as usize;
    // Where more of them speak, each speaks less often.
    let lease = 6 + devices as u32 / 40;
    let options =
        Options { presence_lease_s: lease, origins: 2, trusted_proxies: "127.0.0.0/8", ..Options::default() };
    let system = System::with(options).await;
    let watcher = system.register("Owen").await;
    let circle = watcher.create_circle("private").await;
    let names = 0..devices / DEVICES.len();
    let joined = iter(names).map(|_| async {
        let person = system.register("Pia").await;
        system.sql(&format!(
            "insert into memberships (circle_id, user_id, role) values ('{circle}', '{}', 'member')",
            person.user
        ));
        person
    });
    let people: Vec<Client> = joined.buffered(4).collect().await;
    let (staying, vanishing) = people.split_at(people.len() / 2);
    let (address, lost) = (gateway(&system, 0), Proxy::start(&gateway(&system, 0)).await);
    let mut opened = 0;
    let mut open = |client: &Client, number: usize, is_lost: bool| {
        let address = if is_lost { lost.address() } else { address.clone() };
        let client = client.clone();
        opened += 1;
        let from = format!("192.0.2.{}", opened / 100 + 1);
        async move { Device::open(&address, &client, DEVICES[number], &from).await }
    };
    let (mut kept, mut gone) = (Vec::new(), Vec::new());
    for (index, person) in staying.iter().enumerate() {
        kept.push(open(person, 0, false).await);
        let is_lost = index % 2 == 0;
        let other = open(person, 1, is_lost).await;
        if is_lost { gone.push(other) } else { kept.push(other) }
    }
    for person in vanishing {
        for number in 0..DEVICES.len() {
            gone.push(open(person, number, true).await);
        }
    }
    gone.iter().for_each(Device::say);
    let beats = Duration::from_secs(lease.into()) / 3;
    let beating = tokio::spawn(async move {
        loop {
            kept.iter_mut().for_each(|device| device.say());
            tokio::time::sleep(beats).await;
        }
    });
    let everybody = people.len() as u64;
    let deadline = optimist_tests::patience();
    while online(&watcher, &circle).await != everybody {
        assert!(Instant::now() < deadline, "not everybody is there");
        gone.iter().for_each(Device::say);
        tokio::time::sleep(beats).await;
    }
    // Nobody is told that the network is gone.
    lost.set(Mode::HalfOpen);
    let least = staying.len() as u64;
    let deadline = Instant::now() + Duration::from_secs(lease.into()) + GONE_WITHIN;
    let mut seen = everybody;
    while seen != least {
        assert!(Instant::now() < deadline, "{seen} are there, and only {least} say so");
        let now = online(&watcher, &circle).await;
        assert!((least..=seen).contains(&now), "{now} after {seen}");
        seen = now;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Both devices of a person, and those who lost one, are there as before; all agree on it.
    let flaps = Instant::now() + Duration::from_secs(lease.into());
    while Instant::now() < flaps {
        assert_eq!(online(&watcher, &circle).await, least, "somebody flaps");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    for (people, state) in [(staying, "online"), (vanishing, "offline")] {
        for some in people.chunks(8) {
            system.forget_limits_of(&watcher).await;
            let states = join_all(some.iter().map(|person| state_of(&watcher, person))).await;
            assert!(states.iter().all(|found| found == state), "{states:?}");
        }
    }
    beating.abort();
}
