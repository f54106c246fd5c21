//! The shapes of reactions in the API's document, for types of the shared crate, which describe nothing themselves.

use optimist_plane::describe;
use optimist_shared::reactions::KINDS;

/// A kind of reaction, as paths and answers name it.
pub struct ReactionKind;

describe!(ReactionKind, {"type": "string", "enum": KINDS});

/// [`Counts`](optimist_shared::reactions::Counts).
pub struct ReactionCounts;

describe!(ReactionCounts, {
    "type": "object",
    "description": "How many people reacted, by kind; kinds that nobody used are left out.",
    "propertyNames": {"type": "string", "enum": KINDS},
    "additionalProperties": {"type": "integer", "minimum": 1},
});
