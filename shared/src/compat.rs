//! Older forms of the tables' interfaces, for the origin, until it uses the new ones. Thin: nothing is decided here.
// compat: origin (this whole file)

use crate::ids::{Id, Ids, Partition, Uuid};
use crate::keys::{BoundKey, Key};
use crate::limits::LimitRow;
use crate::reactions::{Counts, Kind, Promise};
use crate::routes::{Matched, Path, lookup};
use crate::scripts::limit::Charge;
use crate::scripts::{self, Call, Script, react, visit};

/// See [`Ids`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    pub user: Option<Uuid>,
    pub session: Option<Uuid>,
    pub circle: Option<Uuid>,
    pub message: Option<Uuid>,
    pub draft: Option<Uuid>,
    /// For keys of a partition rather than of an entity; [`Partition::COMMON`] when absent.
    pub partition: Option<Partition>,
}

impl Parameters {
    pub fn ids(&self) -> Ids {
        let Parameters { user, session, circle, message, draft, .. } = *self;
        ids([
            (Id::User, user),
            (Id::Session, session),
            (Id::Circle, circle),
            (Id::Message, message),
            (Id::Draft, draft),
        ])
    }
}

fn ids<const N: usize>(values: [(Id, Option<Uuid>); N]) -> Ids {
    let known = values.into_iter().filter_map(|(id, value)| Some((id, value?)));
    known.fold(Ids::default(), |ids, (id, value)| ids.with(id, value))
}

impl From<&BoundKey> for Parameters {
    fn from(key: &BoundKey) -> Parameters {
        let get = |id| key.ids().get(id);
        Parameters {
            user: get(Id::User),
            session: get(Id::Session),
            circle: get(Id::Circle),
            message: get(Id::Message),
            draft: get(Id::Draft),
            partition: key.row().template.contains("<p>").then(|| key.partition()),
        }
    }
}

impl Key {
    /// See [`BoundKey::name`].
    pub fn render(self, parameters: &Parameters) -> Option<String> {
        Some(self.bound(parameters)?.name())
    }

    /// See [`BoundKey::partition`].
    pub fn partition(self, parameters: &Parameters) -> Option<Partition> {
        Some(self.bound(parameters)?.partition())
    }

    /// See [`BoundKey::parse`].
    pub fn parse(name: &str) -> Option<(Key, Parameters)> {
        let found = BoundKey::parse(name)?;
        Some((found.key(), Parameters::from(&found)))
    }

    fn bound(self, parameters: &Parameters) -> Option<BoundKey> {
        self.of_ids(&parameters.ids(), parameters.partition.unwrap_or(Partition::COMMON))
    }
}

/// See [`Path`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathParameters {
    pub user: Option<Uuid>,
    pub session: Option<Uuid>,
    pub circle: Option<Uuid>,
    pub message: Option<Uuid>,
    pub draft: Option<Uuid>,
    pub entry: Option<Uuid>,
    pub notification: Option<Uuid>,
    pub kind: Option<Kind>,
}

impl PathParameters {
    /// A key's parameters: from the path where it names them, else from the session.
    pub fn with_session(&self, user: Option<Uuid>, session: Option<Uuid>) -> Parameters {
        Parameters {
            user: self.user.or(user),
            session: self.session.or(session),
            circle: self.circle,
            message: self.message,
            draft: self.draft,
            partition: None,
        }
    }
}

impl From<Path> for PathParameters {
    fn from(path: Path) -> PathParameters {
        let get = |id| path.ids.get(id);
        PathParameters {
            user: get(Id::User),
            session: get(Id::Session),
            circle: get(Id::Circle),
            message: get(Id::Message),
            draft: get(Id::Draft),
            entry: get(Id::Entry),
            notification: get(Id::Notification),
            kind: path.kind,
        }
    }
}

/// See [`lookup`].
pub fn find(method: &str, path: &str) -> Matched<PathParameters> {
    match lookup(method, path) {
        Matched::Route(route, path) => Matched::Route(route, path.into()),
        Matched::MethodNotAllowed(methods) => Matched::MethodNotAllowed(methods),
        Matched::BadParameter(name, reason) => Matched::BadParameter(name, reason),
        Matched::NotFound => Matched::NotFound,
    }
}

/// See [`react::Reaction`].
#[derive(Clone, Debug)]
pub struct Reaction {
    pub kind: Kind,
    /// Made, rather than taken back.
    pub reacted: bool,
    reaction: react::Reaction,
    call: Call<'static>,
}

impl Reaction {
    /// `None` if the parameters name no user, circle or message.
    pub fn new(parameters: &Parameters, kind: Kind, reacted: bool) -> Option<Reaction> {
        let (user, circle, message) = (parameters.user?, parameters.circle?, parameters.message?);
        let reaction = react::Reaction { user, circle, message, kind, reacted };
        Some(Reaction { kind, reacted, reaction, call: reaction.call() })
    }

    pub fn keys(&self) -> Vec<&str> {
        self.call.keys.iter().map(AsRef::as_ref).collect()
    }

    pub fn arguments(&self) -> Vec<&[u8]> {
        self.call.arguments.iter().map(AsRef::as_ref).collect()
    }

    /// See [`react::Reaction::answer`].
    pub fn answer(&self, counts: &Counts, promise: Promise) -> Vec<u8> {
        self.reaction.answer(counts, promise)
    }
}

/// See [`visit`].
#[derive(Clone, Debug)]
pub struct Visit(Call<'static>);

impl Visit {
    /// `None` if the parameters name no user or circle.
    pub fn new(parameters: &Parameters) -> Option<Visit> {
        Some(Visit(visit::call(parameters.user?, parameters.circle?)))
    }

    pub fn keys(&self) -> Vec<&str> {
        self.0.keys.iter().map(AsRef::as_ref).collect()
    }

    pub fn arguments(&self) -> Vec<&[u8]> {
        self.0.arguments.iter().map(AsRef::as_ref).collect()
    }

    /// See [`visit::answer`].
    pub fn answer(promise: Promise) -> Vec<u8> {
        visit::answer(promise)
    }
}

/// The words that describe limits to a script. See [`Charge`].
pub fn describe_limits(limits: &[&'static LimitRow]) -> Vec<Vec<u8>> {
    let charge = Charge { rows: limits.to_vec(), keys: Vec::new(), entry: String::new() };
    charge.description()
}

macro_rules! scripts {
    ($($field:ident: $script:path,)+) => {
        /// Every script, by name.
        #[derive(Debug)]
        pub struct Scripts { $(pub $field: Script,)+ }

        impl Scripts {
            pub fn new() -> Scripts {
                Scripts { $($field: $script,)+ }
            }

            pub fn all(&self) -> Vec<&Script> {
                vec![$(&self.$field,)+]
            }
        }
    };
}

scripts! {
    admit: scripts::admit::ADMIT,
    limit: scripts::limit::LIMIT,
    peek: scripts::limit::PEEK,
    give_back: scripts::limit::GIVE_BACK,
    counts: scripts::counts::COUNTS,
    react: scripts::react::REACT,
    visit: scripts::visit::VISIT,
    fence: scripts::fence::FENCE,
    release: scripts::fence::RELEASE,
    unhide: scripts::fence::UNHIDE,
    lease: scripts::lease::LEASE,
    fill: scripts::lease::FILL,
    invalidate: scripts::invalidate::INVALIDATE,
    vouch: scripts::vouch::VOUCH,
    append: scripts::append::APPEND,
    install: scripts::install::INSTALL,
    audit: scripts::install::AUDIT,
    open: scripts::ledger::OPEN,
    trim: scripts::ledger::TRIM,
    autosave: scripts::drafts::AUTOSAVE,
    restore: scripts::drafts::RESTORE,
    flushed: scripts::drafts::FLUSHED,
    drop_flushed: scripts::drafts::DROP_FLUSHED,
}

impl Default for Scripts {
    fn default() -> Scripts {
        Scripts::new()
    }
}
