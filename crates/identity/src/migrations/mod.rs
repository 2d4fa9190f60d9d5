//! The schema of identity: one file for each group of tables.

mod accounts;
mod base;
mod credentials;
mod federation;
mod resources;

use database::{Migration, MigrationSet};

/// All that identity keeps.
pub const MIGRATIONS: MigrationSet = MigrationSet {
    service: "identity",
    migrations: &[
        Migration { number: 1, name: "identity", sql: base::IDENTITY },
        Migration { number: 2, name: "serials", sql: base::SERIALS },
        Migration { number: 3, name: "accounts", sql: accounts::ACCOUNTS },
        Migration { number: 4, name: "resources", sql: resources::RESOURCES },
        Migration { number: 5, name: "credentials", sql: credentials::CREDENTIALS },
        Migration { number: 6, name: "federation", sql: federation::FEDERATION },
        Migration { number: 7, name: "directory", sql: federation::DIRECTORY },
        Migration { number: 8, name: "sealed", sql: federation::SEALED },
    ],
};
