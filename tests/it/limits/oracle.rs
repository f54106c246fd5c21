//! A sliding limit in its simplest form: a list of the times of admitted calls.

use std::collections::HashMap;

use optimist_shared::limits::LimitRow;

/// One call of a limit's scripts.
#[derive(Clone, Debug)]
pub enum Call {
    Charge { now_ms: u64, entry: String },
    GiveBack { entry: String },
    Peek { now_ms: u64 },
}

impl Call {
    pub fn now_ms(&self) -> u64 {
        match self {
            Call::Charge { now_ms, .. } | Call::Peek { now_ms } => *now_ms,
            Call::GiveBack { .. } => 0,
        }
    }

    pub fn entry(&self) -> &str {
        match self {
            Call::Charge { entry, .. } | Call::GiveBack { entry } => entry,
            Call::Peek { .. } => "",
        }
    }
}

/// The outcome of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Whether a retry found its entry; for each window the number left, and milliseconds until it rises.
    Admitted {
        found: bool,
        states: Vec<(i64, i64)>,
    },
    /// The limit and window that refuse, numbered from 1, and the milliseconds to wait.
    Refused {
        limit: i64,
        window: i64,
        wait_ms: i64,
        states: Vec<(i64, i64)>,
    },
    GaveBack {
        entries: i64,
    },
    Peeked {
        states: Vec<(i64, i64)>,
    },
}

impl Outcome {
    pub fn read(call: &Call, reply: redis::Value) -> Outcome {
        let mut items = match reply {
            redis::Value::Array(items) => items,
            other => vec![other],
        };
        let int = |value: &redis::Value| redis::from_redis_value_ref::<i64>(value).unwrap();
        let states =
            |items: &[redis::Value]| items.chunks(2).map(|pair| (int(&pair[0]), int(&pair[1]))).collect();
        match call {
            Call::GiveBack { .. } => Outcome::GaveBack { entries: int(&items[0]) },
            Call::Peek { .. } => Outcome::Peeked { states: states(&items) },
            Call::Charge { .. } => {
                let rest = items.split_off(4);
                match redis::from_redis_value_ref::<String>(&items[0]).unwrap().as_str() {
                    "refused" => Outcome::Refused {
                        limit: int(&items[1]),
                        window: int(&items[2]),
                        wait_ms: int(&items[3]),
                        states: states(&rest),
                    },
                    outcome => Outcome::Admitted { found: outcome == "found", states: states(&rest) },
                }
            }
        }
    }

    pub fn is_admitted(&self) -> bool {
        matches!(self, Outcome::Admitted { .. })
    }

    /// The number left in a window.
    pub fn left(&self, window: usize) -> i64 {
        match self {
            Outcome::Admitted { states, .. }
            | Outcome::Refused { states, .. }
            | Outcome::Peeked { states } => states[window].0,
            Outcome::GaveBack { .. } => panic!("no states"),
        }
    }
}

/// Limits charged together, each a list of (time, entry, whether a retry has found it), oldest first.
#[derive(Debug)]
pub struct Oracle {
    limits: Vec<Vec<(u64, String, bool)>>,
    /// For each limit its windows: the number admitted, and the length in milliseconds.
    windows: Vec<Vec<(usize, u64)>>,
    /// Number of outcomes of each kind, by name.
    seen: HashMap<&'static str, u64>,
}

impl Oracle {
    pub fn new(rows: &[&LimitRow]) -> Oracle {
        let windows = |row: &&LimitRow| {
            row.windows
                .iter()
                .map(|window| (window.admitted as usize, u64::from(window.seconds) * 1000))
                .collect()
        };
        Oracle {
            limits: vec![Vec::new(); rows.len()],
            windows: rows.iter().map(windows).collect(),
            seen: HashMap::new(),
        }
    }

    /// Makes the oracle wrong.
    pub fn admit_one_more(&mut self) {
        self.windows.iter_mut().flatten().for_each(|(admitted, _)| *admitted += 1);
    }

    /// Whether every kind of outcome occurred often.
    pub fn was_thorough(&self) -> bool {
        ["charged", "found", "refused", "gave back", "kept"]
            .iter()
            .all(|kind| self.seen.get(kind).is_some_and(|times| *times > 100))
    }

    pub fn play(&mut self, call: &Call) -> Outcome {
        match call {
            Call::Charge { now_ms, entry } => self.charge(self.not_before_newest(*now_ms), entry),
            Call::Peek { now_ms } => Outcome::Peeked { states: self.states(self.not_before_newest(*now_ms)) },
            Call::GiveBack { entry } => {
                let mut entries = 0;
                for limit in &mut self.limits {
                    let before = limit.len();
                    limit.retain(|(_, known, found)| known != entry || *found);
                    entries += (before - limit.len()) as i64;
                }
                self.count(if entries > 0 { "gave back" } else { "kept" });
                Outcome::GaveBack { entries }
            }
        }
    }

    fn charge(&mut self, now: u64, entry: &str) -> Outcome {
        let mut found = Vec::new();
        for index in 0..self.limits.len() {
            let longest = self.windows[index].iter().map(|(_, length)| *length).max().unwrap();
            // An entry that has left every window counts for nothing.
            let is_known =
                |(time, known, _): &&mut (u64, String, bool)| known == entry && *time + longest > now;
            if let Some(known) = self.limits[index].iter_mut().find(is_known) {
                known.2 = true;
                found.push(index);
                continue;
            }
            for (number, (admitted, length)) in self.windows[index].iter().enumerate() {
                let inside = within(&self.limits[index], now, *length);
                if inside.len() >= *admitted {
                    let oldest = inside[inside.len() - admitted].0;
                    let wait_ms = (oldest + length - now) as i64;
                    let (limit, window) = (index as i64 + 1, number as i64 + 1);
                    self.count("refused");
                    return Outcome::Refused { limit, window, wait_ms, states: self.states(now) };
                }
            }
        }
        for (index, limit) in self.limits.iter_mut().enumerate().filter(|(index, _)| !found.contains(index)) {
            limit.push((now, entry.to_owned(), false));
            let longest = self.windows[index].iter().map(|(_, length)| *length).max().unwrap();
            limit.retain(|(time, ..)| *time + longest > now);
        }
        let found = !found.is_empty();
        self.count(if found { "found" } else { "charged" });
        Outcome::Admitted { found, states: self.states(now) }
    }

    fn states(&self, now: u64) -> Vec<(i64, i64)> {
        let mut states = Vec::new();
        for (limit, windows) in self.limits.iter().zip(&self.windows) {
            for (admitted, length) in windows {
                let inside = within(limit, now, *length);
                let left = admitted.saturating_sub(inside.len()) as i64;
                let reset = inside.first().map_or(0, |(time, ..)| (time + length - now) as i64);
                states.push((left, reset));
            }
        }
        states
    }

    /// The clock never goes back behind the newest entry.
    fn not_before_newest(&self, now: u64) -> u64 {
        self.limits.iter().filter_map(|limit| limit.last()).map(|(time, ..)| *time).fold(now, u64::max)
    }

    fn count(&mut self, kind: &'static str) {
        *self.seen.entry(kind).or_default() += 1;
    }

    fn recent(&self, back: usize) -> Option<&str> {
        let limit = &self.limits[0];
        limit.len().checked_sub(back + 1).map(|index| limit[index].1.as_str())
    }
}

/// Entries admitted less than `length` ago.
fn within(limit: &[(u64, String, bool)], now: u64, length: u64) -> &[(u64, String, bool)] {
    let first = limit.partition_point(|(time, ..)| *time + length <= now);
    &limit[first..]
}

/// Random calls; the same seed gives the same calls.
pub struct Random {
    state: u64,
    now_ms: u64,
    next_entry: u64,
    /// For each window, the average milliseconds between admitted calls.
    paces: Vec<u64>,
    pace: u64,
}

impl Random {
    pub fn new(seed: u64, rows: &[&LimitRow]) -> Random {
        let windows = rows.iter().flat_map(|row| row.windows);
        let paces =
            windows.map(|window| u64::from(window.seconds) * 1000 / u64::from(window.admitted)).collect();
        Random { state: seed, now_ms: 1_800_000_000_000, next_entry: 0, paces, pace: 1 }
    }

    /// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub fn next_charge(&mut self) -> Call {
        self.next_entry += 1;
        Call::Charge { now_ms: self.now_ms, entry: format!("e{}", self.next_entry) }
    }

    /// Mostly new attempts at about the pace of one window. Some calls are a burst, a long silence, a retry, the return
    /// of a failed attempt, a peek, or come from a clock that jumps back.
    pub fn next_call(&mut self, oracle: &Oracle) -> Call {
        if self.below(200) == 0 {
            let index = self.below(self.paces.len() as u64) as usize;
            // From four times the admitted pace to half of it.
            self.pace = (self.paces[index] << self.below(4)) / 4 + 1;
        }
        self.now_ms += match self.below(20) {
            0..8 => 0,
            8..19 => {
                let pace = self.pace;
                self.below(2 * pace)
            }
            _ if self.below(50) == 0 => 90_000_000,
            _ => {
                let pace = self.pace;
                self.below(20 * pace)
            }
        };
        let recent = |random: &mut Random| oracle.recent(random.below(3) as usize).map(str::to_owned);
        match self.below(20) {
            0..15 => self.next_charge(),
            15 | 16 => match recent(self) {
                Some(entry) => Call::GiveBack { entry },
                None => self.next_charge(),
            },
            17 => match recent(self) {
                Some(entry) => Call::Charge { now_ms: self.now_ms, entry },
                None => self.next_charge(),
            },
            18 => Call::Peek { now_ms: self.now_ms },
            _ => {
                let Call::Charge { now_ms, entry } = self.next_charge() else {
                    return Call::Peek { now_ms: self.now_ms };
                };
                Call::Charge { now_ms: now_ms - self.below(5_000), entry }
            }
        }
    }
}
