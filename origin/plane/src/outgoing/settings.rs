//! The settings of what leaves the origin: addresses, mail, and the key that signs Web Push.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lettre::message::Mailbox;

use crate::outgoing::addresses::Allowed;
use crate::outgoing::mail::PRINT;
use crate::tls;

/// The settings as they are given, by their names.
#[derive(Default)]
pub struct Given {
    pub outgoing_allow: Option<String>,
    pub smtp_url: Option<String>,
    pub mail_from: Option<String>,
    pub vapid_key: Option<String>,
    pub vapid_subject: Option<String>,
    pub app_url: Option<String>,
    pub unverified_accounts: Option<String>,
}

#[derive(Clone, Default)]
pub struct Settings {
    /// Networks that may be reached although they are private, and in the clear.
    pub allowed: Allowed,
    /// Without it no mail is sent.
    pub mail: Option<MailSettings>,
    /// Without it there is no Web Push.
    pub vapid: Option<Vapid>,
    /// Where the app has its pages, to which mails link: without a slash at its end. Without it, mails show codes alone.
    pub app_url: Option<String>,
    pub unverified: Unverified,
}

/// Whether people may use an account before they have shown that its address is theirs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unverified {
    Allow,
    #[default]
    Refuse,
}

#[derive(Clone)]
pub struct MailSettings {
    /// `smtps://user:password@host`, or `smtp://host?tls=required`; on the loopback `smtp://host` in the clear;
    /// or [`PRINT`].
    pub url: String,
    /// The sender, like `Optimist <hello@example.org>`.
    pub from: Mailbox,
}

/// What identifies this service to push services (RFC 8292).
#[derive(Clone)]
pub struct Vapid {
    /// The private key of P-256.
    pub key: [u8; 32],
    /// Where a push service's operator finds ours: `mailto:` or `https:`.
    pub subject: String,
}

/// The setting's name, and the reason.
pub type Refused = (&'static str, String);

impl Settings {
    /// The error names the setting, and says why it is refused.
    pub fn parse(given: &Given) -> Result<Settings, Refused> {
        let allowed = Allowed::parse(given.outgoing_allow.as_deref().unwrap_or_default())
            .map_err(|reason| ("outgoing_allow", reason))?;
        let (app_url, unverified) = (app_url(given)?, unverified(given)?);
        Ok(Settings { allowed, mail: mail(given)?, vapid: vapid(given)?, app_url, unverified })
    }

    /// Refuses a service that could not do what its settings want: addresses are confirmed by mail.
    pub fn check(&self) -> Result<(), Refused> {
        match (&self.mail, self.unverified) {
            (None, Unverified::Refuse) => {
                Err(("smtp_url", "is required, unless OPTIMIST_UNVERIFIED_ACCOUNTS is `allow`".to_owned()))
            }
            _ => Ok(()),
        }
    }
}

fn set(value: &Option<String>) -> Option<&str> {
    value.as_deref().map(str::trim).filter(|text| !text.is_empty())
}

fn mail(given: &Given) -> Result<Option<MailSettings>, Refused> {
    let Some(url) = set(&given.smtp_url) else { return Ok(None) };
    let is_encrypted = url.starts_with("smtps://") || url.contains("tls=required");
    match url.strip_prefix("smtp://") {
        _ if is_encrypted || url == PRINT => {}
        Some(rest) if tls::is_near(rest) => {}
        Some(_) => {
            let reason = "must begin with `smtps://`, or end in `?tls=required`, except on the loopback";
            return Err(("smtp_url", reason.to_owned()));
        }
        None => return Err(("smtp_url", "must begin with `smtps://` or `smtp://`".to_owned())),
    }
    let from = set(&given.mail_from).ok_or(("mail_from", "is required with OPTIMIST_SMTP_URL".to_owned()))?;
    let from =
        from.parse().map_err(|_| ("mail_from", "must be like `Optimist <hello@example.org>`".to_owned()))?;
    Ok(Some(MailSettings { url: url.to_owned(), from }))
}

fn app_url(given: &Given) -> Result<Option<String>, Refused> {
    let Some(url) = set(&given.app_url).map(|url| url.trim_end_matches('/')) else { return Ok(None) };
    let is_near = url.strip_prefix("http://").is_some_and(tls::is_near);
    if !(url.starts_with("https://") || is_near) || url.contains(['#', ' ']) {
        return Err((
            "app_url",
            "must begin with `https://`, except on the loopback, and have no `#`".to_owned(),
        ));
    }
    Ok(Some(url.to_owned()))
}

fn unverified(given: &Given) -> Result<Unverified, Refused> {
    match set(&given.unverified_accounts) {
        None | Some("refuse") => Ok(Unverified::Refuse),
        Some("allow") => Ok(Unverified::Allow),
        Some(_) => Err(("unverified_accounts", "must be `allow` or `refuse`".to_owned())),
    }
}

fn vapid(given: &Given) -> Result<Option<Vapid>, Refused> {
    let Some(key) = set(&given.vapid_key) else { return Ok(None) };
    let key = URL_SAFE_NO_PAD.decode(key).ok().and_then(|bytes| bytes.try_into().ok());
    let key = key.ok_or(("vapid_key", "must be 32 bytes in base64url, without padding".to_owned()))?;
    let subject = set(&given.vapid_subject).filter(|text| {
        (text.starts_with("mailto:") || text.starts_with("https://")) && !text.contains(['"', '\\', ' '])
    });
    let reason = "is required with OPTIMIST_VAPID_KEY: a `mailto:` or `https:` address of the operator";
    let subject = subject.ok_or(("vapid_subject", reason.to_owned()))?;
    Ok(Some(Vapid { key, subject: subject.to_owned() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(given: Given) -> &'static str {
        Settings::parse(&given).err().map_or("nothing", |(setting, _)| setting)
    }

    #[test]
    fn what_belongs_together_is_given_together() {
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(refused(Given::default()), "nothing");
        let mail = |url, from: Option<&str>| {
            refused(Given { smtp_url: text(url), mail_from: from.map(str::to_owned), ..Given::default() })
        };
        let from = Some("Optimist <hello@example.org>");
        assert_eq!(mail("smtps://user:pass@mail.example.org", from), "nothing");
        assert_eq!(mail("smtp://mail.example.org:587?tls=required", from), "nothing");
        assert_eq!(mail("smtp://127.0.0.1:1025", from), "nothing");
        assert_eq!(mail("smtp://mail.example.org", from), "smtp_url");
        assert_eq!(mail("mail.example.org", from), "smtp_url");
        assert_eq!(mail("smtp://127.0.0.1:1025", None), "mail_from");
        assert_eq!(mail("smtp://127.0.0.1:1025", Some("nobody")), "mail_from");
        let vapid = |key: &str, subject: Option<&str>| {
            refused(Given {
                vapid_key: text(key),
                vapid_subject: subject.map(str::to_owned),
                ..Given::default()
            })
        };
        let key = URL_SAFE_NO_PAD.encode([1; 32]);
        assert_eq!(vapid(&key, Some("mailto:ops@example.org")), "nothing");
        assert_eq!(vapid(&key, None), "vapid_subject");
        assert_eq!(vapid(&key, Some("ops@example.org")), "vapid_subject");
        assert_eq!(vapid("AAAA", Some("mailto:ops@example.org")), "vapid_key");
    }

    #[test]
    fn addresses_are_confirmed_by_mail_unless_they_need_not_be() {
        let text = |text: &str| Some(text.to_owned());
        let checked = |mail: bool, unverified: Option<&str>| {
            let given = Given {
                smtp_url: text("smtp://127.0.0.1:1025").filter(|_| mail),
                mail_from: text("hello@example.org").filter(|_| mail),
                unverified_accounts: unverified.map(str::to_owned),
                ..Given::default()
            };
            Settings::parse(&given).and_then(|settings| settings.check()).map_err(|(setting, _)| setting)
        };
        assert_eq!(checked(true, None), Ok(()));
        assert_eq!(checked(false, None), Err("smtp_url"));
        assert_eq!(checked(false, Some("allow")), Ok(()));
        assert_eq!(checked(false, Some("maybe")), Err("unverified_accounts"));
        let app = |url: &str| Settings::parse(&Given { app_url: text(url), ..Given::default() });
        assert_eq!(app("https://app.example.org/").unwrap().app_url, text("https://app.example.org"));
        assert!(app("http://localhost:5173").is_ok());
        assert!(app("http://app.example.org").is_err() && app("https://app.example.org/#/").is_err());
    }
}
