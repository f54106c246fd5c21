//! Sends mails about accounts, and makes their tokens when it does.
//!
//! An attempt that is repeated makes another token: the former one stays good, since its mail may have arrived.

use optimist_plane::ctx::Ctx;
use optimist_plane::domain::Channel;
use optimist_plane::error::Result;
use optimist_plane::outgoing::delivery::{Delivery, Outcome};
use optimist_plane::outgoing::mail::{Letter, NotSent};
use optimist_plane::outgoing::rows::query;
use optimist_plane::statements;
use optimist_shared::ids::Uuid;

use crate::people::letters::locale::Locale;
use crate::people::letters::queue::{CHANNEL, Kind, Mail};
use crate::people::letters::token::{self, Purpose};
use crate::people::letters::words::{self, Code};

/// Somebody waits for each of them.
pub const MAILS: Channel =
    Channel { name: CHANNEL, at_once: 8, send: |ctx, delivery| Box::pin(send(ctx, delivery)) };

statements! {
    const FOR_ACCOUNT: &str = "-- letters::token_for_account
insert into account_tokens (hash, purpose, email, user_id, password_version, expires_at)
select $1, $2, $3, id, password_version, now() + $5 * interval '1 hour' from users where id = $4 and status = 'active'
returning 1";

    const FOR_REGISTRATION: &str = "-- letters::token_for_registration
insert into account_tokens (hash, purpose, email, registration_id, expires_at)
select $1, $2, $3, id, now() + $5 * interval '1 hour' from registrations where id = $4
returning 1";
}

async fn send(ctx: &Ctx, delivery: &Delivery) -> Result<Outcome> {
    let mail = delivery.about.clone().and_then(|about| serde_json::from_value::<Mail>(about).ok());
    let Some((mail, kind)) = mail.and_then(|mail| Kind::named(&mail.kind).map(|kind| (mail, kind))) else {
        return Ok(Outcome::Failed("unknown-kind"));
    };
    if !ctx.outgoing.mail.is_on() {
        return Ok(Outcome::Failed("no-mail"));
    }
    let token = match kind.purpose() {
        Some(purpose) => match new_token(ctx, purpose, &mail).await? {
            Some(token) => Some(token),
            None => return Ok(Outcome::Withdrawn("no-account")),
        },
        None => None,
    };
    let sent = ctx.outgoing.mail.send(letter(ctx, delivery.subject, &mail, kind, token.as_deref())).await;
    Ok(match sent {
        Ok(()) => Outcome::Sent,
        Err(NotSent::Refused) => Outcome::Failed("refused"),
        Err(NotSent::Off | NotSent::Failed) => Outcome::Again { reason: "not-sent", after: None },
    })
}

/// `None` if the account or the registration is gone.
async fn new_token(ctx: &Ctx, purpose: Purpose, mail: &Mail) -> Result<Option<String>> {
    let token = token::random()?;
    let (sql, owner): (&'static str, _) = match purpose {
        Purpose::Register => (FOR_REGISTRATION, &mail.registration),
        Purpose::Verify | Purpose::Change | Purpose::Reset => (FOR_ACCOUNT, &mail.user),
    };
    let (hash, name, hours) = (token::hash(&token), purpose.as_str(), f64::from(purpose.hours()));
    let rows = query(ctx, sql, &[&hash, &name, &mail.address, owner, &hours]).await?;
    Ok(rows.first().map(|_| token))
}

fn letter(ctx: &Ctx, id: Uuid, mail: &Mail, kind: Kind, token: Option<&str>) -> Letter {
    let locale = Locale::named(&mail.locale);
    let words = words::of(kind, locale);
    let page = if kind == Kind::Reset { "reset" } else { "verify" };
    // After the mark, which no browser sends to a server, and no log has.
    let link =
        ctx.config.outgoing.app_url.as_ref().zip(token).map(|(app, token)| format!("{app}/{page}#{token}"));
    let code = token.map(|token| Code { token, link: link.as_deref() });
    Letter {
        to: mail.address.clone(),
        subject: words.subject.to_owned(),
        text: words.plain(code.as_ref()),
        html: words.html(code.as_ref(), locale),
        id: id.to_string(),
    }
}
