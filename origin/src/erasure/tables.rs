//! The table of tables: what becomes of a person's rows in each. A test compares it with the schema, so that no table or column comes
//! that an erasure forgets.

pub struct Table {
    pub name: &'static str,
    /// Its columns that can hold an id or a text, in the schema's order: whoever adds one says here what an erasure does about it.
    pub columns: &'static str,
    /// The condition, of its rows as `t` and of the person as `$1`, by which something of the person is left in it.
    pub gone: Option<&'static str>,
    /// What an erasure does about it.
    pub what: &'static str,
}

const fn removed(name: &'static str, columns: &'static str) -> Table {
    Table { name, columns, gone: Some("t.user_id = $1"), what: "the person's rows are removed" }
}

const fn done(name: &'static str, columns: &'static str, gone: &'static str, what: &'static str) -> Table {
    Table { name, columns, gone: Some(gone), what }
}

/// One that has nothing of a person but ids.
const fn kept(name: &'static str, columns: &'static str, what: &'static str) -> Table {
    Table { name, columns, gone: None, what }
}

#[rustfmt::skip] // One line a row.
pub const TABLES: &[Table] = &[
    done("users", "id email password_hash name bio time_zone status role home_region locale week_start presence_to suspension_reason",
        "t.id = $1 and (t.status <> 'erased' or t.bio <> '' or t.email <> 'erased ' || t.id)", "the row stays, with its id alone: kept messages are by it"),
    removed("sessions", "id user_id family parent secret_hash refresh_hash token_key user_agent"),
    removed("account_tokens", "hash purpose email user_id registration_id"),
    kept("registrations", "id email password_hash name time_zone locale", "those of the address are removed, if they were made before"),
    kept("login_attempts", "account", "of an address it has a digest, for a day, while Redis is away"),
    removed("idempotency", "user_id route key request_hash resource"),
    removed("push_tokens", "user_id id channel endpoint p256dh auth token_key"),
    removed("notification_preferences", "user_id"),
    removed("notification_mutes", "user_id circle_id"),
    removed("deliveries", "user_id subject target channel about state reason"),
    removed("journal_keys", "user_id kek_id wrapped"),
    removed("journal_entries", "user_id id sealed prompt_id"),
    removed("journal_entry_versions", "user_id entry_id sealed text_digest"),
    removed("journal_tags", "user_id tag entry_id"),
    removed("drafts", "user_id id version overtook sealed sibling_of entry_id editor"),
    removed("moods", "user_id id sealed"),
    removed("exports", "user_id id sealed_key after"),
    removed("export_pieces", "user_id export_id sealed"),
    removed("notifications", "user_id id kind circle_id message_id actor_id role invite_id"),
    removed("notification_actors", "user_id notification_id actor_id"),
    removed("notification_actors_gone", "user_id notification_id"),
    removed("notification_counts", "user_id"),
    removed("memberships", "circle_id user_id role"),
    removed("read_markers", "circle_id user_id"),
    removed("activity", "circle_id user_id"),
    removed("reactions", "circle_id message_id user_id"),
    removed("favorites", "user_id message_id circle_id"),
    done("blocks", "user_id blocked_id", "t.user_id = $1", "the person's own are removed; whoever has blocked the person goes on to see nothing of them"),
    done("mutes", "user_id muted_id", "t.user_id = $1", "the person's own are removed"),
    done("messages", "id circle_id author_id body parent_id followers", "t.author_id = $1 and (t.deleted_at is null or t.body <> '')",
        "they stay, by a deleted account, or are deleted, as the person chose; threads that they followed keep the id"),
    done("circles", "id name description rules visibility owner_id last_id category join_policy",
        "t.owner_id = $1 and t.archived_at is null", "one passes to another member, or is archived without its texts"),
    done("invites", "id circle_id token_hash token_key created_by used_by for_user",
        "$1 in (t.created_by, t.for_user, t.used_by)", "those by the person and to them are removed"),
    done("ownership_offers", "circle_id user_id offered_by", "$1 in (t.user_id, t.offered_by)", "one ends with the membership of either"),
    done("report_cases", "message_id circle_id author_id body state decided_by", "t.decided_by = $1",
        "those of the person's messages so far are removed; of those that they decided their id goes"),
    done("reports", "message_id reporter_id reason body", "t.reporter_id = $1", "the person's are removed"),
    done("changed_names", "kind id after", "t.kind = 'person' and t.id = $1", "the person's row is removed"),
    done("writes_set_aside", "region entry reason", "t.entry like '%' || $1 || '%'", "entries that name the person are removed"),
    done("events_set_aside", "kind actor payload part reason", "t.actor = $1 and t.reason <> 'long'", "the person's are removed"),
    kept("erased", "user_id email after", "it is the list of the erased; the address goes with the last step"),
    kept("audit", "kind actor circle_id user_id payload", "it has ids alone"),
    kept("outbox", "region actor session request_id traceparent keys kind payload topics", "it has ids alone"),
    kept("reaction_counts", "circle_id message_id", "counts follow the reactions"),
    kept("activity_days", "circle_id", "sums, which follow the person's activity"),
    kept("activity_totals", "circle_id", "sums of those"),
    kept("member_days", "circle_id", "sums: how many came and went"),
    kept("archived", "name state sha256 restored_at_age", "of nobody"),
    kept("categories", "id names", "of nobody"),
    kept("consistency", "region data_type", "of nobody"),
    kept("jobs", "region name error", "of nobody"),
    kept("origins", "id region", "of nobody"),
    kept("partitioned", "name key cut own goes_with drops leaving erasing erases", "of nobody"),
    kept("projections", "name part", "of nobody"),
    kept("popular_messages", "message_id circle_id category", "ids, which a job replaces every few minutes"),
    kept("prompts", "id category body", "of nobody"),
    kept("regions", "name state run_id", "of nobody"),
    kept("replaced", "name position", "of nobody"),
    kept("sharded", "name", "of nobody"),
    kept("write_behind", "region", "of nobody"),
];
