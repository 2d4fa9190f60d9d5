//! Lists: every collection takes the same query string (filters by attribute, `fields`, sorting,
//! paging by marker, tags) and differs only in its columns. Filters that nobody knows are refused
//! (Neutron's `filter-validation`): a list that silently ignores one shows too much.

pub mod api;
pub mod model;
pub mod store;
