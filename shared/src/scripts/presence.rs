//! The scripts of presence and typing: a device's state is noted in its person's partition, and whoever changed for others is due
//! there; a batch then shows them in their circles' partitions. [`crate::presence`] has the values and bounds.

use super::script::{Script, script};
use super::{Call, Scalars};
use crate::ids::{Partition, Uuid, parse_id};
use crate::keys::{BoundKey, Key};
use crate::presence::{MOST_DEVICES, MOST_LISTED, MOST_TYPING, RENEWAL_MS, SHOWN_MS, State, TYPING_MS};
use crate::wake::Wake;

pub static SAY_PRESENCE: Script =
    script!("say_presence": "clock_core.lua", "presence_core.lua", "say_presence.lua");
pub static CLAIM_PRESENCE: Script =
    script!("claim_presence": "clock_core.lua", "presence_core.lua", "claim_presence.lua");
pub static TOLD_PRESENCE: Script =
    script!("told_presence": "clock_core.lua", "presence_core.lua", "told_presence.lua");
pub static RENEW_PRESENCE: Script = script!("renew_presence": "clock_core.lua", "renew_presence.lua");
pub static READ_PRESENCE: Script =
    script!("read_presence": "clock_core.lua", "presence_core.lua", "read_presence.lua");
pub static SHOW_ONLINE: Script = script!("show_online": "clock_core.lua", "show_online.lua");
pub static READ_LIVE: Script = script!("read_live": "clock_core.lua", "read_live.lua");
pub static TYPE: Script = script!("type": "clock_core.lua", "type.lua");

/// The states that subscribers are woken for.
pub const OF_PERSON: &str = "presence";
pub const OF_CIRCLE: &str = "live";
pub const TYPING: &str = "typing";

/// Milliseconds for which nobody else takes up a person whom somebody has claimed, and may have died over.
pub const CLAIM_MS: u64 = 6_000;

/// A place stands for a state in a circle's set; 0 for nobody who is shown.
const PLACES: [State; 3] = [State::Away, State::Online, State::Busy];

/// `None` is the place of those who are not shown.
fn place(shown: Option<State>) -> usize {
    shown.and_then(|shown| PLACES.iter().position(|state| *state == shown)).map_or(0, |place| place + 1)
}

/// Adds the shard channel of the topic's partition, and the wake.
pub(super) fn waking<'a>(call: Call<'a>, name: &str, topic: Uuid) -> Call<'a> {
    let channel = Key::Wake.of_partition(Partition::of(topic));
    call.text(channel).text(Wake::State { name, topics: vec![topic] }.render())
}

fn kept_ms(key: Key) -> u64 {
    u64::from(key.row().kept_seconds().unwrap_or_default()) * 1_000
}

fn of_person(script: &'static Script, user: Uuid) -> Call<'static> {
    let due = Key::PresenceDue.of_partition(Partition::of(user));
    Call::new(script).keys([Key::presence(user).name(), due]).text(user.to_string())
}

/// Notes a device's state.
pub fn say(user: Uuid, device: &str, state: State, lease_ms: u64) -> Call<'static> {
    let call = of_person(&SAY_PRESENCE, user)
        .text(device.to_owned())
        .text(state.as_str())
        .number(lease_ms)
        .number(MOST_DEVICES.into())
        .number(RENEWAL_MS)
        .number(kept_ms(Key::Presence))
        .number(kept_ms(Key::PresenceDue));
    waking(call, OF_PERSON, user)
}

/// A person's state, after [`say`] and [`read`]; `None` if the person is offline.
pub fn state(reply: &mut impl Scalars) -> Option<State> {
    State::parse(&reply.text())
}

pub fn read(user: Uuid) -> Call<'static> {
    Call::new(&READ_PRESENCE).keys([Key::presence(user).name()])
}

/// Takes up a person who is due.
pub fn claim(user: Uuid) -> Call<'static> {
    of_person(&CLAIM_PRESENCE, user).number(CLAIM_MS)
}

/// What the person's circles are to show: `None` if the person is not due any more.
pub fn claimed(reply: &mut impl Scalars) -> Option<Option<State>> {
    let shown = reply.text();
    (!shown.is_empty()).then(|| State::parse(&shown))
}

/// Notes what a person's circles have been told.
pub fn told(user: Uuid, shown: Option<State>) -> Call<'static> {
    let call =
        of_person(&TOLD_PRESENCE, user).text(shown.map_or("offline", State::as_str)).number(RENEWAL_MS);
    waking(call, OF_PERSON, user)
}

/// Shows these people in a circle, or no longer.
pub fn show(circle: Uuid, people: &[(Uuid, Option<State>)]) -> Call<'static> {
    let call = Call::new(&SHOW_ONLINE).keys([Key::online(circle).name()]).number(SHOWN_MS);
    people.iter().fold(waking(call, OF_CIRCLE, circle), |call, (user, shown)| {
        call.text(user.to_string()).number(place(*shown) as u64)
    })
}

/// Makes a person due who is present: others are to see them otherwise than before, whatever they say.
pub fn renew(user: Uuid) -> Call<'static> {
    of_person(&RENEW_PRESENCE, user).number(kept_ms(Key::PresenceDue))
}

pub fn live(circle: Uuid) -> Call<'static> {
    Call::new(&READ_LIVE)
        .keys([Key::online(circle), Key::typing(circle)].map(|key: BoundKey| key.name()))
        .number(MOST_LISTED.into())
}

/// Who is present in a circle, and who types there.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Live {
    pub present: u64,
    /// Empty if they are too many.
    pub listed: Vec<(Uuid, State)>,
    /// With the milliseconds left.
    pub typing: Vec<(Uuid, u64)>,
}

impl Live {
    pub fn read(reply: &mut impl Scalars) -> Live {
        let (present, listed) = (reply.count(), reply.count().min(MOST_LISTED.into()));
        let mut live = Live { present, ..Live::default() };
        for _ in 0..listed {
            let (user, place) = (parse_id(&reply.text()), reply.count());
            let state = usize::try_from(place).ok().and_then(|place| PLACES.get(place.checked_sub(1)?));
            live.listed.extend(user.zip(state.copied()));
        }
        while let (Some(user), left_ms) = (parse_id(&reply.text()), reply.count()) {
            live.typing.push((user, left_ms));
        }
        live
    }
}

/// Notes that somebody types in a circle.
pub fn typing(user: Uuid, circle: Uuid) -> Call<'static> {
    let call = Call::new(&TYPE)
        .keys([Key::typing(circle).name()])
        .text(user.to_string())
        .number(TYPING_MS)
        .number(MOST_TYPING.into());
    waking(call, TYPING, circle)
}

/// Whether a reply to [`typing`] says that Redis has taken it, or need not.
pub fn is_typing(reply: &mut impl Scalars) -> bool {
    matches!(reply.text().as_str(), "done" | "full")
}
