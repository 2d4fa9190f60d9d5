//! Rules about more than one factor: lists of methods, of which one has to be passed in full. Pure.

use serde_json::{Map, Value};

use super::options::{MFA_RULES, UserOption};
use crate::token::Methods;

/// The lists of a user's rules, as far as they hold at all: none when the user has switched them
/// off.
pub(crate) fn rules(options: &Map<String, Value>) -> Vec<Vec<String>> {
    if options.get(UserOption::MultiFactorAuthEnabled.name()) == Some(&Value::Bool(false)) {
        return Vec::new();
    }
    let lists = options.get(MFA_RULES).and_then(Value::as_array);
    let names = |list: &Value| -> Option<Vec<String>> {
        let names = list.as_array().filter(|names| !names.is_empty())?;
        names.iter().map(|name| name.as_str().map(str::to_owned)).collect()
    };
    lists.into_iter().flatten().filter_map(names).collect()
}

/// Whether methods that were passed satisfy the rules. Methods that this cloud does not have count
/// as passed, and a list of nothing else as not written: a typo must lock nobody out.
pub(crate) fn satisfied(rules: &[Vec<String>], passed: Methods) -> bool {
    let mut judged = rules
        .iter()
        .map(|list| -> Vec<Methods> { list.iter().filter_map(|n| Methods::named(n)).collect() })
        .filter(|list| !list.is_empty())
        .peekable();
    judged.peek().is_none()
        || judged.any(|list| list.into_iter().all(|method| passed.contains(method)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn one_list_has_to_be_passed_in_full() {
        let judge =
            |options: Value, passed| satisfied(&rules(options.as_object().unwrap()), passed);
        let password = Methods::PASSWORD;
        let both = password.and(Methods::TOTP);
        let two = json!({"multi_factor_auth_rules": [["password", "totp"]]});
        assert!(!judge(two.clone(), password) && judge(two.clone(), both));
        assert!(judge(two, both.and(Methods::TOKEN)), "a token carries what it was got with");
        let either = json!({"multi_factor_auth_rules": [["password", "totp"], ["mapped"]]});
        assert!(judge(either.clone(), Methods::MAPPED) && !judge(either, password));
        for open in [
            json!({}),
            json!({"multi_factor_auth_rules": []}),
            json!({"multi_factor_auth_rules": [["password", "totp"]],
                   "multi_factor_auth_enabled": false}),
            json!({"multi_factor_auth_rules": [["pasword"]]}),
            json!({"multi_factor_auth_rules": [["password", "eyes"]]}),
        ] {
            assert!(judge(open.clone(), password), "{open}");
        }
        let typo = json!({"multi_factor_auth_rules": [["eyes"], ["totp"]]});
        assert!(!judge(typo, password), "another list is written");
    }
}
