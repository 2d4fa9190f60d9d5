//! The binary format of tokens, described in [`super`]. Pure: no clock, no I/O.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cloud_types::{DomainId, ProjectId, RoleId, Timestamp, UserId};
use uuid::Uuid;

use super::basis::Basis;
use super::bytes::{Input, Put, put_count, put_id, put_stamp};
use super::keys::KeySet;

const VERSION: u8 = 1;
const CONTEXT: &[u8] = b"meridian token 1\0";
const SIGNATURE_BYTES: usize = 64;
/// Longest text that is written or looked at. Clients' and proxies' limits for one header are
/// 8 KiB or more.
const MAX_TEXT: usize = 8000;

/// Why a text is no token of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Not base64url, too long or too short, or of another version.
    #[error("the text is not a token")]
    NotAToken,
    /// Signed by a key that this process does not accept.
    #[error("the token was signed by an unknown key")]
    UnknownKey,
    /// The signature does not match.
    #[error("the token's signature is wrong")]
    BadSignature,
    /// Signed by us, but not what this release writes.
    #[error("the token's content is not understood")]
    BadContent,
    /// More roles, groups or access rules than fit in one header.
    #[error("the token would be longer than {MAX_TEXT} characters")]
    TooLong,
}

/// Names one token in revocations and audit trails, without being able to stand for it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct AuditId(pub [u8; 16]);

impl AuditId {
    /// A new random id.
    pub fn random() -> Self {
        AuditId(*Uuid::new_v4().as_bytes())
    }

    /// Reads the text form back.
    pub fn parse(text: &str) -> Option<Self> {
        URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok().map(AuditId)
    }
}

impl fmt::Display for AuditId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for AuditId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An object's id with the serial that was read when the token was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp<T> {
    /// The object.
    pub id: T,
    /// Its serial then.
    pub serial: u64,
}

impl<T> Stamp<T> {
    /// A stamp.
    pub fn new(id: T, serial: u64) -> Self {
        Stamp { id, serial }
    }
}

/// What the roles of a token hold for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Nothing: only good for getting another token.
    Unscoped,
    /// A project, and the domain that owns it.
    Project(Stamp<ProjectId>, Stamp<DomainId>),
    /// A domain.
    Domain(Stamp<DomainId>),
    /// The whole system.
    System,
}

impl Scope {
    /// The scope as one word, as grants are revoked by it.
    pub fn key(&self) -> String {
        match self {
            Scope::Unscoped => "none".to_owned(),
            Scope::Project(project, _) => format!("project:{}", project.id),
            Scope::Domain(domain) => format!("domain:{}", domain.id),
            Scope::System => "system".to_owned(),
        }
    }
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// How the bearer proved who they are.
    pub methods: Methods,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// After this it is refused.
    pub expires_at: Timestamp,
    /// The bearer.
    pub user: Stamp<UserId>,
    /// The bearer's domain.
    pub user_domain: Stamp<DomainId>,
    /// What the roles hold for.
    pub scope: Scope,
    /// Roles as assigned, without those that they imply. At most 255.
    pub roles: Vec<RoleId>,
    /// This token's audit id.
    pub audit_id: AuditId,
    /// That of the token from which the chain of tokens began, where this is not it.
    pub chain_id: Option<AuditId>,
    /// What else it rests on.
    pub basis: Basis,
}

/// How a bearer proved who they are: a set of methods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Methods(pub u16);

impl Methods {
    /// A password.
    pub const PASSWORD: Methods = Methods(1);
    /// Another token.
    pub const TOKEN: Methods = Methods(1 << 1);
    /// A code from an authenticator app.
    pub const TOTP: Methods = Methods(1 << 2);
    /// An application credential.
    pub const APPLICATION_CREDENTIAL: Methods = Methods(1 << 3);
    /// OAuth 1.0a.
    pub const OAUTH1: Methods = Methods(1 << 5);
    /// An identity provider's word, mapped by rules.
    pub const MAPPED: Methods = Methods(1 << 6);
    /// A request signed with an EC2 key.
    pub const EC2: Methods = Methods(1 << 7);
    /// OpenID Connect.
    pub const OPENID: Methods = Methods(1 << 8);

    /// An administrator for an hour, made at the machine's console; only a token that says so is
    /// allowed everything, and only the issuer's look at the user puts it there.
    pub const RECOVERY: Methods = Methods(1 << 9);

    /// The names, by bit.
    const NAMES: [&'static str; 10] = [
        "password",
        "token",
        "totp",
        "application_credential",
        "external",
        "oauth1",
        "mapped",
        "ec2credential",
        "openid",
        service_kit::RECOVERY_METHOD,
    ];

    /// The method of that name.
    pub fn named(name: &str) -> Option<Methods> {
        Methods::NAMES.iter().position(|known| *known == name).map(|bit| Methods(1 << bit))
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Methods) -> Methods {
        Methods(self.0 | other.0)
    }

    /// Whether all of `other` are among these.
    pub fn contains(self, other: Methods) -> bool {
        self.0 & other.0 == other.0
    }

    /// The methods by name, as Keystone lists them.
    pub fn names(self) -> Vec<String> {
        (0..)
            .zip(Methods::NAMES)
            .filter(|(bit, _)| self.0 & (1 << bit) != 0)
            .map(|(_, name)| name.to_owned())
            .collect()
    }
}

impl Claims {
    /// The chain that the token belongs to: its own audit id when it is the first.
    pub fn chain(&self) -> AuditId {
        self.chain_id.unwrap_or(self.audit_id)
    }

    /// All that a revocation may name to end this token.
    pub fn subjects(&self) -> Vec<String> {
        let mut subjects = vec![
            self.audit_id.to_string(),
            self.chain().to_string(),
            self.user.id.to_string(),
            self.user_domain.id.to_string(),
        ];
        match &self.scope {
            Scope::Project(project, domain) => {
                subjects.extend([project.id.to_string(), domain.id.to_string()]);
            }
            Scope::Domain(domain) => subjects.push(domain.id.to_string()),
            Scope::Unscoped | Scope::System => {}
        }
        self.basis.add_subjects(&mut subjects);
        if self.basis.implications.is_some() {
            subjects.extend(self.roles.iter().map(ToString::to_string));
        }
        subjects
    }

    /// The token's text, signed with the key that is in use when it is issued.
    ///
    /// # Errors
    /// [`FormatError::TooLong`].
    pub fn sign(&self, keys: &KeySet) -> Result<String, FormatError> {
        let mut out = Vec::with_capacity(512);
        out.push(VERSION);
        out.extend(keys.signing_id(self.issued_at));
        self.put(&mut out).ok_or(FormatError::TooLong)?;
        let signature = keys.sign(self.issued_at, &message(&out));
        out.extend(signature);
        let text = URL_SAFE_NO_PAD.encode(out);
        if text.len() > MAX_TEXT { Err(FormatError::TooLong) } else { Ok(text) }
    }

    fn put(&self, out: &mut Vec<u8>) -> Put {
        out.extend(self.methods.0.to_be_bytes());
        out.extend(self.issued_at.0.to_be_bytes());
        out.extend(self.expires_at.0.to_be_bytes());
        put_stamp(out, &self.user)?;
        put_stamp(out, &self.user_domain)?;
        match &self.scope {
            Scope::Unscoped => out.push(0),
            Scope::Project(project, domain) => {
                out.push(1);
                put_stamp(out, project)?;
                put_stamp(out, domain)?;
            }
            Scope::Domain(domain) => {
                out.push(2);
                put_stamp(out, domain)?;
            }
            Scope::System => out.push(3),
        }
        put_count(out, self.roles.len())?;
        for role in &self.roles {
            put_id(out, role.as_str())?;
        }
        out.push(1 + u8::from(self.chain_id.is_some()));
        out.extend(self.audit_id.0);
        if let Some(chain) = self.chain_id {
            out.extend(chain.0);
        }
        self.basis.put(out)
    }

    /// Reads a token and checks its signature; neither expiry nor revocation.
    ///
    /// # Errors
    /// What [`FormatError`] says.
    pub fn read(text: &str, keys: &KeySet) -> Result<Claims, FormatError> {
        if text.len() > MAX_TEXT {
            return Err(FormatError::NotAToken);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| FormatError::NotAToken)?;
        let split = bytes.len().checked_sub(SIGNATURE_BYTES).ok_or(FormatError::NotAToken)?;
        let (payload, signature) = bytes.split_at(split);
        let mut input = Input::new(payload);
        if input.byte() != Some(VERSION) {
            return Err(FormatError::NotAToken);
        }
        let key: [u8; 4] = input.array().ok_or(FormatError::NotAToken)?;
        let signature: [u8; 64] = signature.try_into().map_err(|_| FormatError::NotAToken)?;
        match keys.verify(key, &message(payload), &signature) {
            None => return Err(FormatError::UnknownKey),
            Some(false) => return Err(FormatError::BadSignature),
            Some(true) => {}
        }
        input.claims().ok_or(FormatError::BadContent)
    }
}

fn message(payload: &[u8]) -> Vec<u8> {
    [CONTEXT, payload].concat()
}

impl Input<'_> {
    fn claims(&mut self) -> Option<Claims> {
        let methods = Methods(u16::from_be_bytes(self.array()?));
        let issued_at = Timestamp(i64::from_be_bytes(self.array()?));
        let expires_at = Timestamp(i64::from_be_bytes(self.array()?));
        let user = self.stamp()?;
        let user_domain = self.stamp()?;
        let scope = match self.byte()? {
            0 => Scope::Unscoped,
            1 => Scope::Project(self.stamp()?, self.stamp()?),
            2 => Scope::Domain(self.stamp()?),
            3 => Scope::System,
            _ => return None,
        };
        let roles: Vec<RoleId> = self.list(Input::id)?;
        let audits = self.byte()?;
        if !(1..=2).contains(&audits) {
            return None;
        }
        let audit_id = AuditId(self.array()?);
        let chain_id = if audits == 2 { Some(AuditId(self.array()?)) } else { None };
        let basis = Basis::take(self)?;
        if !self.is_empty() {
            return None;
        }
        Some(Claims {
            methods,
            issued_at,
            expires_at,
            user,
            user_domain,
            scope,
            roles,
            audit_id,
            chain_id,
            basis,
        })
    }
}
