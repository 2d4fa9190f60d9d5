//! What clients ask first: which versions there are, and which extensions. Both are facts of the
//! release, so there is nothing beneath the routes.

pub mod api;

#[cfg(test)]
mod tests;
