//! Older forms of the tables' interfaces, for the origin, until it uses the new ones. Thin: nothing is decided here.
// compat: origin (this whole file)

use crate::ids::{Id, Ids, Partition, Uuid};
use crate::keys::{BoundKey, Key};
use crate::reactions::Kind;
use crate::routes::{Matched, Path, lookup};

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
