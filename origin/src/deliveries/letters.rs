//! Notifications by e-mail, to addresses that their owners have verified, in the languages of their owners.

use optimist_plane::ctx::Ctx;
use optimist_plane::error::Result;
use optimist_plane::outgoing::delivery::{Delivery, Outcome};
use optimist_plane::outgoing::mail::{Letter, NotSent, escaped};

use crate::deliveries::checking::{Wanted, check};
use crate::deliveries::words::{around, line, subject};
use crate::people::letters::words::page;

pub async fn send(ctx: &Ctx, delivery: &Delivery) -> Result<Outcome> {
    if !ctx.outgoing.mail.is_on() {
        return Ok(Outcome::Failed("no server"));
    }
    let wanted = match check(ctx, delivery).await? {
        Ok(wanted) => wanted,
        Err(outcome) => return Ok(outcome),
    };
    let letter = letter(&wanted, delivery.subject.to_string());
    Ok(match ctx.outgoing.mail.send(letter).await {
        Ok(()) => Outcome::Sent,
        Err(NotSent::Off) => Outcome::Failed("no server"),
        Err(NotSent::Refused) => Outcome::Failed("refused"),
        Err(NotSent::Failed) => Outcome::Again { reason: "the server failed", after: None },
    })
}

fn letter(wanted: &Wanted, id: String) -> Letter {
    let (subject, line) = (subject(&wanted.kind, wanted.locale), line(wanted));
    let (greeting, end) = around(wanted.locale, &wanted.place.name);
    let paragraphs = [greeting, format!("{line}."), end.to_owned()];
    let html: String = paragraphs.iter().map(|text| format!("<p>{}</p>\n", escaped(text))).collect();
    Letter {
        to: wanted.place.email.clone(),
        subject: subject.to_owned(),
        text: format!("{}\n", paragraphs.join("\n\n")),
        html: page(wanted.locale, subject, &html),
        id,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_no_markup() {
        assert_eq!(escaped("<b>\"A&B\"</b>"), "&lt;b&gt;&quot;A&amp;B&quot;&lt;/b&gt;");
    }
}
