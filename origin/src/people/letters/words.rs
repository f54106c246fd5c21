//! What mails say, in each language: plain, and as HTML of the same words.
//!
//! A mail repeats nothing that somebody else has typed, so that nobody can write to strangers through it.

use optimist_plane::outgoing::mail::escaped;

use crate::people::letters::locale::Locale;
use crate::people::letters::queue::Kind;

/// A mail's words. Between `before` and `after` comes the link, and the code for those who cannot follow it.
pub struct Words {
    pub subject: &'static str,
    before: &'static str,
    /// What the link is for, as a button says it.
    action: &'static str,
    after: &'static str,
}

const fn words(
    subject: &'static str,
    before: &'static str,
    action: &'static str,
    after: &'static str,
) -> Words {
    Words { subject, before, action, after }
}

/// The words of a kind in a language.
pub fn of(kind: Kind, locale: Locale) -> Words {
    match locale {
        Locale::English => english(kind),
        Locale::German => german(kind),
    }
}

fn english(kind: Kind) -> Words {
    const NOT_YOU: &str =
        "If that was not you, you need not do anything: without this mail nobody can go on.";
    const ASKED: &str =
        "If that was not you, somebody has typed your address by mistake, and you need not do anything.";
    match kind {
        Kind::Register => words(
            "Confirm your address",
            "Somebody wants to open an Optimist account with this address. Confirm within 24 hours that it is yours:",
            "Open the account",
            NOT_YOU,
        ),
        Kind::Verify => words(
            "Confirm your address",
            "Your Optimist account has this address. Confirm within 24 hours that it is yours:",
            "Confirm the address",
            NOT_YOU,
        ),
        Kind::Change => words(
            "Confirm your new address",
            "Somebody wants to use this address for their Optimist account. Confirm within 24 hours that it is yours:",
            "Use this address",
            NOT_YOU,
        ),
        Kind::Reset => words(
            "Choose a new password",
            "Somebody has forgotten the password of the Optimist account with this address. Choose a new one within an hour:",
            "Choose a password",
            "If that was not you, your password stays as it is, and you need not do anything.",
        ),
        Kind::Taken => words(
            "You have an account already",
            "Somebody wants to use this address for an Optimist account, but you have an account with it. You can log in, \
             or choose a new password if you have forgotten yours.",
            "",
            ASKED,
        ),
        Kind::Verified => words(
            "Your address is confirmed",
            "Somebody has asked for a mail to confirm this address. Your Optimist account has it, and it is confirmed. \
             You can log in.",
            "",
            ASKED,
        ),
        Kind::Unknown => words(
            "There is no account with this address",
            "Somebody has asked for a mail about an Optimist account with this address, but there is none that can be used. \
             If it was you, try the other addresses that you have, or open an account.",
            "",
            ASKED,
        ),
        Kind::Moved => words(
            "Your address has changed",
            "Your Optimist account has another address now. This one gets no more mails about it.",
            "",
            "If that was not you, somebody has your password: write to us at once.",
        ),
        Kind::Suspended => words(
            "Your account is suspended",
            "Your Optimist account is suspended. You are logged out everywhere, and cannot log in. If you try, you are told \
             until when, and why.",
            "",
            "What you have written is kept. If you think that this is a mistake, write to us.",
        ),
        Kind::Restored => words(
            "You can log in again",
            "Your Optimist account is suspended no more. You can log in again.",
            "",
            "What you have written is there.",
        ),
    }
}

fn german(kind: Kind) -> Words {
    const NOT_YOU: &str =
        "Falls Sie das nicht waren, brauchen Sie nichts zu tun: Ohne diese E-Mail kommt niemand weiter.";
    const ASKED: &str =
        "Falls Sie das nicht waren, hat sich jemand vertippt, und Sie brauchen nichts zu tun.";
    match kind {
        Kind::Register => words(
            "Bestätigen Sie Ihre Adresse",
            "Jemand möchte mit dieser Adresse ein Konto bei Optimist eröffnen. Bestätigen Sie innerhalb von 24 Stunden, \
             dass es Ihre ist:",
            "Konto eröffnen",
            NOT_YOU,
        ),
        Kind::Verify => words(
            "Bestätigen Sie Ihre Adresse",
            "Ihr Konto bei Optimist hat diese Adresse. Bestätigen Sie innerhalb von 24 Stunden, dass es Ihre ist:",
            "Adresse bestätigen",
            NOT_YOU,
        ),
        Kind::Change => words(
            "Bestätigen Sie Ihre neue Adresse",
            "Jemand möchte diese Adresse für ein Konto bei Optimist verwenden. Bestätigen Sie innerhalb von 24 Stunden, \
             dass es Ihre ist:",
            "Diese Adresse verwenden",
            NOT_YOU,
        ),
        Kind::Reset => words(
            "Wählen Sie ein neues Passwort",
            "Jemand hat das Passwort des Kontos bei Optimist mit dieser Adresse vergessen. Wählen Sie innerhalb einer \
             Stunde ein neues:",
            "Passwort wählen",
            "Falls Sie das nicht waren, bleibt Ihr Passwort, wie es ist, und Sie brauchen nichts zu tun.",
        ),
        Kind::Taken => words(
            "Sie haben schon ein Konto",
            "Jemand möchte diese Adresse für ein Konto bei Optimist verwenden, aber Sie haben schon eines mit ihr. Sie können \
             sich anmelden, oder ein neues Passwort wählen, wenn Sie Ihres vergessen haben.",
            "",
            ASKED,
        ),
        Kind::Verified => words(
            "Ihre Adresse ist bestätigt",
            "Jemand hat eine E-Mail angefordert, um diese Adresse zu bestätigen. Ihr Konto bei Optimist hat sie, und sie ist \
             bestätigt. Sie können sich anmelden.",
            "",
            ASKED,
        ),
        Kind::Unknown => words(
            "Es gibt kein Konto mit dieser Adresse",
            "Jemand hat eine E-Mail zu einem Konto bei Optimist mit dieser Adresse angefordert, aber es gibt keines, das \
             verwendet werden kann. Falls Sie das waren, versuchen Sie es mit Ihren anderen Adressen, oder eröffnen Sie ein \
             Konto.",
            "",
            ASKED,
        ),
        Kind::Moved => words(
            "Ihre Adresse hat sich geändert",
            "Ihr Konto bei Optimist hat jetzt eine andere Adresse. Diese bekommt keine E-Mails mehr dazu.",
            "",
            "Falls Sie das nicht waren, kennt jemand Ihr Passwort: Schreiben Sie uns sofort.",
        ),
        Kind::Suspended => words(
            "Ihr Konto ist gesperrt",
            "Ihr Konto bei Optimist ist gesperrt. Sie sind überall abgemeldet und können sich nicht anmelden. Wenn Sie es \
             versuchen, erfahren Sie, bis wann und warum.",
            "",
            "Was Sie geschrieben haben, bleibt erhalten. Wenn Sie das für einen Irrtum halten, schreiben Sie uns.",
        ),
        Kind::Restored => words(
            "Sie können sich wieder anmelden",
            "Ihr Konto bei Optimist ist nicht mehr gesperrt. Sie können sich wieder anmelden.",
            "",
            "Was Sie geschrieben haben, ist da.",
        ),
    }
}

/// The code in a mail, and the address of the app's page that takes it, if there is an app.
pub struct Code<'a> {
    pub token: &'a str,
    pub link: Option<&'a str>,
}

impl Words {
    pub fn plain(&self, code: Option<&Code<'_>>) -> String {
        let mut text = format!("{}\n\n", self.before);
        if let Some(Code { token, link }) = code {
            if let Some(link) = link {
                text.push_str(&format!("{}: {link}\n\n", self.action));
            }
            text.push_str(&format!("{token}\n\n"));
        }
        text.push_str(self.after);
        text.push_str("\n\nOptimist\n");
        text
    }

    pub fn html(&self, code: Option<&Code<'_>>, locale: Locale) -> String {
        let mut body = format!("<p>{}</p>\n", escaped(self.before));
        if let Some(Code { token, link }) = code {
            if let Some(link) = link {
                body.push_str(&format!(
                    "<p><a href=\"{}\">{}</a></p>\n",
                    escaped(link),
                    escaped(self.action)
                ));
            }
            body.push_str(&format!("<p><code>{}</code></p>\n", escaped(token)));
        }
        body.push_str(&format!("<p>{}</p>\n<p>Optimist</p>\n", escaped(self.after)));
        page(locale, self.subject, &body)
    }
}

/// A mail's HTML around its paragraphs.
pub fn page(locale: Locale, subject: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"{}\">\n<head><meta charset=\"utf-8\"><title>{}</title></head>\n<body>\n{body}</body>\n\
         </html>\n",
        locale.as_str(),
        escaped(subject),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_has_its_code_in_both_forms_and_an_action_if_it_has_one() {
        for locale in [Locale::English, Locale::German] {
            for kind in Kind::ALL {
                let words = of(kind, locale);
                assert_eq!(words.action.is_empty(), kind.purpose().is_none(), "{kind:?}");
                let link = "https://app.example.org/verify#a<b\"&";
                let code = kind.purpose().map(|_| Code { token: "the-token", link: Some(link) });
                let (plain, html) = (words.plain(code.as_ref()), words.html(code.as_ref(), locale));
                assert_eq!(plain.contains("the-token"), code.is_some());
                assert_eq!(plain.contains(link), code.is_some());
                assert_eq!(html.contains("#a&lt;b&quot;&amp;\">"), code.is_some());
                assert!(
                    plain.contains(words.after) && plain.lines().all(|line| line.len() < 998),
                    "RFC 5322, 2.1.1"
                );
            }
        }
        let subjects = |locale| Kind::ALL.map(|kind| of(kind, locale).subject);
        assert_ne!(subjects(Locale::English), subjects(Locale::German));
    }
}
