-- Up to which message a member has read a circle. Whoever joins gets one; who was a member before has none until they read or post,
-- and nothing unread. It is changed for each person who looks at a circle: rows leave room on their pages.

create table read_markers (
    circle_id uuid not null,
    user_id uuid not null,
    number bigint not null check (number >= 0),
    constraint read_markers_pkey primary key (circle_id, user_id),
    constraint read_markers_of_member foreign key (circle_id, user_id) references memberships on delete cascade
) with (fillfactor = 70);
