//! The decisions about passwords and accounts. Pure: they take the time and what is known.

use std::time::Duration;

use cloud_types::{Fault, Timestamp, UserId};
use serde_json::{Map, Value};

use super::SecurityCompliance;
use super::options::{self, UserOption};
use crate::user::model::User;

const DAY: Duration = Duration::from_secs(24 * 3600);
const DAY_MICROS: i64 = 24 * 3600 * 1_000_000;

/// The settings, found good, with the regular expression compiled.
#[derive(Clone, Debug, Default)]
pub struct ComplianceRules {
    pub(crate) settings: SecurityCompliance,
    strength: Option<fancy_regex::Regex>,
}

/// The wrong passwords that were tried in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Failures {
    pub count: u32,
    /// The last one.
    pub at: Option<Timestamp>,
}

/// The expression as upstream applies it: from the beginning of the password.
///
/// # Errors
/// Why it is none.
pub(super) fn compile(expression: &str) -> Result<Option<fancy_regex::Regex>, String> {
    if expression.is_empty() {
        return Ok(None);
    }
    fancy_regex::Regex::new(&format!(r"\A(?:{expression})"))
        .map(Some)
        .map_err(|error| format!("password_regex is no regular expression: {error}"))
}

impl ComplianceRules {
    /// The rules of settings.
    ///
    /// # Errors
    /// What is wrong with the settings.
    pub fn new(settings: SecurityCompliance) -> Result<ComplianceRules, String> {
        settings.check()?;
        Ok(ComplianceRules { strength: compile(&settings.password_regex)?, settings })
    }

    /// Whether a new password has the form that is asked for.
    ///
    /// # Errors
    /// 400 with the operator's own words.
    pub(crate) fn check_strength(&self, password: &str) -> Result<(), Fault> {
        let Some(expression) = &self.strength else {
            return Ok(());
        };
        // An expression that gives up on a password has not matched it.
        if expression.is_match(password).unwrap_or(false) {
            return Ok(());
        }
        let detail = match self.settings.password_regex_description.as_str() {
            "" => "it is not as this cloud's operator asks",
            text => text.trim_end_matches('.'),
        };
        Err(Fault::bad_request(format!("The password does not match the requirements: {detail}.")))
    }

    /// When a password that is set now ends.
    pub(crate) fn expiry(
        &self,
        user_options: &Map<String, Value>,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let days = self.settings.password_expires_days;
        if days == 0 || options::flag(user_options, UserOption::IgnorePasswordExpiry) {
            return None;
        }
        let end = now.after(DAY * days);
        Some(Timestamp(end.0 - end.0.rem_euclid(1_000_000)))
    }

    /// When a password that an administrator sets now ends.
    pub(crate) fn expiry_when_given(
        &self,
        user_options: &Map<String, Value>,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let first_use = self.settings.change_password_upon_first_use
            && !options::flag(user_options, UserOption::IgnoreChangePasswordUponFirstUse);
        if first_use { Some(now) } else { self.expiry(user_options, now) }
    }

    /// Whether the account is locked.
    pub(crate) fn is_locked(&self, user: &User, failures: Failures, now: Timestamp) -> bool {
        let most = self.settings.lockout_failure_attempts;
        if most == 0
            || failures.count < most
            || options::flag(&user.options, UserOption::IgnoreLockoutFailureAttempts)
        {
            return false;
        }
        let Some(at) = failures.at else { return true };
        match self.settings.lockout_duration {
            0 => true,
            seconds => at.after(Duration::from_secs(seconds.into())) > now,
        }
    }

    /// Whether a lock that was there is over, so that counting begins again.
    pub(crate) fn lock_is_over(&self, user: &User, failures: Failures, now: Timestamp) -> bool {
        let most = self.settings.lockout_failure_attempts;
        most > 0 && failures.count >= most && !self.is_locked(user, failures, now)
    }

    /// Whether failures are counted at all.
    pub(crate) fn counts_failures(&self) -> bool {
        self.settings.lockout_failure_attempts > 0
    }

    /// Whether the user has been away for too long.
    pub(crate) fn is_inactive(&self, user: &User, now: Timestamp) -> bool {
        let most = i64::from(self.settings.disable_user_account_days_inactive);
        if most == 0 || options::flag(&user.options, UserOption::IgnoreUserInactivity) {
            return false;
        }
        let last = user.standing.last_active_day.unwrap_or_else(|| day_of(user.created_at));
        day_of(now) - last >= most
    }

    /// The last day on which somebody must have been active to be so still; `None` when nothing is
    /// asked.
    pub(crate) fn least_active_day(&self, now: Timestamp) -> Option<i64> {
        let most = i64::from(self.settings.disable_user_account_days_inactive);
        (most > 0).then(|| day_of(now) - most + 1)
    }

    /// Whether the owner may change the password now.
    ///
    /// # Errors
    /// 400 saying why not, and from when on.
    pub(crate) fn check_may_change(&self, user: &User, now: Timestamp) -> Result<(), Fault> {
        const ADMINISTRATOR: &str = "contact your administrator to reset your password.";
        if options::flag(&user.options, UserOption::LockPassword) {
            return Err(Fault::bad_request(format!(
                "You cannot change your password at this time due to password policy disallowing \
                 password changes. Please {ADMINISTRATOR}"
            )));
        }
        let days = self.settings.minimum_password_age;
        let Some(changed_at) = user.password_changed_at.filter(|_| user.standing.chosen) else {
            return Ok(());
        };
        let from = changed_at.after(DAY * days);
        if now >= from {
            return Ok(());
        }
        let left = from.since(now).as_secs() / DAY.as_secs();
        Err(Fault::bad_request(format!(
            "You cannot change your password at this time due to the minimum password age. Once \
             you change your password, it must be used for {days} day(s) before it can be \
             changed. Please try again in {left} day(s) or {ADMINISTRATOR}"
        )))
    }

    /// How many former passwords a new one is compared with, besides the current one.
    pub(crate) fn former_compared(&self) -> u32 {
        self.settings.unique_last_password_count.saturating_sub(1)
    }

    /// What is said to a password that was used before.
    pub(crate) fn used_before(&self) -> Fault {
        Fault::bad_request(format!(
            "The new password cannot be identical to a previous password. The total number which \
             includes the new password must be unique is {}.",
            self.settings.unique_last_password_count
        ))
    }
}

/// Whether the password has to be changed before it is good for anything else.
pub(crate) fn password_is_expired(user: &User, now: Timestamp) -> bool {
    user.standing.password_expires_at.is_some_and(|at| at <= now)
        && !options::flag(&user.options, UserOption::IgnorePasswordExpiry)
}

/// What the owner of an expired password is told, once it has proven right.
pub(crate) fn expired(user: &UserId) -> Fault {
    Fault::unauthorized(format!(
        "The password is expired and needs to be changed for user: {user}."
    ))
}

/// The number of the day, counted from 1970.
pub(crate) fn day_of(time: Timestamp) -> i64 {
    time.0.div_euclid(DAY_MICROS)
}

/// When a day begins.
pub(crate) fn midnight(day: i64) -> Timestamp {
    Timestamp(day.saturating_mul(DAY_MICROS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloud_types::DomainId;
    use serde_json::json;

    const NOW: Timestamp = Timestamp(1_700_000_000_000_000);

    fn rules(change: impl FnOnce(&mut SecurityCompliance)) -> ComplianceRules {
        let mut settings = SecurityCompliance::default();
        change(&mut settings);
        ComplianceRules::new(settings).unwrap()
    }

    fn user(user_options: Value) -> User {
        User {
            id: UserId::random(),
            domain_id: DomainId::random(),
            name: "u".into(),
            description: None,
            enabled: true,
            default_project_id: None,
            password_hash: None,
            password_changed_at: Some(NOW),
            standing: crate::user::model::Standing::default(),
            options: user_options.as_object().unwrap().clone(),
            extra: Map::new(),
            serial: 0,
            generation: 1,
            created_at: NOW,
        }
    }

    #[test]
    fn strength_is_judged_from_the_beginning_and_told_in_the_operators_words() {
        let strong = rules(|s| {
            s.password_regex = r"(?=.*\d)(?=.*[a-zA-Z]).{7,}$".into();
            s.password_regex_description = "a letter, a digit, seven in all.".into();
        });
        assert!(strong.check_strength("abcdef7").is_ok());
        let fault = strong.check_strength("abcdefg").unwrap_err();
        assert_eq!(
            fault.message,
            "The password does not match the requirements: a letter, a digit, seven in all."
        );
        let digits = rules(|s| s.password_regex = r"\d".into());
        assert!(digits.check_strength("1a").is_ok() && digits.check_strength("a1").is_err());
        assert!(rules(|_| ()).check_strength("").is_ok());
    }

    #[test]
    fn an_expression_that_would_take_for_ever_refuses() {
        let slow = rules(|s| s.password_regex = r"(?:(a+)+\1)+$".into());
        assert!(slow.check_strength(&format!("{}b", "a".repeat(60))).is_err());
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        for (wrong, word) in [
            (
                SecurityCompliance { password_regex: "(".into(), ..Default::default() },
                "password_regex",
            ),
            (
                SecurityCompliance {
                    password_expires_days: 3,
                    minimum_password_age: 3,
                    ..Default::default()
                },
                "minimum_password_age",
            ),
            (
                SecurityCompliance { unique_last_password_count: 33, ..Default::default() },
                "unique_last_password_count",
            ),
        ] {
            assert!(wrong.check().unwrap_err().contains(word));
        }
        SecurityCompliance::default().check().unwrap();
    }

    #[test]
    fn a_lock_ends_with_its_time_or_not_at_all() {
        let locking = rules(|s| (s.lockout_failure_attempts, s.lockout_duration) = (3, 60));
        let at =
            |count, seconds| Failures { count, at: Some(NOW.before(Duration::from_secs(seconds))) };
        let plain = user(json!({}));
        assert!(!locking.is_locked(&plain, at(2, 0), NOW));
        assert!(locking.is_locked(&plain, at(3, 59), NOW));
        assert!(!locking.is_locked(&plain, at(3, 60), NOW));
        assert!(locking.lock_is_over(&plain, at(3, 60), NOW));
        assert!(!locking.lock_is_over(&plain, at(2, 60), NOW));
        let exempt = user(json!({"ignore_lockout_failure_attempts": true}));
        assert!(!locking.is_locked(&exempt, at(30, 0), NOW));
        let for_ever = rules(|s| (s.lockout_failure_attempts, s.lockout_duration) = (3, 0));
        assert!(for_ever.is_locked(&plain, at(3, 1_000_000), NOW));
    }

    #[test]
    fn passwords_end_on_a_whole_second_unless_their_owner_is_exempt() {
        let expiring = rules(|s| s.password_expires_days = 2);
        let none = Map::new();
        let odd = Timestamp(NOW.0 + 123);
        assert_eq!(expiring.expiry(&none, odd), Some(NOW.after(DAY * 2)));
        let exempt = json!({"ignore_password_expiry": true});
        assert_eq!(expiring.expiry(exempt.as_object().unwrap(), NOW), None);
        let first = rules(|s| s.change_password_upon_first_use = true);
        assert_eq!(first.expiry_when_given(&none, NOW), Some(NOW));
        let exempt = json!({"ignore_change_password_upon_first_use": true});
        assert_eq!(first.expiry_when_given(exempt.as_object().unwrap(), NOW), None);
    }

    #[test]
    fn inactivity_is_counted_in_days_since_the_last_login_or_the_creation() {
        let strict = rules(|s| s.disable_user_account_days_inactive = 2);
        let mut somebody = user(json!({}));
        assert!(!strict.is_inactive(&somebody, NOW.after(DAY)));
        assert!(strict.is_inactive(&somebody, NOW.after(DAY * 2)));
        somebody.standing.last_active_day = Some(day_of(NOW) + 1);
        assert!(!strict.is_inactive(&somebody, NOW.after(DAY * 2)));
        assert_eq!(strict.least_active_day(NOW), Some(day_of(NOW) - 1));
        somebody.options = json!({"ignore_user_inactivity": true}).as_object().unwrap().clone();
        assert!(!strict.is_inactive(&somebody, NOW.after(DAY * 9)));
    }

    #[test]
    fn a_password_that_was_chosen_is_kept_for_a_while() {
        let aged = rules(|s| s.minimum_password_age = 2);
        let mut somebody = user(json!({}));
        assert!(aged.check_may_change(&somebody, NOW).is_ok(), "an administrator set it");
        somebody.standing.chosen = true;
        let fault = aged.check_may_change(&somebody, NOW.after(DAY / 2)).unwrap_err();
        assert!(fault.message.contains("used for 2 day(s)"), "{}", fault.message);
        assert!(fault.message.contains("try again in 1 day(s)"), "{}", fault.message);
        assert!(aged.check_may_change(&somebody, NOW.after(DAY * 2)).is_ok());
        let locked = user(json!({"lock_password": true}));
        assert!(aged.check_may_change(&locked, NOW).is_err());
    }
}
