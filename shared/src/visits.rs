//! Visits, as the origin writes them behind. See [`crate::scripts::visit`].
// compat: origin (this whole file)

pub use crate::compat::Visit;
