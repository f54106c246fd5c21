//! The audit of the sums of activity, by circle and day, and of all days of a circle.
//!
//! The sums are written in [`super::counting`], and by erasures.

use optimist_plane::domain::Sum;
use optimist_plane::statements;

pub const SUMS: &[Sum] = &[
    Sum { data_type: "activity_days", sql: DAYS, is_grouped: true, mended: None },
    // After the others, of which it is the sum.
    Sum { data_type: "activity_totals", sql: TOTALS, is_grouped: false, mended: None },
];

statements! {
    /// A day stands as the least of its ids. Before a circle's days are whole, they are less than what activity has.
    const DAYS: &str = "-- activity::audit_days (20,000 rows, uncapped: people active in a circle on a day)
with sample as (
    select circle_id, day, sum(posts)::integer as posts, sum(comments)::integer as comments, sum(reactions)::integer as reactions,
        sum(people)::integer as people
    from activity_days where (circle_id, day) > ($4, (id_time($1) at time zone 'UTC')::date)
    group by circle_id, day order by circle_id, day limit $2),
differing as (
    select s.circle_id, s.day, a.posts - s.posts as posts, a.comments - s.comments as comments, a.reactions - s.reactions as reactions,
        a.people - s.people as people
    from sample s
    join circles c on c.id = s.circle_id and c.counted_from <= s.day
    cross join lateral (
        select coalesce(sum(posts), 0)::integer as posts, coalesce(sum(comments), 0)::integer as comments,
            coalesce(sum(reactions), 0)::integer as reactions, count(*)::integer as people
        from activity where circle_id = s.circle_id and day = s.day) a
    where (a.posts, a.comments, a.reactions, a.people) <> (s.posts, s.comments, s.reactions, s.people)),
repaired as (
    insert into activity_days as known (circle_id, day, part, posts, comments, reactions, people)
    select circle_id, day, 0, posts, comments, reactions, people from differing where $3
    on conflict (circle_id, day, part) do update
        set posts = known.posts + excluded.posts, comments = known.comments + excluded.comments,
            reactions = known.reactions + excluded.reactions, people = known.people + excluded.people)
select circle_id, id_least(day::timestamp at time zone 'UTC'), exists (
    select from differing d where (d.circle_id, d.day) = (sample.circle_id, sample.day))
from sample order by circle_id, day";

    const TOTALS: &str = "-- activity::audit_totals (16,000 rows, uncapped: days of a circle)
with sample as (
    select circle_id, sum(comments)::bigint as comments, sum(reactions)::bigint as reactions
    from activity_totals where circle_id > $1 group by circle_id order by circle_id limit $2),
differing as (
    select s.circle_id, d.comments - s.comments as comments, d.reactions - s.reactions as reactions
    from sample s cross join lateral (
        select coalesce(sum(comments), 0)::bigint as comments, coalesce(sum(reactions), 0)::bigint as reactions
        from activity_days where circle_id = s.circle_id) d
    where (d.comments, d.reactions) <> (s.comments, s.reactions)),
repaired as (
    insert into activity_totals as known (circle_id, part, comments, reactions)
    select circle_id, 0, comments, reactions from differing where $3
    on conflict (circle_id, part) do update
        set comments = known.comments + excluded.comments, reactions = known.reactions + excluded.reactions)
select circle_id, circle_id, circle_id in (select circle_id from differing) from sample order by circle_id";
}
