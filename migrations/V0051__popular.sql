-- The most engaging messages of public circles, as a job ranks them anew every few minutes.

set lock_timeout = '5s';

create table popular_messages (
    message_id uuid primary key,
    circle_id uuid not null,
    -- The circle's.
    category text,
    -- The logarithm of its weight and the days until it was posted, in millionths: all decay alike, so that none changes for it.
    score bigint not null
);

-- In which circles most happened lately.
create index activity_days_by_day on activity_days (day);
