//! What a login asks for, and the body that describes a token. Pure.

use cloud_types::{Fault, ProjectId};
use serde::Deserialize;
use serde_json::{Value, json};
use service_kit::TokenRole;
use zeroize::Zeroizing;

use super::format::Claims;
use crate::domain::model::Domain;
use crate::project::model::Project;
use crate::user::model::User;

/// The body of `POST /v3/auth/tokens`. It has no `Debug`: it holds passwords and tokens.
#[derive(Deserialize)]
pub(crate) struct AuthBody {
    auth: AuthPart,
}

#[derive(Deserialize)]
struct AuthPart {
    identity: IdentityPart,
    #[serde(default)]
    scope: Option<Value>,
}

#[derive(Deserialize)]
struct IdentityPart {
    methods: Vec<String>,
    #[serde(default)]
    password: Option<PasswordPart>,
    #[serde(default)]
    token: Option<TokenPart>,
}

#[derive(Deserialize)]
struct PasswordPart {
    user: UserPart,
}

#[derive(Deserialize)]
struct UserPart {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    domain: Option<DomainPart>,
    password: String,
}

#[derive(Deserialize)]
struct TokenPart {
    id: String,
}

#[derive(Clone, Debug, Deserialize)]
struct DomainPart {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    name: Option<String>,
}

/// An object by its id, or by its name within a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reference {
    Id(String),
    Name(String, DomainReference),
}

/// A domain by id or name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DomainReference {
    Id(String),
    Name(String),
}

/// How the caller proves who they are.
pub(crate) enum Proof {
    Password(Reference, Zeroizing<String>),
    Token(Zeroizing<String>),
}

/// The scope that the caller asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WantedScope {
    /// The default project where there is one that works, else none.
    Default,
    Unscoped,
    Project(Reference),
    Domain(DomainReference),
    System,
}

/// A login as it was asked for.
pub(crate) struct Login {
    /// One for each method, in the order in which they were named; at least one.
    pub proofs: Vec<Proof>,
    pub scope: WantedScope,
}

fn required(what: &str) -> Fault {
    Fault::bad_request(format!("{what} is a required property of the authentication request."))
}

impl AuthBody {
    /// Checks the request's form.
    pub fn into_login(self) -> Result<Login, Fault> {
        let IdentityPart { methods, mut password, mut token } = self.auth.identity;
        let scope = wanted_scope(self.auth.scope)?;
        let mut proofs = Vec::with_capacity(methods.len());
        let mut seen: Vec<String> = Vec::with_capacity(methods.len());
        for method in methods {
            if seen.contains(&method) {
                continue;
            }
            proofs.push(match method.as_str() {
                "password" => {
                    let part = password.take().ok_or_else(|| required("identity.password"))?;
                    let user = part.user;
                    let secret = Zeroizing::new(user.password);
                    Proof::Password(reference("user", user.id, user.name, user.domain)?, secret)
                }
                "token" => {
                    let part = token.take().ok_or_else(|| required("identity.token"))?;
                    Proof::Token(Zeroizing::new(part.id))
                }
                _ => {
                    return Err(Fault::unauthorized(
                        "Attempted to authenticate with an unsupported method.",
                    ));
                }
            });
            seen.push(method);
        }
        if proofs.is_empty() {
            return Err(required("identity.methods"));
        }
        Ok(Login { proofs, scope })
    }
}

fn reference(
    what: &str,
    id: Option<String>,
    name: Option<String>,
    domain: Option<DomainPart>,
) -> Result<Reference, Fault> {
    match (id, name, domain) {
        (Some(id), _, _) => Ok(Reference::Id(id)),
        (None, Some(name), Some(domain)) => Ok(Reference::Name(name, domain_reference(domain)?)),
        (None, Some(_), None) => Err(required(&format!("{what}.domain"))),
        (None, None, _) => Err(required(&format!("{what}.id (or name)"))),
    }
}

fn domain_reference(part: DomainPart) -> Result<DomainReference, Fault> {
    match (part.id, part.name) {
        (Some(id), _) => Ok(DomainReference::Id(id)),
        (None, Some(name)) => Ok(DomainReference::Name(name)),
        (None, None) => Err(required("domain.id (or name)")),
    }
}

#[derive(Deserialize)]
struct ScopePart {
    #[serde(default)]
    project: Option<ProjectPart>,
    #[serde(default)]
    domain: Option<DomainPart>,
    #[serde(default)]
    system: Option<SystemPart>,
    #[serde(default)]
    unscoped: Option<Value>,
}

#[derive(Deserialize)]
struct ProjectPart {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    domain: Option<DomainPart>,
}

#[derive(Deserialize)]
struct SystemPart {
    #[serde(default)]
    all: Option<bool>,
}

fn wanted_scope(scope: Option<Value>) -> Result<WantedScope, Fault> {
    let scope = match scope {
        None | Some(Value::Null) => return Ok(WantedScope::Default),
        Some(Value::String(word)) if word == "unscoped" => return Ok(WantedScope::Unscoped),
        Some(other) => service_kit::from_value::<ScopePart>("auth.scope", other)?,
    };
    match scope {
        ScopePart { project: Some(project), domain: None, system: None, unscoped: None } => {
            let ProjectPart { id, name, domain } = project;
            Ok(WantedScope::Project(reference("project", id, name, domain)?))
        }
        ScopePart { project: None, domain: Some(domain), system: None, unscoped: None } => {
            Ok(WantedScope::Domain(domain_reference(domain)?))
        }
        ScopePart { project: None, domain: None, system: Some(system), unscoped: None } => {
            match system.all {
                Some(true) => Ok(WantedScope::System),
                _ => Err(Fault::bad_request("auth.scope.system.all must be true.")),
            }
        }
        ScopePart { project: None, domain: None, system: None, unscoped: Some(_) } => {
            Ok(WantedScope::Unscoped)
        }
        ScopePart { project: None, domain: None, system: None, unscoped: None } => {
            Ok(WantedScope::Default)
        }
        _ => Err(Fault::bad_request(
            "auth.scope names more than one of project, domain, system and unscoped.",
        )),
    }
}

/// The scope of a token with what its body shows of it.
#[derive(Clone, Debug)]
pub(crate) enum ScopeView {
    Unscoped,
    Project(Box<Project>, Box<Domain>),
    Domain(Box<Domain>),
    System,
}

/// Everything that the body of a token shows.
#[derive(Clone, Debug)]
pub(crate) struct TokenView {
    pub user: User,
    pub user_domain: Domain,
    pub scope: ScopeView,
    pub roles: Vec<TokenRole>,
    /// `None` where the caller asked for no catalogue, or the token is unscoped.
    pub catalog: Option<Value>,
}

impl TokenView {
    /// `{"token": {…}}`.
    pub fn body(&self, claims: &Claims) -> Value {
        let mut audit_ids = vec![claims.audit_id.to_string()];
        audit_ids.extend(claims.chain_id.map(|chain| chain.to_string()));
        let mut token = json!({
            "methods": claims.methods.names(),
            "user": {
                "id": self.user.id,
                "name": self.user.name,
                "domain": {"id": self.user_domain.id, "name": self.user_domain.name},
                "password_expires_at": self.user.password_expires_at(),
            },
            "audit_ids": audit_ids,
            "issued_at": claims.issued_at.rfc3339_micros(),
            "expires_at": claims.expires_at.rfc3339_micros(),
        });
        match &self.scope {
            ScopeView::Unscoped => return json!({"token": token}),
            ScopeView::Project(project, domain) => {
                token["project"] = json!({
                    "id": project.id,
                    "name": project.name,
                    "domain": {"id": domain.id, "name": domain.name},
                });
                token["is_domain"] = json!(false);
            }
            ScopeView::Domain(domain) => {
                token["domain"] = json!({"id": domain.id, "name": domain.name});
            }
            ScopeView::System => token["system"] = json!({"all": true}),
        }
        token["roles"] =
            self.roles.iter().map(|role| json!({"id": role.id, "name": role.name})).collect();
        if let Some(catalog) = &self.catalog {
            token["catalog"] = catalog.clone();
        }
        json!({"token": token})
    }

    /// The project in scope, which endpoint URLs may name.
    pub fn project_id(&self) -> Option<&ProjectId> {
        match &self.scope {
            ScopeView::Project(project, _) => Some(&project.id),
            _ => None,
        }
    }
}
