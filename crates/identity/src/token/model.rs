//! What a login asks for, and the body that describes a token. Pure.

use cloud_types::{Fault, ProjectId};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use service_kit::{Delegation, TokenApplicationCredential, TokenRole};
use zeroize::Zeroizing;

use super::format::Claims;
use crate::application_credential::model::{ApplicationCredential, OwnRule};
use crate::domain::model::Domain;
use crate::oauth1::service::Signed;
use crate::project::model::Project;
use crate::service_provider::model::ServiceProvider;
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
    #[serde(default)]
    totp: Option<TotpPart>,
    #[serde(default)]
    application_credential: Option<ApplicationCredentialPart>,
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

#[derive(Deserialize)]
struct TotpPart {
    user: TotpUserPart,
}

#[derive(Deserialize)]
struct TotpUserPart {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    domain: Option<DomainPart>,
    passcode: String,
}

#[derive(Deserialize)]
struct ApplicationCredentialPart {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    user: Option<OwnerPart>,
    secret: String,
}

#[derive(Deserialize)]
struct OwnerPart {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    domain: Option<DomainPart>,
}

impl ApplicationCredentialPart {
    fn into_proof(self) -> Result<Proof, Fault> {
        let secret = Zeroizing::new(self.secret);
        let which = match (self.id, self.name, self.user) {
            (Some(id), _, _) => CredentialReference::Id(id),
            (None, Some(name), Some(user)) => {
                CredentialReference::Name(name, reference("user", user.id, user.name, user.domain)?)
            }
            (None, Some(_), None) => return Err(required("application_credential.user")),
            (None, None, _) => return Err(required("application_credential.id (or name)")),
        };
        Ok(Proof::ApplicationCredential(which, secret))
    }
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

/// An application credential by its id, or by its name and user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CredentialReference {
    Id(String),
    Name(String, Reference),
}

/// How the caller proves who they are.
pub(crate) enum Proof {
    Password(Reference, Zeroizing<String>),
    Token(Zeroizing<String>),
    /// A code of an authenticator app.
    Totp(Reference, Zeroizing<String>),
    ApplicationCredential(CredentialReference, Zeroizing<String>),
    /// An access token of OAuth 1.0a: the request itself is signed with it.
    Oauth1(Option<Signed>),
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
    /// What a trust is for.
    Trust(String),
}

/// A login as it was asked for.
pub(crate) struct Login {
    /// One for each method, in the order in which they were named; at least one.
    pub proofs: Vec<Proof>,
    pub scope: WantedScope,
}

impl Login {
    /// Whether the request has to be signed.
    pub fn is_by_oauth(&self) -> bool {
        self.proofs.iter().any(|proof| matches!(proof, Proof::Oauth1(_)))
    }

    /// How the request was signed.
    pub fn signed_as(mut self, signed: &Signed) -> Self {
        for proof in &mut self.proofs {
            if let Proof::Oauth1(as_) = proof {
                *as_ = Some(signed.clone());
            }
        }
        self
    }
}

fn required(what: &str) -> Fault {
    Fault::bad_request(format!("{what} is a required property of the authentication request."))
}

impl AuthBody {
    /// Checks the request's form.
    pub fn into_login(self) -> Result<Login, Fault> {
        let IdentityPart { methods, mut password, mut token, mut totp, mut application_credential } =
            self.auth.identity;
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
                "totp" => {
                    let part = totp.take().ok_or_else(|| required("identity.totp"))?;
                    let user = part.user;
                    let code = Zeroizing::new(user.passcode);
                    Proof::Totp(reference("user", user.id, user.name, user.domain)?, code)
                }
                "application_credential" => application_credential
                    .take()
                    .ok_or_else(|| required("identity.application_credential"))?
                    .into_proof()?,
                "oauth1" => Proof::Oauth1(None),
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
        let by_credential =
            proofs.iter().any(|proof| matches!(proof, Proof::ApplicationCredential(..)));
        if by_credential && scope != WantedScope::Default {
            return Err(Fault::unauthorized(
                "Error authenticating with application credential: Application credentials cannot \
                 request a scope.",
            ));
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
    #[serde(default, rename = "OS-TRUST:trust")]
    trust: Option<TrustPart>,
}

#[derive(Deserialize)]
struct TrustPart {
    id: String,
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
        ScopePart {
            project: Some(it),
            domain: None,
            system: None,
            unscoped: None,
            trust: None,
        } => {
            let ProjectPart { id, name, domain } = it;
            Ok(WantedScope::Project(reference("project", id, name, domain)?))
        }
        ScopePart {
            project: None,
            domain: Some(it),
            system: None,
            unscoped: None,
            trust: None,
        } => Ok(WantedScope::Domain(domain_reference(it)?)),
        ScopePart {
            project: None,
            domain: None,
            system: Some(it),
            unscoped: None,
            trust: None,
        } => match it.all {
            Some(true) => Ok(WantedScope::System),
            _ => Err(Fault::bad_request("auth.scope.system.all must be true.")),
        },
        ScopePart { project: None, domain: None, system: None, unscoped: Some(_), trust: None } => {
            Ok(WantedScope::Unscoped)
        }
        ScopePart {
            project: None,
            domain: None,
            system: None,
            unscoped: None,
            trust: Some(it),
        } => Ok(WantedScope::Trust(it.id)),
        ScopePart { project: None, domain: None, system: None, unscoped: None, trust: None } => {
            Ok(WantedScope::Default)
        }
        _ => Err(Fault::bad_request(
            "auth.scope names more than one of project, domain, system, OS-TRUST:trust and \
             unscoped.",
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
    /// Other clouds whose identity takes this one's word; with the catalogue.
    pub service_providers: Vec<ServiceProvider>,
    /// The application credential, if it still exists.
    pub application_credential: Option<ApplicationCredential>,
}

impl TokenView {
    /// `{"token": {…}}`.
    pub fn body(&self, claims: &Claims) -> Value {
        let mut audit_ids = vec![claims.audit_id.to_string()];
        audit_ids.extend(claims.chain_id.map(|chain| chain.to_string()));
        let mut token = self.basis(claims);
        let own = json!({
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
        if let Value::Object(own) = own {
            token.extend(own);
        }
        let mut token = Value::Object(token);
        if let Some(basis) = &claims.basis.federation {
            let groups: Vec<Value> =
                basis.groups.iter().map(|group| json!({"id": group.id})).collect();
            token["user"]["OS-FEDERATION"] = json!({
                "identity_provider": {"id": basis.identity_provider.id},
                "protocol": {"id": basis.protocol},
                "groups": groups,
            });
            if let Some(user) = token["user"].as_object_mut() {
                user.remove("password_expires_at");
            }
        }
        if !self.service_providers.is_empty() {
            token["service_providers"] =
                self.service_providers.iter().map(ServiceProvider::in_token).collect();
        }
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

    /// What the token rests on, as upstream shows it.
    fn basis(&self, claims: &Claims) -> Map<String, Value> {
        let mut shown = Map::new();
        let Delegation { trust, application_credential, ec2_key: _, oauth, federation: _ } =
            claims.basis.delegation(&claims.user.id);
        if let Some(trust) = trust {
            shown.insert(
                "OS-TRUST:trust".into(),
                json!({
                    "id": trust.id,
                    "impersonation": trust.impersonation,
                    "trustor_user": {"id": trust.trustor},
                    "trustee_user": {"id": trust.trustee},
                }),
            );
        }
        if let Some(oauth) = oauth {
            shown.insert(
                "OS-OAUTH1".into(),
                json!({"access_token_id": oauth.access_token, "consumer_id": oauth.consumer}),
            );
        }
        if let Some(TokenApplicationCredential { id, restricted, access_rules: _ }) =
            application_credential
        {
            let mut credential = json!({"id": id, "restricted": restricted});
            if let Some(known) = &self.application_credential {
                credential["name"] = json!(known.name);
                if !known.access_rules.is_empty() {
                    credential["access_rules"] =
                        known.access_rules.iter().map(OwnRule::public).collect();
                }
            }
            shown.insert("application_credential".into(), credential);
        }
        shown
    }

    /// The project in scope, which endpoint URLs may name.
    pub fn project_id(&self) -> Option<&ProjectId> {
        match &self.scope {
            ScopeView::Project(project, _) => Some(&project.id),
            _ => None,
        }
    }
}
