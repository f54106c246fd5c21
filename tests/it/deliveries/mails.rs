//! Notifications by e-mail.

use optimist_tests::Mailbox;

use super::*;

const PREFERENCES: &str = "/v1/me/notification-preferences";

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_is_in_its_readers_language_and_its_subject_names_nobody() {
    let mailbox = Mailbox::start().await;
    let settings = [mailbox.settings("allow"), hurried().settings].concat();
    let system = System::with(Options { settings, ..Options::default() }).await;
    let pair = Pair::new(&system).await;
    let bo = &pair.bo;
    let token = mailbox.nth(&bo.email, 1).await.token().unwrap();
    system.client().post("/v1/auth/verify", json!({"token": token})).await.expect(200);
    let mut preferences = bo.get(PREFERENCES).await.expect(200).body;
    for kind in ["message", "mention"] {
        preferences["kinds"][kind]["email"] = json!(true);
    }
    put(bo, PREFERENCES, &preferences).await.expect(200);
    let named = format!("Look, <@{}>: a secret.", bo.user);
    let cases = [
        ("en", "A secret.", "A new message in one of your circles", "Ada wrote in A circle.", "Hello Bo,"),
        (
            "de",
            "A secret.",
            "Eine neue Nachricht in einem Ihrer Kreise",
            "Ada hat in A circle geschrieben.",
            "Guten Tag, Bo!",
        ),
        (
            "en",
            &named,
            "You were mentioned in one of your circles",
            "Ada mentioned you in A circle.",
            "Hello Bo,",
        ),
        (
            "de",
            &named,
            "Sie wurden in einem Ihrer Kreise erwähnt",
            "Ada hat Sie in A circle erwähnt.",
            "Guten Tag, Bo!",
        ),
    ];
    for (index, (locale, text, subject, line, greeting)) in cases.into_iter().enumerate() {
        bo.patch("/v1/me", json!({"locale": locale})).await.expect(200);
        let message = pair.ada.say(&pair.circle, text).await;
        let mail = mailbox.nth(&bo.email, 2 + index).await;
        assert_eq!(mail.subject, subject);
        assert!(mail.text.starts_with(&format!("{greeting}\r\n\r\n{line}\r\n\r\n")), "{mail:#?}");
        assert!(mail.html.contains(&format!("<html lang=\"{locale}\">")), "{mail:#?}");
        assert!(mail.html.contains(&format!("<p>{line}</p>")), "{mail:#?}");
        assert!(mail.id.starts_with(&message), "the notification's id, also when it is sent again");
        assert!(!format!("{mail:?}").contains("secret"), "no text of a message leaves");
        let item = ended(bo, &message, 1).await[0].clone();
        assert_eq!((&item["channel"], &item["state"]), (&json!("email"), &json!("sent")));
    }
    // The line of a webhook is in the same language.
    let receiver = Receiver::start("127.0.0.2").await;
    webhook(bo, &receiver, "ok/hook").await;
    let message = pair.say().await;
    ended(bo, &message, 2).await;
    assert_eq!(receiver.received("/ok/hook")[1].json()["data"]["line"], "Ada hat in A circle geschrieben");
}
