//! The options of a user: exemptions from the rules about passwords, and the rules about more than
//! one factor. Names and forms are upstream's; null takes an option away.

use cloud_types::Fault;
use serde_json::{Map, Value};

/// An option of a user that is true or false.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UserOption {
    IgnoreChangePasswordUponFirstUse,
    IgnorePasswordExpiry,
    IgnoreLockoutFailureAttempts,
    LockPassword,
    IgnoreUserInactivity,
    MultiFactorAuthEnabled,
}

impl UserOption {
    const ALL: [UserOption; 6] = [
        UserOption::IgnoreChangePasswordUponFirstUse,
        UserOption::IgnorePasswordExpiry,
        UserOption::IgnoreLockoutFailureAttempts,
        UserOption::LockPassword,
        UserOption::IgnoreUserInactivity,
        UserOption::MultiFactorAuthEnabled,
    ];

    /// Its name in the API.
    pub const fn name(self) -> &'static str {
        match self {
            UserOption::IgnoreChangePasswordUponFirstUse => "ignore_change_password_upon_first_use",
            UserOption::IgnorePasswordExpiry => "ignore_password_expiry",
            UserOption::IgnoreLockoutFailureAttempts => "ignore_lockout_failure_attempts",
            UserOption::LockPassword => "lock_password",
            UserOption::IgnoreUserInactivity => "ignore_user_inactivity",
            UserOption::MultiFactorAuthEnabled => "multi_factor_auth_enabled",
        }
    }
}

/// Lists of authentication methods; one of the lists has to be passed in full.
pub(crate) const MFA_RULES: &str = "multi_factor_auth_rules";

/// Whether the option is set to true.
pub(crate) fn flag(options: &Map<String, Value>, option: UserOption) -> bool {
    options.get(option.name()) == Some(&Value::Bool(true))
}

/// Whether an object holds nothing but options of users, in their forms.
///
/// # Errors
/// 400 naming the option.
pub(crate) fn check(options: &Map<String, Value>) -> Result<(), Fault> {
    for (name, value) in options {
        if value.is_null() && (name == MFA_RULES || by_name(name)) {
            continue;
        }
        if name == MFA_RULES {
            check_rules(value)?;
        } else if !by_name(name) {
            let shown: String = name.chars().take(64).collect();
            return Err(Fault::bad_request(format!(
                "Invalid input for field 'options': Additional properties are not allowed \
                 ('{shown}' was unexpected)"
            )));
        } else if !value.is_boolean() {
            return Err(Fault::bad_request(format!(
                "Invalid input for field 'options/{name}': it has to be true, false or null."
            )));
        }
    }
    Ok(())
}

fn by_name(name: &str) -> bool {
    UserOption::ALL.iter().any(|option| option.name() == name)
}

/// Lists of names; no list is empty or there twice, and no name is twice in a list.
fn check_rules(value: &Value) -> Result<(), Fault> {
    let wrong = || {
        Fault::bad_request(format!(
            "Invalid input for field 'options/{MFA_RULES}': Invalid data type, must be a list of \
             lists comprised of strings. Sub-lists may not be duplicated. Strings in sub-lists may \
             not be duplicated."
        ))
    };
    let lists = value.as_array().ok_or_else(wrong)?;
    for (place, list) in lists.iter().enumerate() {
        let names = list.as_array().filter(|names| !names.is_empty()).ok_or_else(wrong)?;
        let twice = |value: &Value, before: &[Value]| before.contains(value);
        if twice(list, &lists[..place])
            || names
                .iter()
                .enumerate()
                .any(|(at, name)| !name.is_string() || twice(name, &names[..at]))
        {
            return Err(wrong());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn options_have_the_forms_that_upstream_gives_them() {
        for good in [
            json!({}),
            json!({"lock_password": true, "ignore_user_inactivity": null}),
            json!({"multi_factor_auth_rules": [["password", "totp"], ["password"]]}),
            json!({"multi_factor_auth_rules": []}),
            json!({"multi_factor_auth_rules": null, "multi_factor_auth_enabled": false}),
        ] {
            assert!(check(good.as_object().unwrap()).is_ok(), "{good}");
        }
        for (bad, word) in [
            (json!({"lock_pasword": true}), "lock_pasword"),
            (json!({"lock_password": "yes"}), "lock_password"),
            (json!({"lock_password": 1}), "lock_password"),
            (json!({"multi_factor_auth_rules": {}}), MFA_RULES),
            (json!({"multi_factor_auth_rules": ["password"]}), MFA_RULES),
            (json!({"multi_factor_auth_rules": [[]]}), MFA_RULES),
            (json!({"multi_factor_auth_rules": [[1]]}), MFA_RULES),
            (json!({"multi_factor_auth_rules": [["a", "a"]]}), MFA_RULES),
            (json!({"multi_factor_auth_rules": [["a"], ["a"]]}), MFA_RULES),
        ] {
            let fault = check(bad.as_object().unwrap()).unwrap_err();
            assert!(fault.status() == 400 && fault.message.contains(word), "{bad}: {fault}");
        }
    }
}
