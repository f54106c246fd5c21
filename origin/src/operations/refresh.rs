//! What most readers read first, read anew before it is missed: the first page of discovery, the prompts, and the circles in
//! which most happens.

use optimist_shared::ids::Uuid;
use optimist_shared::keys::{Key, Parameters};

use optimist_plane::cache::fence::drop_copies;
use optimist_plane::cache::read::read_through;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::Result;

/// By what was done there since yesterday.
const BUSIEST: &str = "-- jobs::busiest_circles
select circle_id from activity where day >= current_date - 1
group by circle_id order by sum(posts + reactions + bit_count(visits)) desc, circle_id limit 200";

pub const STATEMENTS: &[&str] = &[BUSIEST];

/// Of a circle: its list of messages brings their counts.
const OF_CIRCLE: [Key; 4] = [Key::Circle, Key::CircleAccess, Key::CircleMembers, Key::Counts];

pub async fn critical_keys(app: &Ctx) -> Result<u64> {
    let mut wanted: Vec<(Key, Parameters)> =
        [Key::Discovery, Key::Prompts].map(|key| (key, Parameters::default())).into();
    for row in app.db.query(BUSIEST, &[]).await? {
        let circle: Uuid = row.get(0);
        let parameters = Parameters { circle: Some(circle), ..Parameters::default() };
        wanted.extend(OF_CIRCLE.map(|key| (key, parameters)));
    }
    let mut done = 0;
    for (key, parameters) in wanted {
        // Counts are live: what is there is good.
        if let Some(name) = key.render(&parameters).filter(|_| key != Key::Counts) {
            // Without Redis there is nothing to refresh.
            let Ok(_) = drop_copies(app, &[name]).await else { return Ok(done) };
        }
        read_through(app, key, parameters).await?;
        done += 1;
    }
    Ok(done)
}
