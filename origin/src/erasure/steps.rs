//! What an erasure is about, and how a step of it says what is left.

use chrono::{DateTime, Utc};
use optimist_plane::request::RequestContext;
use optimist_shared::ids::Uuid;
use optimist_shared::keys::Key;
use optimist_shared::routes::Route;

/// Somebody whose account is erased, and how far it is.
#[derive(Clone, Debug)]
pub struct Person {
    pub user: Uuid,
    pub keeps_messages: bool,
    /// The address that the account had.
    pub email: Option<String>,
    pub erased_at: DateTime<Utc>,
    pub step: i16,
    /// Where the step goes on.
    pub after: Option<String>,
}

/// What is left after a part of a step.
#[derive(Debug, PartialEq, Eq)]
pub enum Left {
    /// The step goes on, and finds by itself where.
    More,
    /// The step goes on here.
    MoreAfter(String),
    /// The step goes on once others have done what it waits for.
    Waits,
    Nothing,
}

/// What stands for the route of the steps' writes.
static ROUTE: Route = Route::of_command(
    "erasure.run",
    &[
        Key::Session,
        Key::Me,
        Key::Profile,
        Key::PersonalPreferences,
        Key::Preferences,
        Key::PushTokens,
        Key::RecentTags,
        Key::Streak,
        Key::Membership,
        Key::MyCircles,
        Key::ReadMarker,
        Key::CircleHead,
        Key::Circle,
        Key::CircleAccess,
        Key::CircleMembers,
        Key::CircleMessages,
        Key::Message,
        Key::Comments,
        Key::Reactions,
    ],
);

pub fn request() -> RequestContext {
    RequestContext::of_command(&ROUTE)
}
