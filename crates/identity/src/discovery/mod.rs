//! Which versions there are: what clients ask first.

pub(crate) mod api;
