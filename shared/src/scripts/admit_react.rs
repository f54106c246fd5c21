//! `admit_react.lua`: admission and reaction in one trip, where one Redis holds the slots of user and circle. The script trusts
//! Redis as the edge does between the two trips that it replaces. It leaves to the edge what it does not make.

use super::admit::{Admission, Admitted};
use super::react::{self, Reacted, Reaction};
use super::script::{Script, script};
use super::{Call, Scalars};
use crate::ids::Partition;
use crate::keys::Key;

pub static ADMIT_REACT: Script = script!(
    "admit_react": "clock_core.lua", "envelope_core.lua", "limits_core.lua", "admit_core.lua", "writes_core.lua",
    "react_core.lua", "belief_core.lua", "admit_react.lua"
);

/// Trusts copies of every epoch. Only for a test that must then fail.
#[cfg(feature = "test-hooks")]
pub static ANY_EPOCH: Script = script!(
    "admit_react": "clock_core.lua", "envelope_core.lua", "limits_core.lua", "admit_core.lua", "writes_core.lua",
    "react_core.lua", "belief_core.lua", "hooks/any_epoch.lua", "admit_react.lua"
);

/// The script's findings about an admitted reaction; none about others.
#[derive(Debug, Default)]
pub struct Found {
    /// `None` if the script did not ask for it: Redis is not to be trusted, the caller may not write, or the attempt is charged
    /// already.
    pub reacted: Option<Reacted>,
    /// The value of the vouching. It is empty if the reaction is made, as is the membership.
    pub vouch: Vec<u8>,
    /// The envelope of the circle's access; likewise.
    pub access: Vec<u8>,
}

/// `now_ms` is the edge's clock, by which copies are fresh. The admission is for the reaction's circle.
pub fn call<'a>(admission: &'a Admission, reaction: &Reaction, now_ms: u64) -> Call<'a> {
    let vouch = Key::Vouch.of_partition(Partition::of(reaction.circle));
    let call = Call::new(&ADMIT_REACT)
        .keys(admission.keys())
        .keys([vouch, Key::circle_access(reaction.circle).name()])
        .keys(reaction.keys())
        .keys(admission.charge.names());
    admission.charge.describe(reaction.describe(admission.describe(call).number(now_ms)))
}

pub fn read(admission: &Admission, reply: &mut impl Scalars) -> (Admitted, Found) {
    let admitted = admission.read(reply);
    let found = match admitted {
        Admitted::Yes(_) => {
            Found { reacted: react::read(reply), vouch: reply.bytes(), access: reply.bytes() }
        }
        Admitted::Limited(..) | Admitted::WrongSecret | Admitted::Unknown => Found::default(),
    };
    (admitted, found)
}
