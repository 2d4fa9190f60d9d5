//! `meridian policy explain`: the rules in force, asked for somebody, from the state directory.

use anyhow::{Context, Result, anyhow, bail};
use identity::standing::{self, Scope};
use service_kit::Target;
use service_kit::policy::Explanation;

use crate::config::Config;
use crate::layout::Layout;
use crate::{init, server};

/// Who asks to do what to what.
#[derive(Clone, Debug)]
pub struct Question {
    /// The user, by id or by name in `domain`.
    pub user: String,
    /// The user's domain, by id or name.
    pub domain: String,
    /// What the user's token is for.
    pub scope: Scope,
    /// The rule.
    pub rule: String,
    /// Attributes of what is acted upon: `NAME=VALUE`.
    pub target: Vec<String>,
}

/// What the rules say, and why.
pub struct Answer {
    /// Whose token, for what, with which roles.
    pub bearer: String,
    /// The way through the rule.
    pub explanation: Explanation,
    /// Whether there is a target for which the answer would be yes.
    pub could: bool,
}

/// Asks the rules in force.
pub async fn explain(layout: &Layout, question: &Question) -> Result<Answer> {
    let policy = server::read_policy(layout)?;
    if !policy.contains(&question.rule) {
        bail!(
            "there is no rule {:?}; did you mean {:?}?",
            question.rule,
            policy.most_like(&question.rule)
        );
    }
    let target = Target::from_pairs(&question.target)
        .map_err(|pair| anyhow!("{pair:?} is not NAME=VALUE with a value of the right form"))?;
    let config = Config::read(&layout.config())?;
    let db = init::open_database(layout, &config).await?;
    let token = standing::token_of(&db, &question.user, &question.domain, &question.scope)
        .await
        .map_err(|fault| anyhow!("{fault}"))
        .context("looking for the user's token")?;
    let roles: Vec<&str> = token.roles.iter().map(|role| role.name.as_str()).collect();
    let scope = match (&token.project, &token.domain, token.system) {
        (Some(project), ..) => format!("the project {}", project.id),
        (_, Some(domain), _) => format!("the domain {domain}"),
        (.., true) => "the system".to_owned(),
        _ => "nothing".to_owned(),
    };
    Ok(Answer {
        bearer: format!(
            "{} ({}), with a token for {scope}, has {}",
            token.user_name.as_deref().unwrap_or("?"),
            token.user_id,
            if roles.is_empty() { "no roles".to_owned() } else { roles.join(", ") }
        ),
        explanation: policy.explain(&question.rule, &token, &target),
        could: policy.could_allow(&question.rule, &token),
    })
}
