//! Messages of months ago, for tests of what happens to old months.

use crate::System;

/// Gives a circle so many messages in each of two old months, 27 and 26 months ago, one an hour, of two authors in turn, with bodies that
/// CSV must take care of. The second author reacts to every second one. Returns the months, like `2024-05`, the older first.
pub fn add_old_messages(system: &System, circle: &str, authors: [&str; 2], each: usize) -> [String; 2] {
    system.sql("select make_leaf(name, leaf_now(name) - n) from partitioned, generate_series(26, 27) n where goes_with = 'messages'");
    let [first, second] = authors;
    system.sql(&format!(
        "with old as (
            select n, (date_trunc('month', now() at time zone 'UTC') at time zone 'UTC') - interval '27 months'
                + case when n > {each} then interval '1 month' else interval '0' end + (n - 1) % {each} * interval '1 hour' as at
            from generate_series(1, {all}) n)
        insert into messages (id, circle_id, number, author_id, body, created_at)
        select id_at(floor(extract(epoch from at) * 1000)::bigint << 12), '{circle}', n,
            case when n % 3 = 0 then '{second}' else '{first}' end::uuid,
            (array['Number ' || n, E'Two\\nlines, \"quoted\"', 'NULL', E'\\\\N', 'Zeilen: äöü,', ' ', E'\"'])[n % 7 + 1], at
        from old;
        insert into reactions (circle_id, message_id, kind, user_id, is_on, stamp_ms, stamp_seq, generation, is_through, reacted_at)
        select circle_id, id, 1, '{second}', true, 1, 0, 0, false, created_at from messages
        where circle_id = '{circle}' and number % 2 = 0;
        insert into reaction_counts (circle_id, message_id, kind, count)
        select circle_id, message_id, kind, count(*) from reactions where circle_id = '{circle}' group by 1, 2, 3;
        update circles c set last_number = {all}, last_id = (select max(id::text)::uuid from messages where circle_id = c.id),
            months = (select array_agg(distinct id_month(id) order by id_month(id)) from messages where circle_id = c.id),
            month_numbers = array[1, {begins}]
        where id = '{circle}'",
        all = 2 * each,
        begins = each + 1,
    ));
    [27, 26].map(|ago| {
        system.sql(&format!(
            "select to_char(month_begin(month_number(now()) - {ago}) at time zone 'UTC', 'YYYY-MM')"
        ))
    })
}
