//! A server that takes mail (SMTP, RFC 5321), and keeps it for tests to read.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mail_parser::{MessageParser, MimeHeaders as _};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// A mail as its reader sees it.
#[derive(Clone, Debug)]
pub struct Mail {
    pub to: String,
    pub subject: String,
    pub text: String,
    pub html: String,
    /// Its `Message-ID`.
    pub id: String,
}

impl Mail {
    /// The token in it: the line of 43 characters of base64url.
    pub fn token(&self) -> Option<String> {
        let is_token = |line: &&str| {
            let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            line.len() == 43 && line.bytes().all(is_base64url)
        };
        self.text.lines().map(str::trim).find(is_token).map(str::to_owned)
    }
}

/// What the server answers to a mail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answers {
    #[default]
    Accepts,
    /// For now.
    Defers,
    /// For good.
    Refuses,
    /// It takes the mail, and breaks the connection instead of answering.
    Breaks,
}

#[derive(Clone)]
pub struct Mailbox {
    pub url: String,
    mails: Arc<Mutex<Vec<Mail>>>,
    answers: Arc<Mutex<Answers>>,
}

impl Mailbox {
    /// Listens until the runtime ends.
    pub async fn start() -> Mailbox {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("smtp://{}", listener.local_addr().expect("an address"));
        let mailbox = Mailbox { url, mails: Arc::default(), answers: Arc::default() };
        let own = mailbox.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let own = own.clone();
                tokio::spawn(async move { own.serve(stream).await });
            }
        });
        mailbox
    }

    /// The settings of an origin that sends its mail here. `unverified` says what people may do before they have confirmed their
    /// address.
    pub fn settings(&self, unverified: &str) -> Vec<(&'static str, String)> {
        vec![
            ("OPTIMIST_SMTP_URL", self.url.clone()),
            ("OPTIMIST_MAIL_FROM", "Optimist <hello@example.org>".to_owned()),
            ("OPTIMIST_APP_URL", "https://app.example.org/".to_owned()),
            ("OPTIMIST_UNVERIFIED_ACCOUNTS", unverified.to_owned()),
        ]
    }

    /// From now on it answers like this.
    pub fn set(&self, answers: Answers) {
        *self.answers.lock().unwrap_or_else(PoisonError::into_inner) = answers;
    }

    /// The mails to an address, oldest first.
    pub fn mails_to(&self, address: &str) -> Vec<Mail> {
        let mails = self.mails.lock().unwrap_or_else(PoisonError::into_inner);
        mails.iter().filter(|mail| mail.to.eq_ignore_ascii_case(address)).cloned().collect()
    }

    /// Waits until an address has had so many mails, and returns the last of them.
    pub async fn nth(&self, address: &str, count: usize) -> Mail {
        for _ in 0..1_500 {
            let mails = self.mails_to(address);
            if let Some(mail) = count.checked_sub(1).and_then(|last| mails.get(last)) {
                return mail.clone();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{address} has had only {:#?}", self.mails_to(address));
    }

    async fn serve(&self, stream: TcpStream) {
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read).lines();
        let _ = write.write_all(b"220 mailbox\r\n").await;
        let mut to = String::new();
        while let Ok(Some(line)) = lines.next_line().await {
            let command = line.to_ascii_uppercase();
            let answer = if command.starts_with("EHLO") {
                "250-mailbox\r\n250 8BITMIME"
            } else if command.starts_with("RCPT TO:") {
                to = line["RCPT TO:".len()..].trim().trim_matches(['<', '>']).to_owned();
                "250 ok"
            } else if command == "DATA" {
                let _ = write.write_all(b"354 go on\r\n").await;
                let mut data = String::new();
                while let Ok(Some(line)) = lines.next_line().await {
                    if line == "." {
                        break;
                    }
                    data.push_str(line.strip_prefix('.').unwrap_or(&line));
                    data.push_str("\r\n");
                }
                match *self.answers.lock().unwrap_or_else(PoisonError::into_inner) {
                    Answers::Defers => "451 later",
                    Answers::Refuses => "550 never",
                    answers => {
                        self.keep(&to, &data);
                        if answers == Answers::Breaks {
                            return;
                        }
                        "250 kept"
                    }
                }
            } else if command == "QUIT" {
                let _ = write.write_all(b"221 bye\r\n").await;
                return;
            } else {
                "250 ok"
            };
            if write.write_all(format!("{answer}\r\n").as_bytes()).await.is_err() {
                return;
            }
        }
    }

    fn keep(&self, to: &str, data: &str) {
        let parsed = MessageParser::default().parse(data.as_bytes()).expect("a mail");
        assert!(parsed.content_type().is_some_and(|kind| kind.subtype() == Some("alternative")), "{data}");
        let text =
            |part: Option<std::borrow::Cow<'_, str>>| part.map(|part| part.into_owned()).unwrap_or_default();
        let mail = Mail {
            to: to.to_owned(),
            subject: parsed.subject().unwrap_or_default().to_owned(),
            text: text(parsed.body_text(0)),
            html: text(parsed.body_html(0)),
            id: parsed.message_id().unwrap_or_default().to_owned(),
        };
        self.mails.lock().unwrap_or_else(PoisonError::into_inner).push(mail);
    }
}
