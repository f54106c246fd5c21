-- Whether an id is in one of up to four spans, given by their ends; spans that there are not are null. Statements about thousands of
-- messages name partitions by it, in place of `id = any(ids)`: Postgres goes through a long array for each partition when it plans. It
-- is inlined, so that partitions are pruned.

set lock_timeout = '5s';

create function in_spans(id uuid, spans uuid[]) returns boolean language sql immutable parallel safe
return id between spans[1] and spans[2] or id between spans[3] and spans[4]
    or id between spans[5] and spans[6] or id between spans[7] and spans[8];
