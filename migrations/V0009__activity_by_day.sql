-- The circles in which most happened since yesterday, found without reading all that ever happened.

set lock_timeout = '5s';

create index activity_by_day on activity (day);
