-- What search finds: the words of messages, of public circles and of people who want to be found.
--
-- Indexes of words take some seconds for each 100,000 messages. This file only says which indexes messages have, for partitions
-- to come; `optimist-origin migrate` builds those of the partitions that are there, and of circles, while people go on writing
-- (origin/src/indexing.rs). People's is built here: nobody who exists wants to be found before they say so, and finding that
-- out holds up writers for a second for each few million people.
--
-- Words are those of `origin/src/search/text.rs`, character by character. No dictionary and no extension is asked: their files
-- may differ between a server and its replica.

set lock_timeout = '5s';

-- A text in small letters without marks, with one space between words. Two neighbours are a word where scripts have no spaces,
-- and so are the first and the last of such a run.
create function search_text(body text) returns text language plpgsql immutable strict as $$
declare
    folded text;
    paired constant text := '\u0e00-\u0eff\u1000-\u11ff\u1780-\u17ff\u2190-\u21ff\u2300-\u2bff\u3005-\u3007\u3040-\u312f\u31f0-\u31ff'
        '\u3400-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U0001f000-\U0001faff\U00020000-\U0003ffff';
begin
    if octet_length(body) = length(body) then
        return btrim(regexp_replace(lower(body collate "C"), '[^0-9a-z]+', ' ', 'g'));
    end if;
    folded := regexp_replace(normalize(body, NFKD),
        '[\u00ad\u0300-\u036f\u0591-\u05bd\u0640\u064b-\u065f\u0670\u200c\u200d\ufe00-\ufe0f\U0001f3fb-\U0001f3ff]', '', 'g');
    -- Of a database in the locale C, its own rules know no other letters than English ones.
    folded := lower(normalize(folded, NFC) collate "und-x-icu");
    folded := replace(replace(replace(translate(folded, 'øłđðıς', 'olddiσ'), 'ß', 'ss'), 'æ', 'ae'), 'œ', 'oe');
    folded := regexp_replace(folded,
        '[\u0001-/:-@\u005b-`{-\u00bf\u00d7\u00f7\u05be\u060c\u061b\u061f\u0964\u0965\u1680\u180e\u2000-\u20ff\u2200-\u22ff\u2e00-\u2e7f'
        '\u3000-\u3004\u3008-\u303f\u30fb\ufe10-\ufe1f\ufe30-\ufe6f\ufeff\ufff0-\uffff]+', ' ', 'g');
    if folded ~ ('[' || paired || ']') then
        folded := regexp_replace(folded, '([' || paired || ']+)', ' \1 ', 'g');
        folded := regexp_replace(folded, '([' || paired || '])', '\1 \1', 'g');
        folded := regexp_replace(folded, ' +', ' ', 'g');
    end if;
    return btrim(folded);
end $$;

-- Functions of indexes name the schema of those that they call: maintenance and dumps set a search path without it.

-- Its words with their places. It is dear, so that no plan asks it of row after row; and not for parallel plans, which take longer to
-- begin than a search takes.
create function search_words(body text) returns tsvector language plpgsql immutable strict cost 5000 as $$
begin
    -- Postgres's own parser is faster, and finds the same words unless a digit stands before a letter.
    if octet_length(body) = length(body) and body !~ '[0-9][A-Za-z]|[0-9A-Za-z]{65}' then
        return to_tsvector('pg_catalog.simple', public.search_text(body));
    end if;
    return coalesce((
        select string_agg('''' || left(word, 64) || ''':' || place, ' ')::tsvector
        from unnest(string_to_array(public.search_text(body), ' ')) with ordinality each (word, place) where word <> ''), '');
end $$;

-- A message's words, and its circle, its author, and when it was posted: to some 280 minutes, and by fewer digits to some three
-- days. No word has a `#`.
create function message_words(circle_id uuid, author_id uuid, id uuid, body text) returns tsvector
language plpgsql immutable strict cost 5000 as $$
begin
    return public.search_words(body) || array_to_tsvector(array['#c' || circle_id, '#a' || author_id, '#t' || left(id::text, 6)]);
end $$;

-- A list of changes that are applied later would be read by each search.
do $$
declare
    messages text := parted('messages');
begin
    execute format('create index %I on only %I using gin (message_words(circle_id, author_id, id, body)) with (fastupdate = off)
        where deleted_at is null', messages || '_words', messages);
end $$;

create index users_found on users using gin (search_words(name)) with (fastupdate = off) where discoverable and status = 'active';
