//! The settings of what leaves the origin: addresses, mail, and the key that signs Web Push.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lettre::message::Mailbox;

use crate::outgoing::addresses::Allowed;
use crate::tls;

/// The settings as they are given, by their names.
#[derive(Default)]
pub struct Given {
    pub outgoing_allow: Option<String>,
    pub smtp_url: Option<String>,
    pub mail_from: Option<String>,
    pub vapid_key: Option<String>,
    pub vapid_subject: Option<String>,
}

#[derive(Clone, Default)]
pub struct Settings {
    /// Networks that may be reached although they are private, and in the clear.
    pub allowed: Allowed,
    /// Without it no mail is sent.
    pub mail: Option<MailSettings>,
    /// Without it there is no Web Push.
    pub vapid: Option<Vapid>,
}

#[derive(Clone)]
pub struct MailSettings {
    /// `smtps://user:password@host`, or `smtp://host?tls=required`; on the loopback `smtp://host` in the clear.
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

type Refused = (&'static str, String);

impl Settings {
    /// The error names the setting, and says why it is refused.
    pub fn parse(given: &Given) -> Result<Settings, Refused> {
        let allowed = Allowed::parse(given.outgoing_allow.as_deref().unwrap_or_default())
            .map_err(|reason| ("outgoing_allow", reason))?;
        Ok(Settings { allowed, mail: mail(given)?, vapid: vapid(given)? })
    }
}

fn set(value: &Option<String>) -> Option<&str> {
    value.as_deref().map(str::trim).filter(|text| !text.is_empty())
}

fn mail(given: &Given) -> Result<Option<MailSettings>, Refused> {
    let Some(url) = set(&given.smtp_url) else { return Ok(None) };
    let is_encrypted = url.starts_with("smtps://") || url.contains("tls=required");
    match url.strip_prefix("smtp://") {
        _ if is_encrypted => {}
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
}
