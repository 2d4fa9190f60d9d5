//! Keys on a real database.
