//! The binary format of tokens, described in [`super`]. Pure: no clock, no I/O.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cloud_types::{DomainId, ProjectId, RoleId, Timestamp, UserId};
use uuid::Uuid;

use super::keys::KeySet;

const VERSION: u8 = 1;
const CONTEXT: &[u8] = b"meridian token 1\0";
const SIGNATURE_BYTES: usize = 64;
/// Longest text that is looked at: a token with 255 roles has about 6 KiB.
const MAX_TEXT: usize = 8192;
const DEFAULT_WORD: &str = "default";

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
    /// Bits, see [`super`].
    pub methods: u8,
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
}

/// The methods' names, by bit.
pub const METHODS: [&str; 5] = ["password", "token", "totp", "application_credential", "external"];

impl Claims {
    /// The chain that the token belongs to: its own audit id when it is the first.
    pub fn chain(&self) -> AuditId {
        self.chain_id.unwrap_or(self.audit_id)
    }

    /// The methods by name, as Keystone lists them.
    pub fn method_names(&self) -> Vec<String> {
        METHODS
            .iter()
            .enumerate()
            .filter(|(bit, _)| self.methods & (1 << bit) != 0)
            .map(|(_, name)| (*name).to_owned())
            .collect()
    }

    /// The token's text, signed with the newest key.
    pub fn sign(&self, keys: &KeySet) -> String {
        let mut out = Vec::with_capacity(256);
        out.push(VERSION);
        out.extend(keys.signing_id());
        out.push(self.methods);
        out.extend(self.issued_at.0.to_be_bytes());
        out.extend(self.expires_at.0.to_be_bytes());
        put_stamp(&mut out, self.user.id.as_str(), self.user.serial);
        put_stamp(&mut out, self.user_domain.id.as_str(), self.user_domain.serial);
        match &self.scope {
            Scope::Unscoped => out.push(0),
            Scope::Project(project, domain) => {
                out.push(1);
                put_stamp(&mut out, project.id.as_str(), project.serial);
                put_stamp(&mut out, domain.id.as_str(), domain.serial);
            }
            Scope::Domain(domain) => {
                out.push(2);
                put_stamp(&mut out, domain.id.as_str(), domain.serial);
            }
            Scope::System => out.push(3),
        }
        let roles = &self.roles[..self.roles.len().min(255)];
        out.push(u8::try_from(roles.len()).unwrap_or(255));
        for role in roles {
            put_id(&mut out, role.as_str());
        }
        out.push(1 + u8::from(self.chain_id.is_some()));
        out.extend(self.audit_id.0);
        if let Some(chain) = self.chain_id {
            out.extend(chain.0);
        }
        let signature = keys.sign(&message(&out));
        out.extend(signature);
        URL_SAFE_NO_PAD.encode(out)
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
        let mut input = Input(payload);
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

fn put_stamp(out: &mut Vec<u8>, id: &str, serial: u64) {
    put_id(out, id);
    let mut rest = serial;
    loop {
        let low = (rest & 0x7f) as u8;
        rest >>= 7;
        if rest == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Identifiers have 1 to 64 bytes, by their type.
fn put_id(out: &mut Vec<u8>, id: &str) {
    if id == DEFAULT_WORD {
        out.push(1);
        return;
    }
    if let Ok(uuid) = Uuid::try_parse(id)
        && uuid.simple().to_string() == id
    {
        out.push(0);
        out.extend(uuid.as_bytes());
        return;
    }
    out.push(u8::try_from(id.len() + 1).unwrap_or(u8::MAX));
    out.extend(id.as_bytes());
}

struct Input<'b>(&'b [u8]);

impl Input<'_> {
    fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn id<T: std::str::FromStr>(&mut self) -> Option<T> {
        let text = match self.byte()? {
            0 => Uuid::from_bytes(self.array()?).simple().to_string(),
            1 => DEFAULT_WORD.to_owned(),
            length => {
                let (head, rest) = self.0.split_at_checked(usize::from(length) - 1)?;
                self.0 = rest;
                std::str::from_utf8(head).ok()?.to_owned()
            }
        };
        text.parse().ok()
    }

    fn stamp<T: std::str::FromStr>(&mut self) -> Option<Stamp<T>> {
        let id = self.id()?;
        let mut serial = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            serial |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(Stamp { id, serial });
            }
        }
        None
    }

    fn claims(&mut self) -> Option<Claims> {
        let methods = self.byte()?;
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
        let count = self.byte()?;
        let roles = (0..count).map(|_| self.id()).collect::<Option<Vec<RoleId>>>()?;
        let audits = self.byte()?;
        if !(1..=2).contains(&audits) {
            return None;
        }
        let audit_id = AuditId(self.array()?);
        let chain_id = if audits == 2 { Some(AuditId(self.array()?)) } else { None };
        if !self.0.is_empty() {
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
        })
    }
}
