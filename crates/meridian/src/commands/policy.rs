//! `meridian policy`.

use anyhow::Result;
use clap::Args;
use control_plane::explain::{self, Question};
use control_plane::identity_scope::Scope;

use crate::State;

/// What is asked.
#[derive(Args)]
pub struct Explain {
    #[command(flatten)]
    state: State,
    /// The user, by id, or by name in the domain of --user-domain.
    #[arg(long)]
    user: String,
    /// The user's domain, by id or name.
    #[arg(long, default_value = "default")]
    user_domain: String,
    /// The rule, for example `identity:create_user`.
    #[arg(long)]
    rule: String,
    /// With a token for this project, by id or name; the default project unless said.
    #[arg(long, conflicts_with_all = ["domain", "system"])]
    project: Option<String>,
    /// With a token for this domain, by id or name.
    #[arg(long, conflicts_with = "system")]
    domain: Option<String>,
    /// With a token for the system.
    #[arg(long)]
    system: bool,
    /// What is acted upon, as far as the rule asks: `user.domain_id=…`. May be repeated.
    #[arg(long, value_name = "NAME=VALUE")]
    target: Vec<String>,
}

/// Prints the answer and the way to it.
pub async fn explain(asked: Explain) -> Result<()> {
    let scope = match (asked.project, asked.domain, asked.system) {
        (Some(project), ..) => Scope::Project(project),
        (_, Some(domain), _) => Scope::Domain(domain),
        (.., true) => Scope::System,
        _ => Scope::Default,
    };
    let question = Question {
        user: asked.user,
        domain: asked.user_domain,
        scope,
        rule: asked.rule,
        target: asked.target,
    };
    let answer = explain::explain(&asked.state.layout()?, &question).await?;
    println!("{}", answer.bearer);
    println!("{}", answer.explanation);
    if answer.could && !answer.explanation.allowed {
        println!("There are targets for which it is allowed: name one with --target.");
    }
    Ok(())
}
