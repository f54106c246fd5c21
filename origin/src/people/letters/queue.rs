//! Mails that wait to be sent. Whoever has the address or not, the same statements run: nobody learns it from the time that an answer
//! takes.

use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::limits::charge::charge_all;
use optimist_plane::outgoing::rows;
use optimist_plane::postgres::left::Ticket;
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::statements;
use optimist_shared::ids::Uuid;
use optimist_shared::limits::Limit;
use optimist_shared::scripts::limit::Charge;
use optimist_shared::session::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::people::letters::locale::Locale;
use crate::people::letters::token::Purpose;
use crate::people::person::Name;

/// What a mail says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Confirm the address, and the account that somebody has asked for is made.
    Register,
    /// Confirm your account's address.
    Verify,
    /// Confirm your account's new address.
    Change,
    /// Choose a new password.
    Reset,
    /// Somebody wants an account with this address, and there is one.
    Taken,
    /// This address is confirmed already.
    Verified,
    /// There is no account with this address.
    Unknown,
    /// Your account has another address now.
    Moved,
    /// Your account is suspended.
    Suspended,
    /// Your account is suspended no more.
    Restored,
}

impl Kind {
    pub const ALL: [Kind; 10] = [
        Kind::Register,
        Kind::Verify,
        Kind::Change,
        Kind::Reset,
        Kind::Taken,
        Kind::Verified,
        Kind::Unknown,
        Kind::Moved,
        Kind::Suspended,
        Kind::Restored,
    ];

    /// As Postgres has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Register => "register",
            Kind::Verify => "verify",
            Kind::Change => "change",
            Kind::Reset => "reset",
            Kind::Taken => "taken",
            Kind::Verified => "verified",
            Kind::Unknown => "unknown",
            Kind::Moved => "moved",
            Kind::Suspended => "suspended",
            Kind::Restored => "restored",
        }
    }

    pub fn named(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// What the token in it is for, if it has one.
    pub fn purpose(self) -> Option<Purpose> {
        match self {
            Kind::Register => Some(Purpose::Register),
            Kind::Verify => Some(Purpose::Verify),
            Kind::Change => Some(Purpose::Change),
            Kind::Reset => Some(Purpose::Reset),
            Kind::Taken | Kind::Verified | Kind::Unknown | Kind::Moved => None,
            Kind::Suspended | Kind::Restored => None,
        }
    }
}

statements! {
    /// Who has an address: one row, of nulls if nobody has it.
    const OWNER: &str = "-- letters::owner
select owner.id, owner.email, owner.locale, owner.email_verified_at is not null as is_verified, owner.status = 'active' as is_active
from (values (1)) as one left join users owner on lower(owner.email) = lower($1)";

    /// The registration of an address, of this id: one row, of nulls if there is none.
    const ASKED: &str = "-- letters::asked
select asked.id, asked.locale
from (values (1)) as one left join registrations asked on asked.id = $2 and lower(asked.email) = lower($1)";

    const REGISTER: &str = "-- letters::register
insert into registrations (id, email, password_hash, name, time_zone, locale) values ($1, $2, $3, $4, $5, $6)";
}

/// A mail, as its row keeps it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mail {
    pub kind: String,
    pub address: String,
    pub locale: String,
    /// The account that its token is for.
    pub user: Option<Uuid>,
    /// The registration that its token is for.
    pub registration: Option<Uuid>,
}

impl Mail {
    /// Leaves it to be sent once the transaction is committed.
    pub async fn leave(&self, tx: &Tx) -> Result<()> {
        let id = Uuid::now_v7();
        let owner = self.user.or(self.registration).unwrap_or(id);
        let ticket = Ticket { channel: CHANNEL.to_owned(), user: owner, subject: id, target: owner };
        let about = serde_json::to_value(self).map_err(|error| Error::internal("mail", &error))?;
        rows::insert(tx, ticket, Some(&about)).await
    }
}

/// The channel of mails about accounts: its senders wait for no other mail.
pub const CHANNEL: &str = "account-mail";

/// Whoever has an address, if somebody has.
struct Owner {
    user: Option<Uuid>,
    email: Option<String>,
    locale: Option<String>,
    is_verified: bool,
    is_active: bool,
}

impl Owner {
    async fn find(tx: &Tx, email: &str) -> Result<Owner> {
        let row = tx.query_one(OWNER, &[&email]).await?;
        Ok(Owner {
            user: row.get("id"),
            email: row.get("email"),
            locale: row.get("locale"),
            is_verified: row.get("is_verified"),
            is_active: row.get::<_, Option<bool>>("is_active").unwrap_or(false),
        })
    }

    /// A mail to them or, if there is nobody, to the address that was asked about.
    fn mail(self, kind: Kind, email: &str, locale: &str) -> Mail {
        Mail {
            kind: kind.as_str().to_owned(),
            address: self.email.unwrap_or_else(|| email.to_owned()),
            locale: self.locale.unwrap_or_else(|| locale.to_owned()),
            user: self.user.filter(|_| kind.purpose().is_some()),
            registration: None,
        }
    }
}

/// Somebody's wish to have an account.
pub struct Registration<'a> {
    pub id: Uuid,
    pub email: &'a str,
    pub password_hash: &'a str,
    pub name: &'a Name,
    pub time_zone: &'a str,
    pub locale: Locale,
}

impl Registration<'_> {
    /// Keeps it, and asks for the mail that confirms it, or for one that says that the address has an account.
    pub async fn ask(&self, tx: &Tx) -> Result<()> {
        let Registration { id, email, password_hash, name, time_zone, locale } = self;
        let locale = locale.as_str();
        tx.execute(REGISTER, &[id, email, password_hash, name, time_zone, &locale]).await?;
        let owner = Owner::find(tx, email).await?;
        match owner.user {
            Some(_) => owner.mail(Kind::Taken, email, locale).leave(tx).await,
            None => {
                let mail = owner.mail(Kind::Register, email, locale);
                Mail { registration: Some(*id), ..mail }.leave(tx).await
            }
        }
    }
}

/// Asks for a mail to choose a new password, or for one that says that the address has no account.
pub async fn forgot(tx: &Tx, email: &str, locale: Locale) -> Result<()> {
    let owner = Owner::find(tx, email).await?;
    let kind = if owner.is_active { Kind::Reset } else { Kind::Unknown };
    owner.mail(kind, email, locale.as_str()).leave(tx).await
}

/// Asks for another mail to confirm an account's address, or a registration of it; or for one that says why there is none.
pub async fn again(tx: &Tx, email: &str, locale: Locale, registration: Option<Uuid>) -> Result<()> {
    let owner = Owner::find(tx, email).await?;
    let asked = tx.query_one(ASKED, &[&email, &registration]).await?;
    let (asked, language): (Option<Uuid>, Option<String>) = (asked.get("id"), asked.get("locale"));
    let kind = match (owner.user, asked) {
        (Some(_), _) if !owner.is_active => Kind::Unknown,
        (Some(_), _) if owner.is_verified => Kind::Verified,
        (Some(_), _) => Kind::Verify,
        (None, Some(_)) => Kind::Register,
        (None, None) => Kind::Unknown,
    };
    let mail = owner.mail(kind, email, language.as_deref().unwrap_or(locale.as_str()));
    Mail { registration: asked.filter(|_| kind == Kind::Register), ..mail }.leave(tx).await
}

/// Asks for a mail to the address that somebody wants for their account, or for one that says that it has an account.
pub async fn change(tx: &Tx, user: Uuid, locale: &str, email: &str) -> Result<()> {
    let owner = Owner::find(tx, email).await?;
    match owner.user {
        Some(_) => owner.mail(Kind::Taken, email, locale).leave(tx).await,
        None => {
            let mail = owner.mail(Kind::Change, email, locale);
            Mail { user: Some(user), ..mail }.leave(tx).await
        }
    }
}

/// Asks for a mail to an account, to an address that it has or had.
pub async fn to_account(tx: &Tx, user: Uuid, kind: Kind, address: &str, locale: &str) -> Result<()> {
    let (kind, address, locale) = (kind.as_str().to_owned(), address.to_owned(), locale.to_owned());
    Mail { kind, address, locale, user: Some(user), registration: None }.leave(tx).await
}

/// Charges a mail to the address that it goes to, as the client's address asks for it and in all. 503 if this service sends none.
pub async fn charge_mail(ctx: &Ctx, email: &str, client: &str) -> Result<()> {
    if !ctx.outgoing.mail.is_on() {
        return Err(Error::unavailable("The mail").detail("This service sends no mail."));
    }
    let account = hex(&Sha256::digest(email.to_lowercase()));
    let rows = vec![Limit::MailAccount.row(), Limit::MailTotal.row()];
    let mut charge = Charge::new(rows, &account, Uuid::now_v7().simple().to_string());
    charge.keys[0] = Limit::MailAccount.row().key_of_part(&account, client);
    charge_all(ctx, charge).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_names_of_their_own() {
        for kind in Kind::ALL {
            assert_eq!(Kind::named(kind.as_str()), Some(kind));
        }
        assert_eq!(Kind::named("other"), None);
    }
}
