-- A circle changes hands when the person whom its owner offers it to accepts. An offer ends with the membership of either.

create table ownership_offers (
    circle_id uuid primary key,
    user_id uuid not null,
    offered_by uuid not null,
    offered_at timestamptz not null default now(),
    constraint ownership_offers_to_member foreign key (circle_id, user_id) references memberships on delete cascade,
    constraint ownership_offers_by_member foreign key (circle_id, offered_by) references memberships on delete cascade
);
