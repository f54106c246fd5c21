//! The table of the gateway's bounds: how many connections there may be, and how fast they may come and speak.

/// Where event streams are, at edges and at the gateway.
pub const EVENTS: &str = "/v1/events";
/// Where sockets are.
pub const SOCKET: &str = "/v1/ws";
/// By this header an edge says how many event streams it carries at most. A client's own does not pass an edge.
pub const STREAMS_HEADER: &str = "optimist-streams";

/// How many, unless an operator says otherwise.
pub const DEFAULT_STREAMS: u32 = 200;

/// A bound of the table. `Bound::User.row()` is its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    User,
    Address,
    Process,
    Arrivals,
    Commands,
    Frame,
}

#[derive(Clone, Copy, Debug)]
pub struct BoundRow {
    pub bound: Bound,
    pub name: &'static str,
    pub most: u32,
    pub of: &'static str,
}

const fn row(bound: Bound, name: &'static str, most: u32, of: &'static str) -> BoundRow {
    BoundRow { bound, name, most, of }
}

/// The table.
#[rustfmt::skip] // One line a row.
pub const LIVE: &[BoundRow] = &[
    // A person's browsers, telephones and tablets; a browser shares one among its tabs.
    row(Bound::User, "connections-user", 10, "connections of a person to one origin"),
    // An office behind one address.
    row(Bound::Address, "connections-address", 200, "connections of an address to one origin"),
    // A process may hold 20,000 files where that was measured; the rest are for stores and requests.
    row(Bound::Process, "connections", 15_000, "connections to one origin"),
    // Each costs a read of the person's memberships.
    row(Bound::Arrivals, "arrivals", 1_000, "new connections to one origin in a second"),
    row(Bound::Commands, "commands", 10, "commands of a connection in a second"),
    row(Bound::Frame, "frame", 4_096, "bytes of a frame"),
];

impl Bound {
    pub fn row(self) -> &'static BoundRow {
        &LIVE[self as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bound_has_its_row() {
        for (index, row) in LIVE.iter().enumerate() {
            assert_eq!((row.bound as usize, row.bound.row().name), (index, row.name));
        }
    }
}
