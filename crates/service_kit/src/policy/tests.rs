//! Properties of the policy language and of the personas.

use proptest::prelude::*;

use super::expression::{Expression, Operand};
use super::*;

const RULES: &[PolicyRule] = &[
    PolicyRule::new("compute:servers:create", "rule:project_member_or_admin", "Create a server."),
    PolicyRule::new(
        "compute:hypervisors:list",
        "rule:admin or rule:system_reader",
        "See the hosts.",
    ),
    PolicyRule::new("image:get", "rule:project_reader or 'public':%(visibility)s", "See an image."),
];

fn policy() -> Policy {
    Policy::new(&[RULES]).unwrap()
}

fn project(id: &str) -> Target {
    Target::project(&id.parse().unwrap())
}

#[test]
fn personas_imply_downwards_and_stay_in_their_project() {
    let policy = policy();
    for (roles, own, other) in [
        (&["reader"][..], false, false),
        (&["member"], true, false),
        (&["manager"], true, false),
        (&["admin"], true, true),
        (&[], false, false),
    ] {
        let token = Token::for_test("u", Some("p"), roles);
        let rule = "compute:servers:create";
        assert_eq!(policy.allows(rule, &token, &project("p")), own, "{roles:?}");
        assert_eq!(policy.allows(rule, &token, &project("q")), other, "{roles:?}");
    }
}

#[test]
fn a_missing_target_or_rule_denies() {
    let policy = policy();
    let member = Token::for_test("u", Some("p"), &["member"]);
    assert!(!policy.allows("compute:servers:create", &member, &Target::none()));
    assert!(!policy.allows("no:such:rule", &Token::for_test("u", None, &["admin"]), &project("p")));
    // A token without a project does not match a target without one.
    let unscoped = Token::for_test("u", None, &["member"]);
    assert!(!policy.allows("compute:servers:create", &unscoped, &Target::none()));
}

#[test]
fn before_the_target_is_known_only_the_hopeless_are_refused() {
    let policy = policy();
    let rule = "compute:servers:create";
    assert!(policy.could_allow(rule, &Token::for_test("u", Some("p"), &["member"])));
    assert!(!policy.could_allow(rule, &Token::for_test("u", Some("p"), &["reader"])));
    assert!(!policy.could_allow(rule, &Token::for_test("u", None, &["member"])));
    assert!(policy.could_allow("image:get", &Token::for_test("u", None, &[])));
}

#[test]
fn literals_and_other_attributes_compare() {
    let policy = policy();
    let nobody = Token::for_test("u", None, &[]);
    let public = Target::none().with("visibility", "public");
    let private = Target::none().with("visibility", "private");
    assert!(policy.allows("image:get", &nobody, &public));
    assert!(!policy.allows("image:get", &nobody, &private));
}

#[test]
fn system_scope_is_asked_for() {
    let policy = policy();
    let mut token = Token::for_test("u", None, &["reader"]);
    assert!(!policy.allows("compute:hypervisors:list", &token, &Target::none()));
    token.system = true;
    assert!(policy.allows("compute:hypervisors:list", &token, &Target::none()));
}

#[test]
fn a_file_overrides_and_its_mistakes_name_their_line() {
    let toml = "# who may build\n\"compute:servers:create\" = \"rule:admin\"\n";
    let strict = Policy::with_overrides(&[RULES], Some(PolicyFile::Toml(toml))).unwrap();
    let member = Token::for_test("u", Some("p"), &["member"]);
    assert!(!strict.allows("compute:servers:create", &member, &project("p")));
    let json = r#"{"compute:servers:create": "role:member"}"#;
    let loose = Policy::with_overrides(&[RULES], Some(PolicyFile::Yaml(json))).unwrap();
    assert!(loose.allows("compute:servers:create", &member, &project("q")));

    let typo = "\n\n\"compute:server:create\" = \"role:member\"\n";
    let message =
        Policy::with_overrides(&[RULES], Some(PolicyFile::Toml(typo))).unwrap_err().to_string();
    assert!(message.contains("line 3"), "{message}");
    assert!(message.contains("compute:servers:create"), "{message}");
    let broken = "\"compute:servers:create\" = \"role:member and\"\n";
    let message =
        Policy::with_overrides(&[RULES], Some(PolicyFile::Toml(broken))).unwrap_err().to_string();
    assert!(message.contains("line 1"), "{message}");
    assert!(Policy::with_overrides(&[RULES], Some(PolicyFile::Toml("= nonsense"))).is_err());
}

#[test]
fn a_file_of_oslo_policy_overrides_and_may_have_rules_of_its_own() {
    let with = |text: &str| Policy::with_overrides(&[RULES], Some(PolicyFile::Yaml(text)));
    let lead = "\"lead\": \"role:lead\"\n\"compute:servers:create\": \"rule:lead\"\n";
    let policy = with(lead).unwrap();
    let token = |role| Token::for_test("u", Some("p"), &[role]);
    assert!(policy.allows("compute:servers:create", &token("lead"), &Target::none()));
    assert!(!policy.allows("compute:servers:create", &token("member"), &project("p")));

    for (text, line, word) in [
        ("# a typo\n\"compute:server:create\": \"@\"\n", "line 2", "compute:servers:create"),
        ("\n\nproject_memberr: \"role:x\"\n", "line 3", "project_member"),
        ("a: \"rule:b\"\n\"compute:servers:create\": \"rule:a\"\n", "line 1", "\"b\""),
        ("\n\"compute:servers:create\": \"role:a nd role:b\"\n", "line 2", "column 8"),
        ("\n\"compute:servers:create\": [\"role:a\"]\n", "line 2", "text"),
    ] {
        let message = with(text).unwrap_err().to_string();
        assert!(message.contains(line) && message.contains(word), "{text:?}: {message}");
    }
}

#[test]
fn a_scope_that_a_rule_does_not_take_is_refused_whatever_the_roles() {
    const SCOPED: &[PolicyRule] = &[
        PolicyRule {
            name: "identity:create_domain",
            expression: "role:admin",
            description: "",
            scopes: &[TokenScope::System, TokenScope::Project],
        },
        PolicyRule::new("identity:other", "rule:identity:create_domain", ""),
    ];
    let policy = Policy::new(&[SCOPED]).unwrap();
    let rule = "identity:create_domain";
    let mut token = Token::for_test("u", Some("p"), &["admin"]);
    assert!(policy.allows(rule, &token, &Target::none()) && policy.could_allow(rule, &token));
    token.project = None;
    token.domain = Some("d".parse().unwrap());
    assert!(!policy.allows(rule, &token, &Target::none()) && !policy.could_allow(rule, &token));
    // Another rule that refers to it asks for the expression only.
    assert!(policy.allows("identity:other", &token, &Target::none()));
    let text = policy.explain(rule, &token, &Target::none()).to_string();
    assert!(text.contains("system or project") && text.ends_with("refused"), "{text}");
}

#[test]
fn none_is_an_attribute_that_is_unset() {
    let rule = |name, expression| PolicyRule::new(name, expression, "");
    let rules = [rule("a", "not domain_id:None"), rule("b", "None:%(role.domain_id)s")];
    let policy = Policy::new(&[&rules]).unwrap();
    let mut token = Token::for_test("u", Some("p"), &[]);
    assert!(!policy.could_allow("a", &token));
    token.domain = Some("d".parse().unwrap());
    assert!(policy.could_allow("a", &token));
    let target = |domain: &str| Target::none().with("role.domain_id", domain);
    assert!(policy.allows("b", &token, &target("None")));
    assert!(!policy.allows("b", &token, &target("d")));
    assert!(!policy.allows("b", &token, &Target::none()), "what is not said matches nothing");
}

#[test]
fn dangling_and_circular_rules_are_refused() {
    let rule = |name, expression| PolicyRule::new(name, expression, "");
    let dangling = [rule("a", "rule:nowhere")];
    assert!(matches!(Policy::new(&[&dangling]), Err(PolicyError::Dangling { .. })));
    let circle = [rule("a", "rule:b"), rule("b", "not rule:a")];
    assert!(matches!(Policy::new(&[&circle]), Err(PolicyError::Cycle { .. })));
    let twice = [rule("a", "@"), rule("a", "!")];
    assert!(matches!(Policy::new(&[&twice]), Err(PolicyError::Twice(_))));
}

#[test]
fn precedence_is_not_then_and_then_or() {
    let role = |name: &str| Expression::Role(name.into());
    assert_eq!(
        parse("role:a or role:b and not role:c").unwrap(),
        Expression::Any(vec![
            role("a"),
            Expression::All(vec![role("b"), Expression::Not(Box::new(role("c")))]),
        ])
    );
    assert_eq!(
        parse("(role:a OR role:b) and project_id:%(target.project_id)s").unwrap(),
        Expression::All(vec![
            Expression::Any(vec![role("a"), role("b")]),
            Expression::Equal(
                Operand::Caller("project_id".into()),
                Operand::Target("project_id".into())
            ),
        ])
    );
}

#[test]
fn mistakes_are_found_where_they_are() {
    for (text, column) in [
        ("role:", 1),
        ("member", 1),
        ("role:a and", 11),
        ("role:a role:b", 8),
        ("(role:a", 8),
        ("role:a)", 7),
        ("'open:%(x)s", 1),
        ("project_id:%(x", 1),
        ("colour:%(x)s", 1),
        ("project_id:%()s", 1),
    ] {
        let error = parse(text).expect_err(text);
        assert_eq!(error.column, column, "{text}: {error}");
    }
    assert!(parse(&"(".repeat(5000)).is_err());
    assert!(parse(&"not ".repeat(2000)).is_err());
}

#[test]
fn an_explanation_shows_the_way() {
    let policy = policy();
    let token = Token::for_test("u", Some("p"), &["reader"]);
    let explanation = policy.explain("compute:servers:create", &token, &project("p"));
    assert!(!explanation.allowed);
    let text = explanation.to_string();
    assert!(text.contains("no  the token has the role member (it has: reader)"), "{text}");
    assert!(text.ends_with("refused"), "{text}");
}

fn print(expression: &Expression) -> String {
    let side = |operand: &Operand| match operand {
        Operand::Caller(name) => name.clone(),
        Operand::Target(name) => format!("%({name})s"),
        Operand::Literal(text) => format!("'{text}'"),
    };
    let join = |parts: &[Expression], word: &str| {
        let parts: Vec<String> = parts.iter().map(|part| format!("({})", print(part))).collect();
        parts.join(word)
    };
    match expression {
        Expression::Always => "@".into(),
        Expression::Never => "!".into(),
        Expression::Role(name) => format!("role:{name}"),
        Expression::Rule(name) => format!("rule:{name}"),
        Expression::Equal(left, right) => format!("{}:{}", side(left), side(right)),
        Expression::Not(inner) => format!("not ({})", print(inner)),
        Expression::All(parts) => join(parts, " and "),
        Expression::Any(parts) => join(parts, " or "),
    }
}

fn expressions() -> impl Strategy<Value = Expression> {
    let leaf = prop_oneof![
        Just(Expression::Always),
        Just(Expression::Never),
        "[a-z]{1,6}".prop_map(Expression::Role),
        "[a-z]{1,6}(:[a-z]{1,6})?".prop_map(Expression::Rule),
        ("[a-z_]{1,8}", "[a-z ()]{0,8}").prop_map(|(target, literal)| Expression::Equal(
            Operand::Literal(literal),
            Operand::Target(target)
        )),
        "[a-z_]{1,8}".prop_map(|target| Expression::Equal(
            Operand::Caller("user_id".into()),
            Operand::Target(target)
        )),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|part| Expression::Not(Box::new(part))),
            proptest::collection::vec(inner.clone(), 2..4).prop_map(Expression::All),
            proptest::collection::vec(inner, 2..4).prop_map(Expression::Any),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_printed_parses_back(expression in expressions()) {
        prop_assert_eq!(parse(&print(&expression)), Ok(expression));
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,60}") {
        let _ = parse(&text);
    }

    #[test]
    fn checks_made_of_fragments_do_not_panic(
        words in proptest::collection::vec(
            prop_oneof![Just("and"), Just("or"), Just("not"), Just("("), Just(")"), Just("@"),
                        Just("role:x"), Just("'a b':%(c)s"), Just(":"), Just("%(")], 0..12)
    ) {
        let _ = parse(&words.join(" "));
    }

    #[test]
    fn what_is_allowed_could_be_allowed(expression in expressions(), user in "[a-z]{1,3}") {
        // The route's check before the handler must never refuse what the service would allow.
        let policy = policy();
        let token = Token::for_test("abc", Some("p"), &["member"]);
        let target = Target::user(&user.parse().unwrap()).with("visibility", "public");
        let known = expression.evaluate(&policy, &token, Some(&target));
        let early = expression.evaluate(&policy, &token, None);
        // `not` over a missing attribute is definite once the target is known; early it may only
        // be the same or undecided.
        prop_assert!(early == known || early == Verdict::Perhaps);
    }
}
