//! A person as others see them beside a message, a reaction or a membership.
//!
//! The full profile is [`super::me`]'s.

use optimist_plane::http::sent::{Line, Shown};
use optimist_shared::ids::Uuid;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A person's name.
pub type Name = Line<1, 80>;

#[derive(Serialize, Deserialize, JsonSchema)]
pub struct Person {
    pub id: Uuid,
    #[schemars(with = "Shown<Name>")]
    pub name: String,
}
