//! The domains that there are, lowest first: each may use those above it in this list.

use optimist_plane::domain::{Guard, Registry};
use optimist_plane::statements::{Stated, stated};

use crate::{
    activity, circles, deliveries, erasure, export, favorites, journal, messages, notifications, operations,
    people, popular, presence, reactions, reports, search, statistics, trail, unread,
};

pub static REGISTRY: Registry = Registry {
    title: "Optimist",
    description: DESCRIPTION,
    domains: &[
        optimist_plane::own::DOMAIN,
        people::DOMAIN,
        circles::DOMAIN,
        presence::DOMAIN,
        journal::DOMAIN,
        deliveries::DOMAIN,
        notifications::DOMAIN,
        activity::DOMAIN,
        reactions::DOMAIN,
        messages::DOMAIN,
        reports::DOMAIN,
        favorites::DOMAIN,
        statistics::DOMAIN,
        popular::DOMAIN,
        search::DOMAIN,
        unread::DOMAIN,
        export::DOMAIN,
        erasure::DOMAIN,
        trail::DOMAIN,
        operations::DOMAIN,
    ],
    guard: Guard {
        check_token: |ctx, token| Box::pin(people::session::check(ctx, token)),
        require_admin: |ctx, user| Box::pin(people::admin::require_admin(ctx, user)),
        extend_session: |ctx, user, session| Box::pin(people::session::extend(ctx, user, session)),
        followed: |ctx, user| Box::pin(circles::access::followed(ctx, user)),
        blocked: |ctx, user| Box::pin(people::blocking::blocked_by(ctx, user)),
        veil: people::veil::veil,
    },
};

const DESCRIPTION: &str = "\
People, circles, messages and reactions, notifications, private journals.\n\n\
Times are RFC 3339 in UTC; ids are UUIDs, which may be sent in upper case too. Lists are pages: `next` is the cursor of the page that follows, or \
null. Errors are problems (RFC 9457) with a stable `code`. Unknown fields of bodies and parameters of lists are refused. The space around texts \
is dropped, and counts towards their length. `x-rate-limits` are the limits of each operation, `x-data-pattern` says where \
its answer comes from. For strangers and the banned a private \
circle does not exist (404). Of a message by somebody whom the caller has blocked only `id`, `number` and `hidden` are shown.";

/// Every SQL statement there is.
pub fn statements() -> Vec<&'static str> {
    REGISTRY
        .domains
        .iter()
        .flat_map(|domain| domain.statements)
        .flat_map(|list| list.iter().copied())
        .collect()
}

/// A statement, and what its first line states of it.
#[derive(serde::Serialize)]
pub struct Statement {
    #[serde(flatten)]
    pub stated: Stated<'static>,
    pub sql: &'static str,
}

/// Every statement whose first line can be read; a test holds that there are no others.
pub fn described() -> Vec<Statement> {
    statements().into_iter().filter_map(|sql| Some(Statement { stated: stated(sql)?, sql })).collect()
}

/// The settings that hold secret keys.
pub fn key_rings() -> Vec<&'static str> {
    REGISTRY.domains.iter().flat_map(|domain| domain.key_rings).copied().collect()
}

#[cfg(test)]
mod described;

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap, HashSet};

    use optimist_plane::domain::{Domain, Follow, Loader};
    use optimist_shared::keys::{Freshness, KEYS, Key};
    use optimist_shared::routes::ROUTES;

    use super::*;

    /// A column of all domains.
    fn all<T>(column: fn(&Domain) -> &'static [T]) -> impl Iterator<Item = &'static T> {
        REGISTRY.domains.iter().flat_map(column)
    }

    #[test]
    fn the_domains_serve_exactly_the_table() {
        let served: Vec<_> = REGISTRY.domains.iter().flat_map(|domain| (domain.routes)()).collect();
        let handled: BTreeSet<_> = served.iter().map(|served| served.route).collect();
        let routed: BTreeSet<_> = ROUTES.iter().map(|route| route.name).collect();
        assert_eq!(handled, routed);
        assert_eq!(served.len(), ROUTES.len(), "each once");
    }

    #[test]
    fn every_statement_states_name_and_bound_in_its_first_line_and_is_listed_once() {
        let mut names = HashSet::new();
        for sql in statements() {
            let stated = stated(sql);
            assert!(stated.is_some(), "its first line is of no known form: {sql}");
            assert!(names.insert(stated.map(|stated| stated.name)), "listed twice: {sql}");
        }
    }

    /// The suite and `cargo xtask bench sql` run every statement.
    #[test]
    fn every_statement_has_parameters_to_be_run_with() {
        const PARAMETERS: &str = include_str!("../../tests/src/sql/parameters.txt");
        let lines = PARAMETERS.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let given: HashMap<_, _> = lines
            .map(|line| {
                let line = line.trim_start_matches(['>', '~']).trim_end();
                let (name, given) = line.split_once(": ").unwrap_or((line.trim_end_matches(':'), ""));
                (name.to_owned(), given.split(';').filter(|given| !given.trim().is_empty()).count())
            })
            .collect();
        let taken: HashMap<_, _> = described()
            .into_iter()
            .map(|Statement { stated, sql }| {
                let taken = (1..100).take_while(|n| sql.contains(&format!("${n}"))).count();
                (stated.name.to_owned(), taken)
            })
            .collect();
        assert_eq!(given, taken);
    }

    #[test]
    fn every_cached_key_has_one_loader() {
        for row in KEYS {
            let loaders: Vec<_> = all(|domain| domain.loaders)
                .filter(|(key, _)| *key == row.key)
                .map(|(_, loader)| loader)
                .collect();
            let is_copy = matches!(row.freshness, Freshness::Fenced | Freshness::Ttl);
            assert!(loaders.len() <= 1, "{:?} has {} loaders", row.key, loaders.len());
            let copies =
                loaders.iter().filter(|loader| matches!(loader, Loader::Copy(_) | Loader::Own(_))).count();
            assert_eq!(copies, usize::from(is_copy), "{:?}", row.key);
            // A key that an ordinary comparison would misjudge says how it is compared.
            let compares = all(|domain| domain.audits).filter(|(key, _)| *key == row.key).count();
            assert!(
                compares <= 1 && (is_copy || row.freshness == Freshness::Own || compares == 1),
                "{:?}",
                row.key
            );
        }
    }

    #[test]
    fn names_are_given_once() {
        let jobs: Vec<_> = all(|domain| domain.jobs).map(|job| job.name).collect();
        let sums: Vec<_> = all(|domain| domain.sums).map(|sum| sum.data_type).collect();
        let fields: Vec<_> = all(|domain| domain.entries).map(|entries| entries.field).collect();
        let domains: Vec<_> = REGISTRY.domains.iter().map(|domain| domain.name).collect();
        for names in [jobs, sums, fields, domains, key_rings()] {
            let unique: HashSet<_> = names.iter().collect();
            assert_eq!(unique.len(), names.len(), "{names:?}");
        }
    }

    #[test]
    fn one_follower_at_most_paces_a_kind_of_events() {
        let paced = all(|domain| domain.follows).filter(|(_, follow)| matches!(follow, Follow::Paced(_)));
        let kinds: Vec<_> = paced.map(|(kind, _)| kind).collect();
        assert_eq!(kinds.iter().collect::<HashSet<_>>().len(), kinds.len(), "{kinds:?}");
    }

    #[test]
    fn sessions_are_compared_by_their_domain() {
        // How long a session has idled is Redis's own: as a copy it would always differ.
        assert!(all(|domain| domain.audits).any(|(key, _)| *key == Key::Session));
    }
}
