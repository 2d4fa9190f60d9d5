//! What a verified token says about its bearer, and the seam behind which identity verifies it.

use std::sync::Arc;

use cloud_types::{DomainId, Fault, ProjectId, RoleId, Timestamp, UserId};

use crate::delegation::Delegation;

/// The project that a token is scoped to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenProject {
    /// The project.
    pub id: ProjectId,
    /// Its domain.
    pub domain_id: DomainId,
    /// Its name, where the verifier knows it without asking the database.
    pub name: Option<String>,
}

/// A role that a token carries; implied roles are already expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRole {
    /// The role.
    pub id: RoleId,
    /// Its name, which policy rules speak of.
    pub name: String,
}

/// A verified token: who asks, for which scope, with which roles. Holds nothing secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The user.
    pub user_id: UserId,
    /// The user's name, where the verifier knows it without asking the database.
    pub user_name: Option<String>,
    /// The user's domain.
    pub user_domain_id: DomainId,
    /// The project in scope.
    pub project: Option<TokenProject>,
    /// The domain in scope.
    pub domain: Option<DomainId>,
    /// Whether the scope is the whole system.
    pub system: bool,
    /// Roles in the scope, implied ones included.
    pub roles: Vec<TokenRole>,
    /// How the user proved who they are: `password`, `token` …
    pub methods: Vec<String>,
    /// When the token was issued.
    pub issued_at: Timestamp,
    /// After this it is refused.
    pub expires_at: Timestamp,
    /// This token's audit id and, after it, that of the first token of the chain.
    pub audit_ids: Vec<String>,
    /// What else it rests on.
    pub delegation: Delegation,
}

/// The method of a token that a recovery at the machine's console led to.
pub const RECOVERY_METHOD: &str = "recovery";

impl Token {
    /// Whether the token was given to an administrator who was made at the machine's console. Every
    /// rule allows such a token everything, whatever the policy file says: it is the way back in.
    pub fn is_recovery(&self) -> bool {
        self.methods.iter().any(|method| method == RECOVERY_METHOD)
    }

    /// Whether the token carries the role of that name, in any letter case as oslo.policy does.
    pub fn has_role(&self, name: &str) -> bool {
        self.roles.iter().any(|role| role.name.eq_ignore_ascii_case(name))
    }

    /// A token for tests: the user in the project, with these role names and, for the built-in
    /// personas, the roles that they imply (admin, manager, member, reader).
    pub fn for_test(user: &str, project: Option<&str>, roles: &[&str]) -> Token {
        let domain: DomainId = fixed("default");
        let ladder = ["admin", "manager", "member", "reader"];
        let mut names: Vec<&str> = Vec::new();
        for role in roles {
            let implied = ladder
                .iter()
                .position(|step| step == role)
                .map_or(std::slice::from_ref(role), |at| &ladder[at..]);
            for name in implied {
                if !names.contains(name) {
                    names.push(name);
                }
            }
        }
        Token {
            user_id: fixed(user),
            user_name: Some(user.to_owned()),
            user_domain_id: domain.clone(),
            project: project.map(|id| TokenProject {
                id: fixed(id),
                domain_id: domain,
                name: Some(id.to_owned()),
            }),
            domain: None,
            system: false,
            roles: names
                .into_iter()
                .map(|name| TokenRole { id: fixed(name), name: name.to_owned() })
                .collect(),
            methods: vec!["password".to_owned()],
            issued_at: Timestamp(0),
            expires_at: Timestamp(i64::MAX),
            audit_ids: vec!["test".to_owned()],
            delegation: Delegation::default(),
        }
    }
}

/// Reads an identifier that a test wrote down; falls back to a random one rather than panic.
fn fixed<T: std::str::FromStr + RandomId>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| T::random_id())
}

trait RandomId {
    fn random_id() -> Self;
}
macro_rules! random_id {
    ($($name:ident),*) => {$(impl RandomId for $name { fn random_id() -> Self { $name::random() } })*};
}
random_id!(UserId, ProjectId, RoleId, DomainId);

/// Verifies tokens without any I/O, so that every request can afford it. Identity implements it.
pub trait TokenVerifier: Send + Sync + 'static {
    /// What the token says.
    ///
    /// # Errors
    /// 401 when it is malformed, forged, expired or revoked; 503 when revocations have not been
    /// heard of for too long to be sure.
    fn verify(&self, text: &str, now: Timestamp) -> Result<Arc<Token>, Fault>;

    /// Whether tokens may be used to change something: asked before every mutating request. A
    /// process that has not heard of revocations for a while serves reads only.
    ///
    /// # Errors
    /// 503 when it has not.
    fn may_write(&self) -> Result<(), Fault> {
        Ok(())
    }
}

/// A verifier for tests: a fixed table of token texts.
#[derive(Default)]
pub struct FixedTokens(pub std::collections::HashMap<String, Arc<Token>>);

impl FixedTokens {
    /// Adds a token.
    #[must_use]
    pub fn with(mut self, text: &str, token: Token) -> Self {
        self.0.insert(text.to_owned(), Arc::new(token));
        self
    }
}

impl TokenVerifier for FixedTokens {
    fn verify(&self, text: &str, _now: Timestamp) -> Result<Arc<Token>, Fault> {
        self.0.get(text).cloned().ok_or_else(|| {
            Fault::unauthorized("The request you have made requires authentication.")
        })
    }
}
