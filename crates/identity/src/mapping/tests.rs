//! The engine as a specification: upstream's ways of writing rules, and properties that hold for
//! whatever a provider says.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::dry_run::explain;
use super::engine::{Assertion, Mapped, apply};
use super::model::{Part, Rules, SchemaVersion, UserKind, template};

fn run(version: &str, rules: &Value, says: &Value) -> Result<Mapped, String> {
    let version = SchemaVersion::parse(version).unwrap();
    let rules = Rules::parse(version, rules).unwrap();
    let assertion: Assertion = serde_json::from_value(says.clone()).unwrap();
    apply(&rules, &assertion).mapped
}

fn refused(rules: &Value) -> String {
    Rules::parse(SchemaVersion::V1, rules).map(|_| ()).unwrap_err().message
}

fn names(mapped: &Mapped) -> Vec<&str> {
    mapped.group_names.iter().map(|(name, _)| name.as_str()).collect()
}

#[test]
fn values_are_handed_on_in_order_and_requirements_are_not_counted() {
    let rules = json!([{
        "local": [{"user": {"name": "{0} {1}", "email": "{2}"}}],
        "remote": [{"type": "First"}, {"type": "Kind", "any_one_of": ["Staff"]},
                   {"type": "Last"}, {"type": "Mail"}]}]);
    let says = json!({"First": ["Ada"], "Kind": ["Guest", "Staff"], "Last": ["L."],
                      "Mail": ["ada@example.org"]});
    let mapped = run("1.0", &rules, &says).unwrap();
    assert_eq!(mapped.user.name.as_deref(), Some("Ada L."));
    assert_eq!(mapped.user.email.as_deref(), Some("ada@example.org"));
    assert_eq!(mapped.user.kind, UserKind::Ephemeral);
}

#[test]
fn a_rule_applies_only_when_all_its_requirements_hold() {
    let rules = |test: Value| json!([{"local": [{"user": {"name": "x"}}], "remote": [test]}]);
    let says = json!({"Groups": ["a", "b1"]});
    for (test, holds) in [
        (json!({"type": "Groups"}), true),
        (json!({"type": "Missing"}), false),
        (json!({"type": "Groups", "any_one_of": ["b", "a"]}), true),
        (json!({"type": "Groups", "any_one_of": ["b"]}), false),
        (json!({"type": "Groups", "any_one_of": ["^b"], "regex": true}), true),
        (json!({"type": "Groups", "any_one_of": ["^B"], "regex": true}), false),
        (json!({"type": "Groups", "not_any_of": ["c"]}), true),
        (json!({"type": "Groups", "not_any_of": ["a"]}), false),
        (json!({"type": "Groups", "not_any_of": ["1$"], "regex": true}), false),
    ] {
        assert_eq!(run("1.0", &rules(test.clone()), &says).is_ok(), holds, "{test}");
    }
}

#[test]
fn white_and_black_lists_filter_what_is_handed_on() {
    let rules = |test: Value| {
        json!([{"local": [{"user": {"name": "{0}"}}, {"groups": "{1}", "domain": {"id": "d"}}],
                "remote": [{"type": "Name"}, test]}])
    };
    let says = json!({"Name": ["ada"], "Groups": ["a", "b1", "b2"]});
    for (test, left) in [
        (json!({"type": "Groups", "whitelist": ["a", "z"]}), vec!["a"]),
        (json!({"type": "Groups", "blacklist": ["a", "z"]}), vec!["b1", "b2"]),
        (json!({"type": "Groups", "whitelist": ["^b"], "regex": true}), vec!["b1", "b2"]),
        (json!({"type": "Groups", "blacklist": ["^b"], "regex": true}), vec!["a"]),
        (json!({"type": "Groups", "whitelist": []}), vec![]),
    ] {
        assert_eq!(names(&run("1.0", &rules(test), &says).unwrap()), left);
    }
}

#[test]
fn all_rules_contribute_and_the_first_user_wins() {
    let rules = json!([
        {"local": [{"user": {"name": "{0}", "type": "local", "domain": {"name": "Corp"}}}],
         "remote": [{"type": "Name"}]},
        {"local": [{"group": {"id": "g1"}}, {"group_ids": "{0}"}], "remote": [{"type": "Ids"}]},
        {"local": [{"user": {"name": "other"}}], "remote": [{"type": "Name"}]},
        {"local": [{"group": {"name": "n", "domain": {"id": "d"}}}],
         "remote": [{"type": "Name", "any_one_of": ["ada"]}]},
        {"local": [{"projects": [{"name": "home of {0}", "roles": [{"name": "member"}]}]}],
         "remote": [{"type": "Name"}]},
    ]);
    let mapped = run("1.0", &rules, &json!({"Name": ["ada"], "Ids": ["g2", "g3"]})).unwrap();
    assert_eq!(mapped.user.name.as_deref(), Some("ada"));
    assert_eq!(mapped.user.kind, UserKind::Local);
    let ids: Vec<(&str, bool)> =
        mapped.group_ids.iter().map(|(id, asserted)| (id.as_str(), *asserted)).collect();
    assert_eq!(ids, [("g1", false), ("g2", true), ("g3", true)]);
    assert_eq!(names(&mapped), ["n"]);
    assert_eq!(mapped.projects[0].name, "home of ada");
}

#[test]
fn from_version_2_a_rules_domain_is_the_default_and_version_3_reads_projects_from_json() {
    let rules = json!([{"local": [{"user": {"name": "{0}"}, "domain": {"id": "d"},
        "projects": [{"name": "p", "roles": []}]}], "remote": [{"type": "Name"}]}]);
    let says = json!({"Name": ["ada"]});
    let domain = |mapped: &Mapped| mapped.user.domain.clone().and_then(|domain| domain.id);
    assert_eq!(domain(&run("1.0", &rules, &says).unwrap()), None);
    let mapped = run("2.0", &rules, &says).unwrap();
    assert_eq!(domain(&mapped).as_deref(), Some("d"));
    assert_eq!(mapped.projects[0].domain.clone().unwrap().id.as_deref(), Some("d"));

    let rules = json!([{"local": [{"user": {"name": "x"}, "projects_json": "{0}"}],
                        "remote": [{"type": "Projects"}]}]);
    let listed = json!([{"name": "p", "roles": [{"name": "reader"}], "domain": {"name": "Other"}}]);
    let mapped = run("3.0", &rules, &json!({"Projects": [listed.to_string()]})).unwrap();
    assert_eq!(mapped.projects[0].roles, ["reader"]);
    assert!(mapped.projects[0].domain.clone().unwrap().asserted);
    assert!(run("3.0", &rules, &json!({"Projects": ["{}"]})).is_err());
}

#[test]
fn a_domain_out_of_the_assertion_is_marked_as_such() {
    let rules = json!([{"local": [{"user": {"name": "{0}", "domain": {"name": "{1}"}}},
        {"groups": "{0}", "domain": {"name": "fixed"}}],
        "remote": [{"type": "Name"}, {"type": "Company"}]}]);
    let mapped = run("1.0", &rules, &json!({"Name": ["ada"], "Company": ["Default"]})).unwrap();
    assert!(mapped.user.domain.unwrap().asserted);
    assert!(mapped.group_names.iter().all(|(_, domain)| !domain.asserted));
}

#[test]
fn nobody_logs_in_where_no_rule_holds_or_a_value_is_ambiguous() {
    let rules = json!([{"local": [{"user": {"name": "{0}"}}], "remote": [{"type": "Name"}]}]);
    for says in [json!({}), json!({"Name": []}), json!({"Name": ["a", "b"]})] {
        assert!(run("1.0", &rules, &says).is_err(), "{says}");
    }
    let rules = json!([{"local": [{"user": {"name": "x"}}, {"groups": "{0}"}],
                        "remote": [{"type": "Name"}]}]);
    let why = run("1.0", &rules, &json!({"Name": ["a"]})).unwrap_err();
    assert!(why.contains("needs a 'domain'"), "{why}");
}

#[test]
fn rules_that_cannot_work_are_refused_with_the_reason() {
    let rule = |local: Value, remote: Value| json!([{"local": local, "remote": remote}]);
    let named = json!([{"user": {"name": "x"}}]);
    for (rules, why) in [
        (json!([]), "too short"),
        (json!({}), "rules"),
        (rule(named.clone(), json!([])), "too short"),
        (rule(named.clone(), json!([{"type": 1}])), "remote[0].type"),
        (rule(named.clone(), json!([{"type": "a", "any_one_of": ["x"], "whitelist": []}])), "more"),
        (rule(named.clone(), json!([{"type": "a", "regex": true}])), "needs a list"),
        (
            rule(named.clone(), json!([{"type": "a", "any_one_of": ["("], "regex": true}])),
            "regular",
        ),
        (rule(named, json!([{"type": "a", "colour": 1}])), "colour"),
        (rule(json!([{"user": {"name": "{1}"}}]), json!([{"type": "a"}])), "hands on 1"),
        (rule(json!([{"user": {"name": "{x}"}}]), json!([{"type": "a"}])), "number"),
        (rule(json!([{"user": {"type": "god"}}]), json!([{"type": "a"}])), "type"),
        (rule(json!([{"group": {"name": "g"}}]), json!([{"type": "a"}])), "'group' has"),
        (rule(json!([{"projects_json": "{0}"}]), json!([{"type": "a"}])), "3.0"),
    ] {
        let said = refused(&rules);
        assert!(said.contains(why), "{rules}: {said}");
    }
}

#[test]
fn a_dry_run_reads_both_forms_of_input_and_tells_why() {
    let rules = r#"{"mapping": {"schema_version": "2.0", "rules": [
        {"local": [{"user": {"name": "{0}"}, "domain": {"name": "Corp"}}],
         "remote": [{"type": "OIDC-sub"}]},
        {"local": [{"group": {"id": "staff"}}],
         "remote": [{"type": "OIDC-groups", "any_one_of": ["staff"]}]}]}}"#;
    let lines = "# what it says\nOIDC-sub: ada\nOIDC-groups: guests;staff\n";
    let object = r#"{"OIDC-sub": "ada", "OIDC-groups": ["guests", "staff"]}"#;
    let told = explain(rules, lines).unwrap();
    assert_eq!(told, explain(rules, object).unwrap());
    assert!(told.starts_with("rule 0 holds: the user\nrule 1 holds: a group\n"), "{told}");
    assert!(told.contains("\"name\": \"Corp\""), "{told}");
    let told = explain(rules, "OIDC-groups: guests").unwrap_err();
    assert!(
        told.contains("the assertion has no \"OIDC-sub\"") && told.contains("nobody"),
        "{told}"
    );
    assert!(explain("{", lines).unwrap_err().contains("not JSON"));
    assert!(explain(rules, "nonsense").unwrap_err().contains("line 1"));
}

fn value() -> impl Strategy<Value = String> {
    "[a-z;,'\\[\\]{}0-9 :\"]{0,12}"
}

proptest! {
    /// What a value says never becomes two: neither separators nor braces in it mean anything.
    #[test]
    fn a_value_stays_one_value(values in prop::collection::vec(value(), 1..6)) {
        let rules = json!([{"local": [{"user": {"name": "u"}},
            {"groups": "{0}", "domain": {"id": "d"}}, {"group_ids": "{0}"}],
            "remote": [{"type": "Groups"}]}]);
        let mapped = run("1.0", &rules, &json!({"Groups": values})).unwrap();
        let wanted: std::collections::BTreeSet<String> = values.into_iter().collect();
        let found: std::collections::BTreeSet<String> =
            mapped.group_names.into_iter().map(|(name, _)| name).collect();
        prop_assert_eq!(&found, &wanted);
        prop_assert!(mapped.group_ids.values().all(|asserted| *asserted));
        let ids: std::collections::BTreeSet<String> = mapped.group_ids.into_keys().collect();
        prop_assert_eq!(ids, wanted);
    }

    /// With a white list nobody gets a group that is not on it; with a black list none that is.
    #[test]
    fn lists_hold_for_any_values(
        values in prop::collection::vec("[a-d]{1,2}", 0..8),
        listed in prop::collection::vec("[a-d]{1,2}", 0..8),
    ) {
        for (word, on_it) in [("whitelist", true), ("blacklist", false)] {
            let mut test = json!({"type": "Groups"});
            test[word] = json!(listed);
            let rules = json!([{"local": [{"group_ids": "{0}"}], "remote": [test]}]);
            if let Ok(mapped) = run("1.0", &rules, &json!({"Groups": values})) {
                prop_assert!(mapped.group_ids.keys().all(|id| listed.contains(id) == on_it));
                prop_assert!(mapped.group_ids.keys().all(|id| values.contains(id)));
            }
        }
    }

    /// More requirements never let more people in.
    #[test]
    fn a_further_requirement_only_narrows(
        first in value(), second in value(), says in prop::collection::vec(value(), 0..4),
    ) {
        let rule = |remote: Value| json!([{"local": [{"user": {"name": "x"}}], "remote": remote}]);
        let one = json!({"type": "A", "any_one_of": [first]});
        let two = json!({"type": "A", "not_any_of": [second]});
        let says = json!({"A": says});
        let narrow = run("1.0", &rule(json!([one, two])), &says).is_ok();
        prop_assert!(!narrow || run("1.0", &rule(json!([one])), &says).is_ok());
    }

    /// Reading never panics, and what is taken apart can be put together again.
    #[test]
    fn texts_are_taken_apart_without_loss(text in "[a-z{}0-9]{0,16}") {
        if let Ok(parts) = template(&text) {
            let again: String = parts.iter().map(|part| match part {
                Part::Text(text) => text.replace('{', "{{").replace('}', "}}"),
                Part::Value(index) => format!("{{{index}}}"),
            }).collect();
            prop_assert_eq!(template(&again).unwrap(), parts);
        }
    }

    #[test]
    fn no_input_panics(rules in ".{0,200}", input in ".{0,200}") {
        let _ = explain(&rules, &input);
        let _ = explain("[{\"local\": [{\"user\": {\"name\": \"{0}\"}}], \
                          \"remote\": [{\"type\": \"a\"}]}]", &input);
    }
}
