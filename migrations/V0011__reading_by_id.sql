-- What is newest in a journal is told by the ids, which the primary key has in order: this index serves no statement any more.

set lock_timeout = '5s';

drop index journal_entries_in_order;
