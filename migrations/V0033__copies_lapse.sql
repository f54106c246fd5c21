-- A month is closed for longer than copies of its rows may be served, since none is filled meanwhile: no copy shows what the archive has.

set lock_timeout = '5s';

-- How long copies of a table's rows are served. Null: there are none.
alter table partitioned add column lapse interval;
update partitioned set lapse = '40 minutes' where name = 'messages';
