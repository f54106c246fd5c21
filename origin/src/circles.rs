//! Circles: what they are, who is in them, and who may do what there.

pub mod access;
pub mod definition;
pub mod members;
pub mod standing;

use futures_util::future::BoxFuture;
use optimist_plane::audit::copies;
use optimist_plane::cache::fence::drop_copies;
use optimist_plane::ctx::Ctx;
use optimist_plane::domain::{Domain, Loader, Sum};
use optimist_plane::http::served::Served;
use optimist_shared::ids::Uuid;
use optimist_shared::keys::{Key, Parameters};

pub const DOMAIN: Domain = Domain {
    routes,
    statements: &[
        access::STATEMENTS,
        definition::STATEMENTS,
        members::STATEMENTS,
        standing::STATEMENTS,
        &[MEMBER_COUNT],
    ],
    loaders: &[
        (Key::Membership, Loader::Copy(|app, parameters| Box::pin(access::load_membership(app, parameters)))),
        (
            Key::CircleAccess,
            Loader::Copy(|app, parameters| Box::pin(definition::load_access(app, parameters))),
        ),
        (Key::Circle, Loader::Copy(|app, parameters| Box::pin(definition::load_circle(app, parameters)))),
        (Key::Discovery, Loader::Copy(|app, _| Box::pin(definition::load_discovery(app)))),
        (
            Key::CircleMembers,
            Loader::Copy(|app, parameters| Box::pin(members::load_members(app, parameters))),
        ),
    ],
    audits: &[(Key::CircleMembers, |app, suspect| {
        Box::pin(copies::compare_but_for(app, suspect, Some("user")))
    })],
    sums: &[Sum { data_type: "member_count", sql: MEMBER_COUNT, is_grouped: false, mended: Some(mended) }],
    ..Domain::new("circles")
};

fn routes() -> Vec<Served> {
    [definition::routes(), members::routes()].into_iter().flatten().collect()
}

const MEMBER_COUNT: &str = "-- circles::member_count
with sample as (
    select id, member_count,
        (select count(*) from memberships where circle_id = circles.id and role <> 'banned')::integer as real
    from circles where id > $1 order by id limit $2),
repaired as (
    update circles c set member_count = c.member_count + s.real - s.member_count, version = version + 1
    from sample s where $3 and c.id = s.id and s.real <> s.member_count)
select id, id, real <> member_count from sample order by id";

/// The copy shows the count too.
fn mended(app: &Ctx, circle: Uuid) -> BoxFuture<'_, ()> {
    Box::pin(async move {
        let parameters = Parameters { circle: Some(circle), ..Parameters::default() };
        if let Some(name) = Key::Circle.render(&parameters) {
            // Without Redis there is none.
            let _ = drop_copies(app, &[name]).await;
        }
    })
}
