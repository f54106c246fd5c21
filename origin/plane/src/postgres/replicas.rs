//! Read replicas, for history and reports: what may be some seconds old, and says how old it is.
//!
//! An answer states `as_of`: it shows every commit that was acknowledged by then. Where replicas are configured, the primary is not asked
//! instead: without a usable one the answer is 503. Cached values are not read here, nor is anything that decides about rights.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::{join, join_all};
use optimist_shared::error::ErrorCode;
use tokio_postgres::Row;
use tokio_postgres::config::Host;
use tokio_postgres::types::ToSql;

use crate::config::Config;
use crate::error::{Error, Failure, Result};
use crate::hooks;
use crate::postgres::connecting::Client;
use crate::postgres::pool::Postgres;
use crate::postgres::prepared::Prepared;
use crate::statements;

/// How often an origin looks at each replica.
const EVERY: Duration = Duration::from_secs(1);
/// How long a statement may take, with its second attempt. A replica that hangs does not know of the session's timeout.
const DEADLINE: Duration = Duration::from_secs(2);
/// Attempts at a statement that replay has cancelled.
const ATTEMPTS: usize = 2;

statements! {
    /// Whether the server is a replica; the moment by which it shows all commits; and how many seconds ago that was. The moment is
    /// the commit of the last transaction that was replayed, and null before the first: each origin of a region writes every second. It
    /// is no help that all of the received log is replayed: a replica that is cut off says the same.
    const POSITION: &str = "-- replicas::position
select is_replica, shown, extract(epoch from clock_timestamp() - shown)::float8
from (select pg_is_in_recovery() as is_replica) server
cross join lateral (select case when is_replica then pg_last_xact_replay_timestamp() else clock_timestamp() end as shown) at";
}

/// The replicas that are configured, perhaps none.
pub struct Replicas {
    replicas: Vec<Replica>,
    most_lag: Duration,
    /// Where the next search begins, so that replicas with equal loads take turns.
    turn: AtomicUsize,
}

struct Replica {
    /// Host and port, for logs and metrics.
    name: String,
    db: Postgres,
    /// A connection for the looks, which wait for no reader.
    looked: Postgres,
    /// Statements under way.
    in_flight: AtomicUsize,
    /// False from a failure until the next look.
    is_usable: AtomicBool,
}

/// The reason for which a replica cannot be used at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unfit {
    /// It shows nothing of the last seconds.
    Lagging,
    /// It is no replica any more: what it shows may never have been, or has ended.
    Promoted,
    /// It cannot be reached.
    Lost,
}

impl Unfit {
    fn as_str(self) -> &'static str {
        match self {
            Unfit::Lagging => "lagging",
            Unfit::Promoted => "promoted",
            Unfit::Lost => "lost",
        }
    }
}

impl Replicas {
    pub fn new(config: &Config) -> std::result::Result<Replicas, Box<dyn std::error::Error>> {
        let authorities = config.database_ca.as_ref();
        let replica = |url: &String| -> std::result::Result<Replica, Box<dyn std::error::Error>> {
            Ok(Replica {
                name: server(url),
                db: Postgres::new("a replica", url, authorities, config.database_pool)?,
                looked: Postgres::new("a replica, looked at", url, authorities, 1)?,
                in_flight: AtomicUsize::new(0),
                is_usable: AtomicBool::new(true),
            })
        };
        Ok(Replicas {
            replicas: config.replica_urls.iter().map(replica).collect::<std::result::Result<_, _>>()?,
            most_lag: config.replica_lag,
            turn: AtomicUsize::new(0),
        })
    }

    /// Looks at each replica, again and again, until the process ends.
    pub async fn watch(&self) {
        if self.replicas.is_empty() {
            return;
        }
        let mut look = tokio::time::interval(EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            join_all(self.replicas.iter().map(|replica| replica.look(self.most_lag))).await;
        }
    }

    /// The usable replica with the fewest statements under way; another than `but` if there is one.
    fn choose(&self, but: Option<&Replica>) -> Option<&Replica> {
        let (before, from) = self.replicas.split_at(match self.replicas.len() {
            0 => 0,
            count => self.turn.fetch_add(1, Ordering::Relaxed) % count,
        });
        let usable = from.iter().chain(before).filter(|replica| replica.is_usable.load(Ordering::Relaxed));
        let is_other = |replica: &Replica| but.is_none_or(|but| !std::ptr::eq(but, replica));
        usable.min_by_key(|replica| (!is_other(replica), replica.in_flight.load(Ordering::Relaxed)))
    }

    async fn query(
        &self,
        sql: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<(DateTime<Utc>, Vec<Row>)> {
        let (mut attempts, mut tried) = (0, None);
        while let Some(replica) = self.choose(tried) {
            tried = Some(replica);
            let under_way = UnderWay::begin(&replica.in_flight);
            let outcome = read(&replica.db, sql, parameters).await;
            drop(under_way);
            match outcome {
                Ok((position, rows)) => match position.as_of(self.most_lag) {
                    Ok(shown) => {
                        metrics::counter!("optimist_replica_reads_total", "replica" => replica.name.clone())
                            .increment(1);
                        return Ok((shown, rows));
                    }
                    Err(unfit) => replica.leave_out(unfit),
                },
                // Rows that the statement reads are gone on the primary, or a lock of the primary's was replayed.
                Err(error) if matches!(error.failure, Failure::Again { .. }) => {
                    replica.refused("conflict");
                    attempts += 1;
                    if attempts == ATTEMPTS {
                        break;
                    }
                }
                Err(error) if error.is_slow() || error.code != ErrorCode::Unavailable => return Err(error),
                Err(_) => replica.leave_out(Unfit::Lost),
            }
        }
        metrics::counter!("optimist_replicas_unavailable_total").increment(1);
        Err(Error::unavailable("A replica"))
    }
}

impl Replica {
    /// Leaves it out until a look finds it fit again.
    fn leave_out(&self, unfit: Unfit) {
        self.refused(unfit.as_str());
        self.note(Err(unfit));
    }

    fn refused(&self, reason: &'static str) {
        metrics::counter!("optimist_replica_refused_total", "replica" => self.name.clone(), "reason" => reason)
            .increment(1);
    }

    /// Notes whether it can be used; the log tells of each change once.
    fn note(&self, fit: std::result::Result<(), Unfit>) {
        let was_usable = self.is_usable.swap(fit.is_ok(), Ordering::Relaxed);
        match fit {
            Ok(()) if !was_usable => tracing::info!(replica = self.name, "a replica is used again"),
            Err(unfit) if was_usable => {
                tracing::warn!(replica = self.name, why = unfit.as_str(), "a replica is left out");
            }
            _ => {}
        }
        metrics::gauge!("optimist_replica_usable", "replica" => self.name.clone()).set(if fit.is_ok() {
            1.0
        } else {
            0.0
        });
    }

    async fn look(&self, most_lag: Duration) {
        let looked = tokio::time::timeout(EVERY, async {
            let lent = Lent(Some(self.looked.client().await?));
            let position = position(&Prepared::new(lent.client()?, POSITION).await?).await;
            lent.give_back();
            position
        });
        let fit = match looked.await {
            Ok(Ok(position)) => {
                let lag = position.lag_seconds.unwrap_or(f64::INFINITY);
                metrics::gauge!("optimist_replica_lag_seconds", "replica" => self.name.clone()).set(lag);
                position.as_of(most_lag).map(drop)
            }
            _ => Err(Unfit::Lost),
        };
        self.note(fit);
    }
}

/// The statements of one answer. Each may go to another replica.
pub struct Reader<'a> {
    replicas: &'a Replicas,
    /// The server that is asked where no replicas are configured.
    primary: &'a Postgres,
    as_of: Option<DateTime<Utc>>,
}

impl<'a> Reader<'a> {
    pub fn new(replicas: &'a Replicas, primary: &'a Postgres) -> Reader<'a> {
        Reader { replicas, primary, as_of: None }
    }

    /// Runs a statement that changes nothing, on a replica if there are any.
    pub async fn query(&mut self, sql: &'static str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
        let reading = async {
            if !self.replicas.replicas.is_empty() {
                return self.replicas.query(sql, parameters).await;
            }
            let (position, rows) = read(self.primary, sql, parameters).await?;
            Ok((position.shown.unwrap_or_default(), rows))
        };
        let (shown, rows) = tokio::time::timeout(DEADLINE, reading).await.map_err(|_| Error::slow())??;
        self.as_of = Some(self.as_of.map_or(shown, |before| before.min(shown)));
        Ok(rows)
    }

    /// The moment by which everything that was acknowledged is in all of the rows.
    pub fn as_of(&self) -> Result<DateTime<Utc>> {
        self.as_of.ok_or_else(|| Error::internal("replicas", &"an answer for which nothing was read"))
    }
}

/// How far a server has come.
struct Position {
    is_replica: bool,
    /// Every commit that was acknowledged by then is shown.
    shown: Option<DateTime<Utc>>,
    lag_seconds: Option<f64>,
}

impl Position {
    fn from_row(row: &Row) -> Position {
        Position { is_replica: row.get(0), shown: row.get(1), lag_seconds: row.get(2) }
    }

    fn as_of(&self, most_lag: Duration) -> std::result::Result<DateTime<Utc>, Unfit> {
        if !self.is_replica && !hooks::disabled("replica-role") {
            return Err(Unfit::Promoted);
        }
        let lag = self.lag_seconds.unwrap_or(f64::INFINITY);
        let is_recent = lag <= most_lag.as_secs_f64() || hooks::disabled("replica-lag");
        self.shown.filter(|_| is_recent).ok_or(Unfit::Lagging)
    }
}

/// Asks for the position and then runs the statement, in one trip. The statement's snapshot is the later one, so it shows what the
/// position says.
async fn read(
    db: &Postgres,
    sql: &'static str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<(Position, Vec<Row>)> {
    let lent = Lent(Some(db.client().await?));
    let client = lent.client()?;
    hooks::statement(sql);
    // Prepared beforehand: nothing may come between sending the one and sending the other.
    let (asked, statement) = (Prepared::new(client, POSITION).await?, Prepared::new(client, sql).await?);
    // Sent in the order of their first polls, which is this.
    let (position, rows) = join(position(&asked), statement.query(parameters)).await;
    lent.give_back();
    Ok((position?, rows?))
}

async fn position(asked: &Prepared<'_>) -> Result<Position> {
    hooks::statement(POSITION);
    let rows = asked.query(&[]).await?;
    let position = rows.first().map(Position::from_row);
    position.ok_or_else(|| Error::internal("replicas", &"no position"))
}

/// A connection of the pool's. If its user goes away in the middle, it is closed: an answer is still to come, or never comes.
struct Lent(Option<Client>);

impl Lent {
    fn client(&self) -> Result<&Client> {
        self.0.as_ref().ok_or_else(|| Error::internal("replicas", &"a connection that was given back"))
    }

    fn give_back(mut self) {
        self.0 = None;
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            drop(Client::take(client));
        }
    }
}

/// Counts a statement while it is under way.
struct UnderWay<'a>(&'a AtomicUsize);

impl<'a> UnderWay<'a> {
    fn begin(count: &'a AtomicUsize) -> UnderWay<'a> {
        count.fetch_add(1, Ordering::Relaxed);
        UnderWay(count)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The server of a URL, without the role and its password.
fn server(url: &str) -> String {
    let config: tokio_postgres::Config = url.parse().unwrap_or_default();
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(host)) => host.clone(),
        Some(Host::Unix(folder)) => folder.display().to_string(),
        None => String::new(),
    };
    format!("{host}:{}", config.get_ports().first().copied().unwrap_or(5432))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_without_secrets() {
        assert_eq!(server("postgres://serve:secret@db.internal:5433/optimist"), "db.internal:5433");
        assert_eq!(server("postgres://serve@db.internal/optimist"), "db.internal:5432");
    }

    #[test]
    fn a_server_is_fit_while_it_is_a_replica_and_does_not_lag() {
        let most = Duration::from_secs(30);
        let at = Utc::now();
        let fit = |is_replica, shown, lag_seconds| Position { is_replica, shown, lag_seconds }.as_of(most);
        assert_eq!(fit(true, Some(at), Some(29.0)), Ok(at));
        assert_eq!(fit(true, Some(at), Some(31.0)), Err(Unfit::Lagging));
        assert_eq!(fit(true, None, None), Err(Unfit::Lagging), "nothing was replayed yet");
        assert_eq!(fit(false, Some(at), Some(0.0)), Err(Unfit::Promoted));
    }
}
