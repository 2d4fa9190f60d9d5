//! What is known of accounts besides who they are: when passwords end, which ones were before, how
//! often somebody failed to log in, and when somebody was last there.

pub(super) const ACCOUNTS: &str = "
ALTER TABLE identity_users ADD COLUMN password_expires_at BIGINT;
ALTER TABLE identity_users ADD COLUMN password_self_service BIGINT NOT NULL DEFAULT 0;
ALTER TABLE identity_users ADD COLUMN last_active_day BIGINT;
ALTER TABLE identity_users ADD COLUMN valid_until BIGINT;
CREATE INDEX identity_users_password_expiry ON identity_users (password_expires_at)
    WHERE password_expires_at IS NOT NULL;
CREATE INDEX identity_users_valid_until ON identity_users (valid_until)
    WHERE valid_until IS NOT NULL;
CREATE TABLE identity_failed_logins (
    user_id TEXT PRIMARY KEY,
    failures BIGINT NOT NULL,
    failed_at BIGINT
);
CREATE TABLE identity_former_passwords (
    user_id TEXT NOT NULL,
    number BIGINT NOT NULL,
    password_hash TEXT NOT NULL,
    PRIMARY KEY (user_id, number)
);
";
