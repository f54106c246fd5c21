//! A message as whoever changes it finds it: who may, and what its deletion does.
//!
//! It reads what decides over a change, before the locks and under them; [`super::writing`] has what clients ask for.

use optimist_plane::archive::missing;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::statements;
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::Uuid;
use optimist_shared::keys::Key;
use optimist_shared::session::Role;
use serde_json::json;
use tokio_postgres::Row;

use crate::circles::standing::is_moderator;
use crate::messages::mentions;
use crate::messages::message::{TABLE, shown_version};
use crate::messages::thread;

statements! {
    const AUTHOR: &str = "-- messages::author, planned anew
select author_id, m.version, deleted_at is not null, users.name, parent_id, body
from messages m join users on users.id = author_id where circle_id = $1 and m.id = $2";

    /// Deletes a message for the person `$3`. Selects the round of its reports that this closes.
    const DELETE: &str = "-- messages::delete, planned anew
with closed as (
    update report_cases set state = 'removed', decided_by = nullif($3, author_id), decided_at = now(), body = ''
    where message_id = $2 and state in ('open', 'escalated') returning round)
update messages set body = '', version = version + 1, deleted_at = now() where circle_id = $1 and id = $2
returning (select round from closed)";
}

/// A message as its changes are decided by.
pub struct Subject {
    author: Uuid,
    /// As it is shown.
    pub version: String,
    is_deleted: bool,
    /// Of a comment.
    parent: Option<Uuid>,
    pub body: String,
}

impl Subject {
    fn from_row(row: &Row) -> Subject {
        let version = shown_version(row.get(1), row.get(3));
        Subject { author: row.get(0), version, is_deleted: row.get(2), parent: row.get(4), body: row.get(5) }
    }

    /// 404 if there is no such message, 410 if it is archived. An author never changes, so the right is decided before the locks.
    pub async fn before_locks(ctx: &Ctx, circle: Uuid, message: Uuid) -> Result<Subject> {
        let row = ctx.db.query_opt(AUTHOR, &[&circle, &message]).await?;
        match row {
            Some(row) => Ok(Subject::from_row(&row)),
            None => Err(missing(ctx, TABLE, message).await),
        }
    }

    pub async fn read(ctx: &Ctx, tx: &Tx, circle: Uuid, message: Uuid) -> Result<Subject> {
        match tx.query_opt(AUTHOR, &[&circle, &message]).await? {
            Some(row) => Ok(Subject::from_row(&row)),
            None => Err(missing(ctx, TABLE, message).await),
        }
    }

    pub fn require_editor(&self, user: Uuid) -> Result<()> {
        if self.is_deleted {
            return Err(Error::new(ErrorCode::NotFound));
        }
        if self.author != user {
            return Err(Error::new(ErrorCode::Forbidden).detail("Only its author edits a message."));
        }
        Ok(())
    }

    pub fn require_deleter(&self, user: Uuid, role: Role) -> Result<()> {
        if self.author != user && !is_moderator(role) {
            let detail = "Only its author or a moderator deletes a message.";
            return Err(Error::new(ErrorCode::Forbidden).detail(detail));
        }
        Ok(())
    }

    /// Names the keys that a change of the message makes stale.
    pub fn touch(&self, tx: &mut Tx, circle: Uuid, message: Uuid) {
        tx.touch(Key::circle_messages(circle));
        tx.touch(Key::circle_head(circle));
        tx.touch(Key::message(circle, message));
        if let Some(parent) = self.parent {
            tx.touch(Key::comments(circle, parent));
        }
    }

    /// Deletes the message for the person `by`, and closes the case of who has reported it, in a transaction that holds the circle's
    /// lock. One that is deleted stays so.
    pub async fn remove(&self, ctx: &Ctx, tx: &mut Tx, circle: Uuid, message: Uuid, by: Uuid) -> Result<()> {
        self.touch(tx, circle, message);
        tx.touch(Key::reactions(circle, message));
        // Its count shows at the message that it belongs to. One that begins a thread is gone once that is empty.
        match self.parent {
            Some(parent) => tx.touch(Key::message(circle, parent)),
            None => tx.touch(Key::comments(circle, message)),
        }
        if self.is_deleted {
            tx.unchanged();
            return Ok(());
        }
        let Some(row) = tx.query_opt(DELETE, &[&circle, &message, &by]).await? else {
            return Err(missing(ctx, TABLE, message).await);
        };
        let mut payload = json!({"circle": circle, "message": message});
        mentions::note_deletion(&mut payload, &self.body);
        if let Some(round) = row.get::<_, Option<i32>>(0) {
            payload["reported"] = json!(round);
        }
        if let Some(parent) = self.parent {
            thread::remove(tx, circle, parent).await?;
            payload["parent"] = json!(parent);
        }
        tx.event("message.deleted", payload);
        Ok(())
    }
}
