-- Names that changed, and that copies still show: of people in lists, of circles in discovery. A job drops those copies, and the row
-- with the last of them.

set lock_timeout = '5s';

create table changed_names (
    kind text not null check (kind in ('person', 'circle')),
    -- Of the person. All circles share one row, since they share one list.
    id uuid not null,
    changed_at timestamptz not null default now(),
    -- The last of the person's circles whose copies are dropped.
    after uuid not null default '00000000-0000-0000-0000-000000000000',
    -- It has changed again since the job began with it.
    again boolean not null default false,
    primary key (kind, id)
);
