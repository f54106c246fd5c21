//! The circles domain: circles, their members, and the right to read them and to write in them.

pub mod access;
pub mod standing;
pub mod definition;
mod reading;
mod discovery;
mod writing;
pub mod members;
pub mod moved;
pub mod categories;
mod context;
pub mod roles;
mod ownership;
mod bans;
pub mod invites;
mod joins;
mod quotas;
mod member_count;
mod told;

use optimist_plane::audit::copies;
use optimist_plane::domain::{Domain, Job, Loader};
use optimist_plane::http::served::Served;
use optimist_plane::jobs::clean;
use optimist_plane::own::HOUR;
use optimist_shared::keys::Key;

pub const DOMAIN: Domain = Domain {
    routes,
    tags: &[
        ("circles", "Communities, public or private."),
        ("categories", "What circles are about."),
        ("members", "Who is in a circle, and as what."),
        ("ownership", "Handing a circle over."),
        ("bans", "Who is kept out of a circle."),
        ("invites", "Ways into a private circle."),
        ("joins", "Who asks to join a circle."),
    ],
    statements: &[
        access::STATEMENTS,
        standing::STATEMENTS,
        definition::STATEMENTS,
        reading::STATEMENTS,
        discovery::STATEMENTS,
        writing::STATEMENTS,
        members::STATEMENTS,
        roles::STATEMENTS,
        ownership::STATEMENTS,
        bans::STATEMENTS,
        invites::STATEMENTS,
        joins::STATEMENTS,
        quotas::STATEMENTS,
        categories::STATEMENTS,
        context::STATEMENTS,
        member_count::STATEMENTS,
    ],
    loaders: &[
        (Key::Membership, Loader::Copy(|ctx, key| Box::pin(access::load_membership(ctx, key)))),
        (Key::CircleAccess, Loader::Copy(|ctx, key| Box::pin(reading::load_access(ctx, key)))),
        (Key::Circle, Loader::Copy(|ctx, key| Box::pin(reading::load_circle(ctx, key)))),
        (Key::Categories, Loader::Copy(|ctx, _| Box::pin(categories::load_categories(ctx)))),
        (Key::Discovery, Loader::Copy(|ctx, _| Box::pin(discovery::load_discovery(ctx)))),
        (Key::CircleMembers, Loader::Copy(|ctx, key| Box::pin(members::load_members(ctx, key)))),
    ],
    // A job drops the copies that show a member's former name, within a minute.
    audits: &[(Key::CircleMembers, |ctx, suspect| {
        Box::pin(copies::compare_but_for(ctx, suspect, Some("/user")))
    })],
    jobs: &[Job {
        name: "invites.clean",
        what: "removes invitations a day after they have expired",
        every: HOUR,
        run: |ctx| Box::pin(clean(ctx, invites::CLEAN)),
    }],
    told: told::TOLD,
    rights: told::RIGHTS,
    states: told::STATES,
    sums: &[member_count::SUM, member_count::DAY_SUM],
    seed: Some(|client| Box::pin(categories::seed(client))),
    ..Domain::new("circles")
};

fn routes() -> Vec<Served> {
    [
        reading::routes(),
        discovery::routes(),
        categories::routes(),
        context::routes(),
        writing::routes(),
        members::routes(),
        roles::routes(),
        ownership::routes(),
        bans::routes(),
        invites::routes(),
        joins::routes(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
