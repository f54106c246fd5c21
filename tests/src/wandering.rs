//! Subscribers whose connections end in every way, again and again, and a record of what each has received.

use std::time::{Duration, Instant};

use reqwest::Method;

use crate::client::Client;
use crate::live::{Refused, Subscriber, Transport, connect, connect_through_edge};
use crate::proxy::{Mode, Proxy};
use crate::system::address;

/// How a subscriber's connections end.
#[derive(Clone, Copy, Debug)]
pub enum Manner {
    Clean,
    Cut,
    HalfOpen,
    Slow,
}

pub const MANNERS: [Manner; 4] = [Manner::Clean, Manner::Cut, Manner::HalfOpen, Manner::Slow];

/// How it connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To a gateway: the one that a ticket names.
    Gateway(Transport),
    /// Through its client's edge.
    Edge,
}

/// What was received over all connections.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// The ids of events of one kind, as they came.
    pub ids: Vec<String>,
    /// How many ids had come each time that it was told that its history had ended.
    pub breaks: Vec<usize>,
    /// How often it was not let in, by status.
    pub refused: std::collections::BTreeMap<Refused, u32>,
}

pub struct Wanderer {
    client: Client,
    way: Way,
    pub manner: Manner,
    /// The kind of events that it records, and their circle, if not all.
    kind: &'static str,
    circle: Option<String>,
    proxy: Proxy,
    position: Option<String>,
    turn: u64,
    pub record: Record,
}

impl Wanderer {
    pub async fn new(client: Client, way: Way, manner: Manner, kind: &'static str) -> Wanderer {
        let proxy = Proxy::start(address(&client.url)).await;
        let record = Record::default();
        Wanderer { client, way, manner, kind, circle: None, proxy, position: None, turn: 0, record }
    }

    pub fn in_circle(self, circle: &str) -> Wanderer {
        Wanderer { circle: Some(circle.to_owned()), ..self }
    }

    pub fn name(&self) -> String {
        format!("{:?} {:?}", self.way, self.manner)
    }

    /// Listens, with connections that end, until it is over.
    pub async fn wander(&mut self, is_over: impl Fn(&Record) -> bool) {
        while !is_over(&self.record) {
            let connected = self.connect().await;
            let mut listener = match connected {
                Ok(listener) => listener,
                Err(status) => {
                    *self.record.refused.entry(status).or_default() += 1;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            self.turn += 1;
            let ends = Instant::now() + Duration::from_millis(300 + self.turn * 211 % 700);
            while !is_over(&self.record) {
                let left = ends.saturating_duration_since(Instant::now());
                let Some(frame) = listener.within(left).await else { break };
                if matches!(self.manner, Manner::Slow) && self.turn.is_multiple_of(3) {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                self.note(&frame);
            }
            match self.manner {
                Manner::Clean | Manner::Slow => {}
                Manner::Cut => self.proxy.cut(),
                Manner::HalfOpen => {
                    self.proxy.set(Mode::HalfOpen);
                    tokio::time::sleep(Duration::from_millis(150)).await;
                }
            }
        }
    }

    fn note(&mut self, frame: &serde_json::Value) {
        if let Some(id) = frame["id"].as_str() {
            self.position = Some(id.to_owned());
        }
        let is_here = self.circle.as_ref().is_none_or(|circle| frame["circle"] == circle.as_str());
        if frame["type"] == self.kind && is_here {
            self.record.ids.push(frame["id"].as_str().expect("an event has an id").to_owned());
        }
        if frame["type"] == "ready" && frame["data"]["recovered"] == false {
            self.record.breaks.push(self.record.ids.len());
        }
    }

    /// Connects, and continues after the position that it has. What is no answer counts as a refusal.
    async fn connect(&self) -> Result<Subscriber, Refused> {
        let query = self.position.as_ref().map_or_else(String::new, |id| format!("?last_event_id={id}"));
        let attempt = async {
            match self.way {
                Way::Edge => {
                    self.proxy.send_to(address(&self.client.url));
                    connect_through_edge(&self.proxy.address(), &self.client, &query).await
                }
                Way::Gateway(transport) => {
                    let body = Some(b"{}".to_vec());
                    let asked = self.client.try_send(Method::POST, "/v1/realtime/tickets", &[], body).await;
                    let answer = asked.map_err(|_| 2u16)?;
                    if answer.status != 201 {
                        return Err(answer.status);
                    }
                    self.proxy.send_to(address(&answer.text("/url")));
                    connect(&self.proxy.address(), transport, &answer.text("/ticket"), &query).await
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(5), attempt).await.unwrap_or(Err(1))
    }
}

/// What is wrong with a record, if these events were to be received, in this order: one that is missing although the history had not
/// ended, or that came twice, or late. Those before the first that came are not judged.
pub fn judge(record: &Record, expected: &[String]) -> Option<String> {
    let first = |first: &String| expected.iter().position(|id| id == first).unwrap_or_default();
    let mut next = record.ids.first().map_or(0, first);
    for (index, id) in record.ids.iter().enumerate() {
        let Some(found) = expected[next..].iter().position(|known| known == id) else {
            return Some(format!("{id}, as number {index}, came twice, late, or is no event"));
        };
        if found > 0 && !record.breaks.contains(&index) {
            return Some(format!("{found} events before {id}, as number {index}, did not come"));
        }
        next += found + 1;
    }
    let left = expected.len() - next;
    let is_told = record.breaks.last().is_some_and(|at| *at == record.ids.len());
    (left > 0 && !is_told).then(|| format!("the last {left} events did not come"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_found_unless_they_were_told_of() {
        let expected = ["1", "2", "3", "4", "5"].map(str::to_owned);
        let record = |ids: &[&str], breaks: &[usize]| Record {
            ids: ids.iter().map(|id| (*id).to_owned()).collect(),
            breaks: breaks.to_vec(),
            ..Record::default()
        };
        let is_good = |ids: &[&str], breaks: &[usize]| judge(&record(ids, breaks), &expected).is_none();
        assert!(is_good(&["1", "2", "3", "4", "5"], &[]));
        assert!(is_good(&["3", "4", "5"], &[]), "who came later missed nothing");
        assert!(!is_good(&["1", "2", "4", "5"], &[]), "a gap");
        assert!(is_good(&["1", "2", "4", "5"], &[2]), "of which it was told");
        assert!(!is_good(&["1", "2", "4", "5"], &[1]), "elsewhere");
        assert!(!is_good(&["1", "2", "2", "3", "4", "5"], &[]), "twice");
        assert!(!is_good(&["1", "3", "2", "4", "5"], &[1]), "late");
        assert!(!is_good(&["1", "2", "3"], &[]), "the last are missing");
        assert!(!is_good(&["1", "2", "9"], &[]), "no event");
    }
}
