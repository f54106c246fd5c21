//! Plausible e-mail addresses. Only a message to one tells whether it exists.

use serde::Deserialize;

use super::{Refused, describe};

/// An address that is short enough for SMTP (RFC 5321, 4.5.3.1), without the space around it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Email(pub String);

/// Characters, all of them ASCII.
const MOST: usize = 254;

describe!(Email, {"type": "string", "format": "email", "maxLength": MOST});

impl TryFrom<String> for Email {
    type Error = Refused;

    fn try_from(text: String) -> Result<Email, Refused> {
        let email = text.trim();
        let printable = email.bytes().all(|byte| byte.is_ascii_graphic());
        let plausible = email.split_once('@').is_some_and(|(local, domain)| {
            !local.is_empty() && local.len() <= 64 && domain.contains('.') && domain.split('.').all(is_label)
        });
        if plausible && printable && email.len() <= MOST {
            Ok(Email(email.to_owned()))
        } else {
            Err(Refused::new("must be an e-mail address"))
        }
    }
}

/// A part of a domain's name.
fn is_label(label: &str) -> bool {
    let is_hyphen = |character| character == '-';
    (1..=63).contains(&label.len())
        && !label.starts_with(is_hyphen)
        && !label.ends_with(is_hyphen)
        && label.chars().all(|character| character.is_ascii_alphanumeric() || is_hyphen(character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emails_are_plausible() {
        let is_taken = |email: &str| Email::try_from(email.to_owned()).is_ok();
        for good in ["ada@example.org", " ada+x@mail.example.co.uk "] {
            assert!(is_taken(good), "{good}");
        }
        let long = format!("{}@example.org", "a".repeat(65));
        for bad in [
            "",
            "ada",
            "@example.org",
            "ada@",
            "ada@x",
            "a@b@c.d",
            "a b@c.de",
            "a\0@c.de",
            "ada@exa_mple.org",
            "ada@-example.org",
            &long,
        ] {
            assert!(!is_taken(bad), "{bad}");
        }
    }
}
