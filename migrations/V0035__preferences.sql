-- How a person wants the product to be. They stand in the account's row, as the language of mails does: mails, presence and search read
-- them for other people, and a statement of people's own tables names one person.

set lock_timeout = '5s';

alter table users
    add column week_start text not null default 'monday' check (week_start in ('monday', 'saturday', 'sunday')),
    -- Who sees whether the person is there: those who share a circle, or nobody.
    add column presence_to text not null default 'circles' check (presence_to in ('circles', 'nobody')),
    -- Whether people find the person by name.
    add column discoverable boolean not null default false,
    add column reduced_motion boolean not null default false,
    add column preferences_version bigint not null default 1;

-- Those whose presence nobody sees: lists of who is there leave them out.
create index users_unseen on users (id) where presence_to = 'nobody' or status <> 'active';
