//! What is asked of people's passwords and accounts: Keystone's `[security_compliance]`, with its
//! names and defaults (everything off). Operators of a public cloud, and auditors, look for it.
//!
//! | what | setting | exempted by the user's option |
//! |---|---|---|
//! | a password ends | `password_expires_days` | `ignore_password_expiry` |
//! | it has to be changed at its first use, when an administrator set it | `change_password_upon_first_use` | `ignore_change_password_upon_first_use` |
//! | it has to be used for a while before its owner may change it | `minimum_password_age` | |
//! | it may not be one of the last few | `unique_last_password_count` | |
//! | it has a form | `password_regex` | |
//! | its owner may not change it at all | | `lock_password` |
//! | too many failures lock the account | `lockout_failure_attempts`, `lockout_duration` | `ignore_lockout_failure_attempts` |
//! | nobody logged in for long: disabled | `disable_user_account_days_inactive` | `ignore_user_inactivity` |
//!
//! ```text
//!              wrong password, as often as is allowed        lockout_duration over, or
//!   open ────────────────────────────────────────► locked ── enabled by an administrator ──► open
//!     │ the last login is too long ago
//!     └──────────────► disabled (enabling it again begins a new period)
//! ```
//! A failure is one row of `identity_failed_logins`, also for users who do not exist: the answer
//! to a wrong name costs what the answer to a wrong password costs.

pub(crate) mod factors;
pub(crate) mod model;
pub(crate) mod options;
pub(crate) mod service;
pub(crate) mod store;

pub use model::ComplianceRules;
use serde::{Deserialize, Serialize};

/// `[security_compliance]`. Zero, and an empty text, mean that nothing is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SecurityCompliance {
    /// After so many days without a login a user is disabled.
    pub disable_user_account_days_inactive: u32,
    /// After so many wrong passwords in a row a user cannot log in for a while.
    pub lockout_failure_attempts: u32,
    /// For so many seconds; zero: until an administrator enables the user.
    pub lockout_duration: u32,
    /// A password is good for so many days from when it was set.
    pub password_expires_days: u32,
    /// A new password differs from so many last ones, the current one included.
    pub unique_last_password_count: u32,
    /// A password that its owner chose is kept for so many days.
    pub minimum_password_age: u32,
    /// Every new password matches it from its beginning. Look-around is understood, as in
    /// `(?=.*\d)(?=.*[a-zA-Z]).{7,}`.
    pub password_regex: String,
    /// The same in words: it is what people are told.
    pub password_regex_description: String,
    /// A password that was set by an administrator is good for one thing: setting another.
    pub change_password_upon_first_use: bool,
}

impl Default for SecurityCompliance {
    fn default() -> Self {
        SecurityCompliance {
            disable_user_account_days_inactive: 0,
            lockout_failure_attempts: 0,
            lockout_duration: 1800,
            password_expires_days: 0,
            unique_last_password_count: 0,
            minimum_password_age: 0,
            password_regex: String::new(),
            password_regex_description: String::new(),
            change_password_upon_first_use: false,
        }
    }
}

impl SecurityCompliance {
    /// Each former password that is compared costs a hash.
    const MOST_FORMER: u32 = 32;

    /// Whether the settings can be kept to, all together.
    ///
    /// # Errors
    /// Which cannot, and why.
    pub fn check(&self) -> Result<(), String> {
        if self.unique_last_password_count > Self::MOST_FORMER {
            return Err(format!(
                "unique_last_password_count is {}; a change of password would compute as many \
                 hashes, and {} is the most",
                self.unique_last_password_count,
                Self::MOST_FORMER
            ));
        }
        if self.password_expires_days > 0 && self.minimum_password_age >= self.password_expires_days
        {
            return Err(format!(
                "minimum_password_age ({}) has to be less than password_expires_days ({}), or \
                 passwords end before they may be changed",
                self.minimum_password_age, self.password_expires_days
            ));
        }
        model::compile(&self.password_regex).map(drop)
    }
}
