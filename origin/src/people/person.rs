//! A person, as others are shown them.

use optimist_shared::ids::Uuid;
use serde::Serialize;

#[derive(Serialize)]
pub struct Person {
    pub id: Uuid,
    pub name: String,
}
