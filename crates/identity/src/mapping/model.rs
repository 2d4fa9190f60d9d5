//! The rules of a mapping as they are written, and reading them strictly. Upstream's schema
//! versions: 1.0; 2.0, where a rule's `domain` is the default for its user and projects; 3.0, which
//! adds `projects_json` and takes away project roles that the provider no longer names.

use cloud_types::Fault;
use regex::{Regex, RegexBuilder};
use serde::Deserialize;
use serde_json::Value;
use service_kit::Ctx;

use crate::wire;

/// A pattern's compiled program may take so many bytes; ordinary ones take a few thousand.
const PATTERN_BYTES: usize = 256 * 1024;
/// Rules of one mapping, and entries of one rule's lists.
const MANY: usize = 1000;

/// Which edition of the rules a mapping is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SchemaVersion {
    V1,
    V2,
    V3,
}

impl SchemaVersion {
    /// Reads `"1.0"`, `"2.0"` or `"3.0"`.
    pub fn parse(text: &str) -> Result<SchemaVersion, Fault> {
        match text {
            "1.0" => Ok(SchemaVersion::V1),
            "2.0" => Ok(SchemaVersion::V2),
            "3.0" => Ok(SchemaVersion::V3),
            _ => Err(Fault::bad_request(
                "Invalid input for field 'schema_version': it is one of 1.0, 2.0 and 3.0.",
            )),
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            SchemaVersion::V1 => "1.0",
            SchemaVersion::V2 => "2.0",
            SchemaVersion::V3 => "3.0",
        }
    }
}

/// The rules, checked and ready to be applied.
#[derive(Debug)]
pub(crate) struct Rules {
    pub version: SchemaVersion,
    pub rules: Vec<Rule>,
}

#[derive(Debug)]
pub(crate) struct Rule {
    pub local: Vec<Local>,
    pub remote: Vec<Requirement>,
}

/// A requirement on one attribute of the assertion.
#[derive(Debug)]
pub(crate) struct Requirement {
    pub attribute: String,
    pub test: Test,
}

/// What is required; [`Test::Present`], [`Test::Whitelist`] and [`Test::Blacklist`] also hand their
/// values on to `{0}`, `{1}` …, counted among those.
#[derive(Debug)]
pub(crate) enum Test {
    Present,
    AnyOneOf(Patterns),
    NotAnyOf(Patterns),
    Whitelist(Patterns),
    Blacklist(Patterns),
}

impl Test {
    pub fn hands_on(&self) -> bool {
        !matches!(self, Test::AnyOneOf(_) | Test::NotAnyOf(_))
    }
}

/// Values to compare with: as they are, or as regular expressions that need to match a part.
#[derive(Debug)]
pub(crate) enum Patterns {
    Values(Vec<String>),
    Regexes(Vec<Regex>),
}

impl Patterns {
    pub fn matches(&self, value: &str) -> bool {
        match self {
            Patterns::Values(values) => values.iter().any(|wanted| wanted == value),
            Patterns::Regexes(regexes) => regexes.iter().any(|regex| regex.is_match(value)),
        }
    }
}

/// What a rule that holds contributes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Local {
    #[serde(default)]
    pub user: Option<LocalUser>,
    #[serde(default)]
    pub group: Option<LocalGroup>,
    #[serde(default)]
    pub groups: Option<String>,
    #[serde(default)]
    pub group_ids: Option<String>,
    #[serde(default)]
    pub projects: Option<Vec<LocalProject>>,
    #[serde(default)]
    pub projects_json: Option<String>,
    #[serde(default)]
    pub domain: Option<LocalDomain>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LocalUser {
    #[serde(default)]
    pub id: Option<String>,
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub email: Option<String>,
    #[serde(default)]
    pub domain: Option<LocalDomain>,
    #[serde(default, rename = "type")]
    pub kind: Option<UserKind>,
}

/// Whether the person gets a user of the provider's, or is a user who exists here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum UserKind {
    Ephemeral,
    Local,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LocalGroup {
    #[serde(default)]
    pub id: Option<String>,
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub domain: Option<LocalDomain>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LocalProject {
    pub name: String,
    pub roles: Vec<LocalRole>,
    #[serde(default)]
    pub domain: Option<LocalDomain>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LocalRole {
    pub name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LocalDomain {
    #[serde(default)]
    pub id: Option<String>,
    #[serde(default)]
    pub name: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleBody {
    local: Vec<Local>,
    remote: Vec<RequirementBody>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RequirementBody {
    #[serde(rename = "type")]
    attribute: String,
    #[serde(default)]
    any_one_of: Option<Vec<String>>,
    #[serde(default)]
    not_any_of: Option<Vec<String>>,
    #[serde(default)]
    whitelist: Option<Vec<String>>,
    #[serde(default)]
    blacklist: Option<Vec<String>>,
    #[serde(default)]
    regex: Option<bool>,
}

impl Rules {
    /// Reads and checks rules.
    ///
    /// # Errors
    /// 400 that says which rule is wrong and why.
    pub fn parse(version: SchemaVersion, rules: &Value) -> Result<Rules, Fault> {
        let bodies: Vec<RuleBody> = service_kit::from_value("rules", rules.clone())?;
        if bodies.is_empty() {
            return Err(Fault::bad_request("Invalid input for field 'rules': [] is too short."));
        }
        if bodies.len() > MANY {
            return Err(Fault::bad_request(format!(
                "Invalid input for field 'rules': a mapping has at most {MANY} rules."
            )));
        }
        let rules = bodies
            .into_iter()
            .enumerate()
            .map(|(index, body)| {
                rule(version, body).map_err(|why| {
                    Fault::bad_request(format!("Invalid input for field 'rules[{index}]': {why}."))
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Rules { version, rules })
    }
}

fn rule(version: SchemaVersion, body: RuleBody) -> Result<Rule, String> {
    if body.remote.is_empty() {
        return Err("'remote' is too short, a rule requires something of the assertion".into());
    }
    if body.remote.len() > MANY || body.local.len() > MANY {
        return Err(format!("'local' and 'remote' have at most {MANY} entries"));
    }
    let remote: Vec<Requirement> =
        body.remote.into_iter().map(requirement).collect::<Result<_, _>>()?;
    let handed_on = remote.iter().filter(|requirement| requirement.test.hands_on()).count();
    for local in &body.local {
        check_local(version, local)?;
        // Without values to hand on, upstream takes the texts as they are.
        if handed_on > 0 {
            for text in texts(local) {
                for part in template(text).map_err(|why| format!("{text:?}: {why}"))? {
                    if let Part::Value(index) = part
                        && index >= handed_on
                    {
                        return Err(format!(
                            "{text:?} takes value {{{index}}}, and 'remote' hands on {handed_on}: \
                             count from 0, without the entries that have any_one_of or not_any_of"
                        ));
                    }
                }
            }
        }
    }
    Ok(Rule { local: body.local, remote })
}

fn requirement(body: RequirementBody) -> Result<Requirement, String> {
    let RequirementBody { attribute, any_one_of, not_any_of, whitelist, blacklist, regex } = body;
    let regex_given = regex.is_some();
    let regex = regex.unwrap_or(false);
    let test = match (any_one_of, not_any_of, whitelist, blacklist) {
        (None, None, None, None) if regex_given => {
            return Err(format!("remote {attribute:?}: 'regex' needs a list to apply to"));
        }
        (None, None, None, None) => Test::Present,
        (Some(values), None, None, None) => Test::AnyOneOf(patterns(values, regex)?),
        (None, Some(values), None, None) => Test::NotAnyOf(patterns(values, regex)?),
        (None, None, Some(values), None) => Test::Whitelist(patterns(values, regex)?),
        (None, None, None, Some(values)) => Test::Blacklist(patterns(values, regex)?),
        _ => {
            return Err(format!(
                "remote {attribute:?} has more than one of any_one_of, not_any_of, whitelist and \
                 blacklist"
            ));
        }
    };
    Ok(Requirement { attribute, test })
}

fn patterns(values: Vec<String>, regex: bool) -> Result<Patterns, String> {
    if values.len() > MANY {
        return Err(format!("a list has at most {MANY} entries"));
    }
    if !regex {
        return Ok(Patterns::Values(values));
    }
    let compiled = values
        .iter()
        .map(|text| {
            RegexBuilder::new(text).size_limit(PATTERN_BYTES).build().map_err(|_| {
                format!(
                    "{text:?} is not a regular expression that can be used here (there is no \
                     look-around and no back-reference)"
                )
            })
        })
        .collect::<Result<_, _>>()?;
    Ok(Patterns::Regexes(compiled))
}

fn check_local(version: SchemaVersion, local: &Local) -> Result<(), String> {
    if let Some(group) = &local.group {
        match (&group.id, &group.name, &group.domain) {
            (Some(_), None, None) | (None, Some(_), Some(_)) => {}
            _ => return Err("'group' has an 'id', or a 'name' and a 'domain'".into()),
        }
    }
    if local.projects_json.is_some() && version < SchemaVersion::V3 {
        return Err("'projects_json' needs schema_version 3.0".into());
    }
    let with_domain = local.projects.iter().flatten().any(|project| project.domain.is_some());
    if with_domain && version < SchemaVersion::V2 {
        return Err("a project's 'domain' needs schema_version 2.0".into());
    }
    Ok(())
}

/// Every text of a local part in which values may stand.
fn texts(local: &Local) -> Vec<&str> {
    fn domain(domain: Option<&LocalDomain>) -> impl Iterator<Item = &String> {
        domain.into_iter().flat_map(|domain| domain.id.iter().chain(&domain.name))
    }
    let mut texts: Vec<&String> = Vec::new();
    if let Some(user) = &local.user {
        texts.extend(user.id.iter().chain(&user.name).chain(&user.email));
        texts.extend(domain(user.domain.as_ref()));
    }
    if let Some(group) = &local.group {
        texts.extend(group.id.iter().chain(&group.name));
        texts.extend(domain(group.domain.as_ref()));
    }
    for project in local.projects.iter().flatten() {
        texts.push(&project.name);
        texts.extend(project.roles.iter().map(|role| &role.name));
        texts.extend(domain(project.domain.as_ref()));
    }
    texts.extend(local.groups.iter().chain(&local.group_ids).chain(&local.projects_json));
    texts.extend(domain(local.domain.as_ref()));
    texts.into_iter().map(String::as_str).collect()
}

/// A piece of a text with values in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Text(String),
    Value(usize),
}

/// Takes a text apart: `{0}` is a value, `{{` and `}}` are braces.
///
/// # Errors
/// Why the text is not one.
pub(crate) fn template(text: &str) -> Result<Vec<Part>, &'static str> {
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut rest = text.chars().peekable();
    while let Some(char) = rest.next() {
        match char {
            '{' if rest.peek() == Some(&'{') => {
                rest.next();
                plain.push('{');
            }
            '}' if rest.peek() == Some(&'}') => {
                rest.next();
                plain.push('}');
            }
            '}' => return Err("a single '}' stands for nothing; write '}}' for the character"),
            '{' => {
                let mut digits = String::new();
                loop {
                    match rest.next() {
                        Some('}') => break,
                        Some(digit) if digit.is_ascii_digit() => digits.push(digit),
                        _ => return Err("between '{' and '}' stands the number of a value"),
                    }
                }
                let index = digits.parse().map_err(|_| "'{}' has no usable number in it")?;
                if !plain.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                }
                parts.push(Part::Value(index));
            }
            other => plain.push(other),
        }
    }
    if !plain.is_empty() {
        parts.push(Part::Text(plain));
    }
    Ok(parts)
}

/// A mapping as it is stored and shown.
#[derive(Clone, Debug)]
pub(crate) struct Mapping {
    pub id: String,
    pub version: SchemaVersion,
    /// As the operator wrote them.
    pub rules: Value,
}

impl Mapping {
    /// What the API shows.
    pub fn view(&self, ctx: &Ctx) -> Value {
        serde_json::json!({
            "id": self.id, "rules": self.rules, "schema_version": self.version.as_str(),
            "links": {"self": wire::self_link(ctx, "OS-FEDERATION/mappings", &self.id)},
        })
    }
}
