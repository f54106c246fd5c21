//! Hooks for tests: steps to pause or die at, mechanisms to switch off, statements to count.
//!
//! Without the feature `test-hooks` every function here is empty, and a release has no way to reach it.

#[cfg(not(feature = "test-hooks"))]
mod off {
    /// A named step between two effects.
    #[inline(always)]
    pub async fn step(_name: &'static str) {}

    /// Whether a test has switched a mechanism off.
    #[inline(always)]
    pub fn disabled(_mechanism: &'static str) -> bool {
        false
    }

    /// Notes that a statement was sent.
    #[inline(always)]
    pub fn statement(_sql: &'static str) {}

    /// How far ahead a test has set the clock.
    #[inline(always)]
    pub fn ahead() -> chrono::Duration {
        chrono::Duration::zero()
    }
}

#[cfg(feature = "test-hooks")]
mod on {
    use std::collections::{BTreeMap, HashMap, HashSet};
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
    use std::time::Duration;

    use axum::extract::Query;
    use axum::routing::{get, post};
    use axum::{Json, Router};
    use serde::Deserialize;
    use tokio::sync::broadcast;

    #[derive(Default)]
    struct Hooks {
        armed: HashMap<String, Armed>,
        disabled: HashSet<String>,
        statements: BTreeMap<String, u64>,
        passes: BTreeMap<&'static str, u64>,
    }

    #[derive(Clone, Deserialize)]
    struct Armed {
        step: String,
        /// `abort` ends the process as `kill -9` does; `pause` waits until it is released.
        action: String,
        /// Milliseconds that a pause lasts at most.
        #[serde(default)]
        millis: u64,
        /// Passes of the step to act on; then the hook is spent.
        #[serde(default = "once")]
        times: u64,
    }

    fn once() -> u64 {
        1
    }

    static HOOKS: LazyLock<Mutex<Hooks>> = LazyLock::new(|| Mutex::new(Hooks::from_environment()));

    impl Hooks {
        /// `OPTIMIST_TEST_DISABLED` switches mechanisms off from the start: comma-separated. `OPTIMIST_TEST_ABORT` names a step to
        /// die at, for commands that serve nothing.
        fn from_environment() -> Hooks {
            let listed = std::env::var("OPTIMIST_TEST_DISABLED").unwrap_or_default();
            let disabled = listed.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
            let abort = std::env::var("OPTIMIST_TEST_ABORT").ok();
            let dying = |step: String| {
                (step.clone(), Armed { step, action: "abort".to_owned(), millis: 0, times: 1 })
            };
            Hooks { disabled, armed: abort.map(dying).into_iter().collect(), ..Hooks::default() }
        }
    }

    /// Releases of paused steps: one by its name, or all.
    static RELEASES: LazyLock<broadcast::Sender<Option<String>>> = LazyLock::new(|| broadcast::channel(64).0);

    async fn released(step: &str, mut releases: broadcast::Receiver<Option<String>>) {
        while let Ok(Some(other)) = releases.recv().await {
            if other == step {
                break;
            }
        }
    }

    fn hooks() -> MutexGuard<'static, Hooks> {
        HOOKS.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub async fn step(name: &'static str) {
        let (armed, releases) = {
            let mut hooks = hooks();
            *hooks.passes.entry(name).or_default() += 1;
            match hooks.armed.get_mut(name) {
                Some(armed) if armed.times > 0 => {
                    armed.times -= 1;
                    // Subscribes before the pass is visible from outside: a release comes after it.
                    (armed.clone(), RELEASES.subscribe())
                }
                _ => return,
            }
        };
        match armed.action.as_str() {
            "abort" => std::process::abort(),
            // Ends by itself or by the release, whichever comes first.
            _ => drop(
                tokio::time::timeout(Duration::from_millis(armed.millis), released(name, releases)).await,
            ),
        }
    }

    pub fn disabled(mechanism: &'static str) -> bool {
        hooks().disabled.contains(mechanism)
    }

    pub fn statement(sql: &'static str) {
        let name = crate::statements::name(sql).to_owned();
        *hooks().statements.entry(name).or_default() += 1;
    }

    pub fn ahead() -> chrono::Duration {
        chrono::Duration::milliseconds(AHEAD_MS.load(Ordering::Relaxed))
    }

    static AHEAD_MS: AtomicI64 = AtomicI64::new(0);

    #[derive(Deserialize)]
    struct Release {
        step: Option<String>,
    }

    #[derive(Deserialize)]
    struct Clock {
        ahead_ms: i64,
    }

    #[derive(Deserialize)]
    struct Mechanism {
        mechanism: String,
        off: bool,
    }

    /// The routes of the internal listener that tests arm hooks with.
    pub fn routes() -> Router {
        Router::new()
            .route(
                "/test/hooks",
                post(|Query(armed): Query<Armed>| async move {
                    hooks().armed.insert(armed.step.clone(), armed);
                }),
            )
            .route(
                "/test/disable",
                post(|Query(Mechanism { mechanism, off }): Query<Mechanism>| async move {
                    let mut hooks = hooks();
                    if off {
                        hooks.disabled.insert(mechanism)
                    } else {
                        hooks.disabled.remove(&mechanism)
                    };
                }),
            )
            .route(
                "/test/clock",
                post(|Query(Clock { ahead_ms }): Query<Clock>| async move {
                    AHEAD_MS.store(ahead_ms, Ordering::Relaxed);
                }),
            )
            .route(
                "/test/release",
                post(|Query(Release { step }): Query<Release>| async move {
                    // Perhaps no step is waiting.
                    let _ = RELEASES.send(step);
                }),
            )
            .route("/test/statements", get(|| async { Json(hooks().statements.clone()) }))
            .route("/test/passes", get(|| async { Json(hooks().passes.clone()) }))
    }
}

#[cfg(not(feature = "test-hooks"))]
pub use off::*;
#[cfg(feature = "test-hooks")]
pub use on::*;
