//! Mail by SMTP. What a mail says is its sender's.

use std::time::Duration;

use lettre::message::header::ContentType;
use lettre::message::{MultiPart, SinglePart};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};

use crate::outgoing::settings::MailSettings;

/// A whole exchange: well within a claim.
const EXCHANGE: Duration = Duration::from_secs(10);

/// A mail, plain and as HTML.
#[derive(Clone, Debug)]
pub struct Letter {
    /// An address.
    pub to: String,
    pub subject: String,
    pub text: String,
    pub html: String,
    /// The same for a repetition, so that a reader's program shows it once.
    pub id: String,
}

/// Why a mail is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSent {
    /// No SMTP server is configured.
    Off,
    /// The server, or the address, refuses this mail for good.
    Refused,
    /// Another attempt may succeed.
    Failed,
}

/// In place of a server's URL: mails go to standard output, for development.
pub const PRINT: &str = "print:";

pub struct Mail(Option<(Transport, lettre::message::Mailbox)>);

enum Transport {
    Smtp(Box<AsyncSmtpTransport<Tokio1Executor>>),
    Print,
}

impl Mail {
    pub fn new(settings: Option<&MailSettings>) -> Result<Mail, Box<dyn std::error::Error>> {
        let Some(MailSettings { url, from }) = settings else { return Ok(Mail(None)) };
        let transport = match url.as_str() {
            PRINT => Transport::Print,
            url => {
                let builder = AsyncSmtpTransport::<Tokio1Executor>::from_url(url)?;
                Transport::Smtp(Box::new(builder.timeout(Some(EXCHANGE)).build()))
            }
        };
        Ok(Mail(Some((transport, from.clone()))))
    }

    /// Whether there is a server to send by.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Hands a mail to the server.
    pub async fn send(&self, letter: Letter) -> Result<(), NotSent> {
        let Some((transport, from)) = &self.0 else { return Err(NotSent::Off) };
        let transport = match transport {
            Transport::Smtp(transport) => transport,
            Transport::Print => {
                let Letter { to, subject, text, .. } = letter;
                println!("To: {to}\nSubject: {subject}\n\n{text}");
                return Ok(());
            }
        };
        let message = message(from, letter).ok_or(NotSent::Refused)?;
        match tokio::time::timeout(EXCHANGE, transport.send(message)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) if is_about_the_mail(&error) => Err(NotSent::Refused),
            Ok(Err(error)) => {
                tracing::warn!(%error, "a mail could not be sent");
                Err(NotSent::Failed)
            }
            Err(_) => Err(NotSent::Failed),
        }
    }
}

/// Whether another attempt would fail as well. A log-in that the server refuses (53x) is the operator's to mend.
fn is_about_the_mail(error: &lettre::transport::smtp::Error) -> bool {
    error.is_permanent() && !error.status().is_some_and(|code| code.to_string().starts_with("53"))
}

/// Text as HTML shows it, also inside a quoted attribute.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn message(from: &lettre::message::Mailbox, letter: Letter) -> Option<Message> {
    let Letter { to, subject, text, html, id } = letter;
    let to = to.parse().ok()?;
    let domain = from.email.domain();
    let message = Message::builder()
        .from(from.clone())
        .to(lettre::message::Mailbox::new(None, to))
        .subject(subject)
        .message_id(Some(format!("<{id}@{domain}>")));
    let part = |kind, text: String| SinglePart::builder().header(kind).body(text);
    let parts = MultiPart::alternative()
        .singlepart(part(ContentType::TEXT_PLAIN, text))
        .singlepart(part(ContentType::TEXT_HTML, html));
    message.multipart(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(to: &str, subject: &str) -> Letter {
        let [to, subject] = [to, subject].map(str::to_owned);
        Letter {
            to,
            subject,
            text: "plain".to_owned(),
            html: "<p>rich</p>".to_owned(),
            id: "an-id".to_owned(),
        }
    }

    #[test]
    fn a_mail_has_both_forms_and_an_id_that_stays() {
        let from = "Optimist <hello@example.org>".parse().unwrap();
        let text = String::from_utf8(message(&from, letter("ada@example.org", "Grüße")).unwrap().formatted())
            .unwrap();
        for part in ["multipart/alternative", "text/plain", "text/html", "Message-ID: <an-id@example.org>"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert!(message(&from, letter("nobody", "")).is_none());
    }

    #[test]
    fn a_subject_cannot_add_headers() {
        let from = "hello@example.org".parse().unwrap();
        let sent = message(&from, letter("ada@example.org", "a\r\nBcc: eve@example.org")).unwrap();
        assert!(!String::from_utf8(sent.formatted()).unwrap().contains("\nBcc:"));
    }
}
