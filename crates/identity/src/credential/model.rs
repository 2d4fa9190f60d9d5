//! What a credential is. Pure.

use std::fmt;

use cloud_types::{Fault, ProjectId, Timestamp, UserId};
use serde_json::{Map, Value, json};
use service_kit::{Ctx, Target, Token};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::wire;

/// The type of EC2 keys.
pub(crate) const EC2: &str = "ec2";
/// The type of TOTP seeds.
pub(crate) const TOTP: &str = "totp";
/// What an EC2 key may be bound to, by the names in its blob.
const BOUND: [&str; 4] = ["trust_id", "app_cred_id", "access_token_id", "access_id"];

/// A credential, opened.
#[derive(Clone)]
pub(crate) struct Credential {
    pub id: String,
    pub user_id: UserId,
    pub project_id: Option<ProjectId>,
    pub kind: String,
    pub blob: Zeroizing<String>,
    pub extra: Map<String, Value>,
    /// Raised with every change; tokens that were got with the credential name it.
    pub serial: u64,
    /// The last step of time whose code was used, of a TOTP seed.
    pub totp_step: Option<i64>,
    pub generation: i64,
    pub created_at: Timestamp,
}

/// Leaves out the secret.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("id", &self.id)
            .field("user_id", &self.user_id)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// The id of an EC2 key.
pub(crate) fn id_of_access_key(access: &str) -> String {
    let digest = Sha256::digest(access.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Credential {
    /// What the API shows.
    pub fn view(&self, ctx: &Ctx) -> Value {
        let mut view = self.public();
        view["blob"] = json!(*self.blob);
        view["links"] = json!({"self": wire::self_link(ctx, "credentials", &self.id)});
        view
    }

    /// What the journal keeps: no secret.
    pub fn public(&self) -> Value {
        let mut view = self.extra.clone();
        view.insert("id".into(), json!(self.id));
        view.insert("user_id".into(), json!(self.user_id));
        view.insert("project_id".into(), json!(self.project_id));
        view.insert("type".into(), json!(self.kind));
        Value::Object(view)
    }

    /// Where a rule about it looks.
    pub fn target(&self) -> Target {
        owned_by(&self.user_id)
    }

    /// The blob of an EC2 key.
    pub fn ec2(&self) -> Result<Ec2Blob, Fault> {
        Ec2Blob::read(&self.blob)
    }
}

/// A credential of somebody.
pub(crate) fn owned_by(user: &UserId) -> Target {
    Target::user(user).with("credential.user_id", user.as_str())
}

/// What an EC2 key holds. No `Debug`: it is a secret.
pub(crate) struct Ec2Blob {
    map: Map<String, Value>,
    pub access: String,
}

impl Ec2Blob {
    /// Reads the text of a blob.
    pub fn read(text: &str) -> Result<Ec2Blob, Fault> {
        let map = match serde_json::from_str::<Value>(text) {
            Ok(Value::Object(map)) if !map.is_empty() => map,
            Ok(_) => {
                return Err(Fault::bad_request(
                    "Invalid input for field 'blob': the blob of an ec2 credential is the text of \
                     a JSON object with access and secret.",
                ));
            }
            Err(_) => return Err(Fault::bad_request("Invalid blob in credential")),
        };
        let access = match map.get("access") {
            Some(Value::String(access)) if !access.is_empty() => access.clone(),
            _ => {
                return Err(Fault::bad_request(
                    "Expecting to find access in credential. The blob must name it.",
                ));
            }
        };
        Ok(Ec2Blob { map, access })
    }

    /// A text of the blob.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.map.get(name).and_then(Value::as_str)
    }

    /// Binds a new key to what the caller's token rests on, whatever the caller wrote.
    pub fn bind(&mut self, token: &Token) {
        let delegation = &token.delegation;
        let bound = [
            ("trust_id", delegation.trust.as_ref().map(|it| &it.id)),
            ("app_cred_id", delegation.application_credential.as_ref().map(|it| &it.id)),
            ("access_token_id", delegation.oauth.as_ref().map(|it| &it.access_token)),
        ];
        for (name, id) in bound {
            if let Some(id) = id {
                self.map.insert(name.into(), json!(id));
            }
        }
    }

    /// What it is bound to cannot be changed.
    pub fn check_bound(&self, before: &Ec2Blob) -> Result<(), Fault> {
        match BOUND.into_iter().find(|name| self.map.get(*name) != before.map.get(*name)) {
            None => Ok(()),
            Some(name) => {
                Err(Fault::bad_request(format!("{name} can not be updated for credential")))
            }
        }
    }

    /// The blob's text.
    pub fn into_text(self) -> Zeroizing<String> {
        Zeroizing::new(Value::Object(self.map).to_string())
    }
}

/// With delegated rights (a trust, an application credential, OAuth) one sees and changes only
/// credentials of the project that these are for, and none that belong to the user alone, such as
/// TOTP seeds: whoever stole such a token must not get more with it.
///
/// # Errors
/// 403.
pub(crate) fn check_delegated_project(
    token: &Token,
    project: Option<&ProjectId>,
) -> Result<(), Fault> {
    if !is_cut_out(token) {
        return Ok(());
    }
    let own = token.project.as_ref().map(|project| &project.id);
    if own.is_some() && own == project {
        return Ok(());
    }
    Err(Fault::forbidden(
        "You are not authorized to perform the requested action: Credential project does not match \
         the project scope of the delegated token.",
    ))
}

/// Whether the token's rights are a part of somebody's.
pub(crate) fn is_cut_out(token: &Token) -> bool {
    token.delegation.is_delegated() || token.delegation.application_credential.is_some()
}

/// A restricted application credential makes no more credentials.
///
/// # Errors
/// 403.
pub(crate) fn check_unrestricted(token: &Token) -> Result<(), Fault> {
    match &token.delegation.application_credential {
        Some(credential) if credential.restricted => Err(Fault::forbidden(
            "You are not authorized to perform the requested action: Using method \
             'application_credential' is not allowed for managing additional application \
             credentials.",
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ec2_blob_names_its_access_key_and_keeps_what_it_is_bound_to() {
        for bad in ["", "x", "[]", "{}", "7", "{\"access\": 5}", "{\"access\": \"\"}"] {
            assert!(Ec2Blob::read(bad).is_err(), "{bad}");
        }
        let text = "{\"access\": \"a\", \"secret\": \"s\", \"trust_id\": \"mine\"}";
        let mut blob = Ec2Blob::read(text).unwrap();
        let mut token = Token::for_test("u", Some("p"), &["member"]);
        token.delegation.trust = Some(service_kit::TokenTrust {
            id: "t".into(),
            trustor: token.user_id.clone(),
            trustee: token.user_id.clone(),
            impersonation: false,
        });
        blob.bind(&token);
        assert_eq!(blob.text("trust_id"), Some("t"));
        let free = Ec2Blob::read("{\"access\": \"a\", \"secret\": \"other\"}").unwrap();
        assert!(free.check_bound(&blob).is_err());
        let other = "{\"access\": \"b\", \"secret\": \"other\", \"trust_id\": \"t\"}";
        assert!(Ec2Blob::read(other).unwrap().check_bound(&blob).is_ok());
    }

    #[test]
    fn delegated_rights_reach_only_their_own_project() {
        let project = |id: &str| -> ProjectId { id.parse().unwrap() };
        let mut token = Token::for_test("u", Some("p"), &["member"]);
        for wanted in [Some(project("p")), Some(project("q")), None] {
            assert!(check_delegated_project(&token, wanted.as_ref()).is_ok());
        }
        token.delegation.oauth =
            Some(service_kit::TokenOauth { consumer: "c".into(), access_token: "t".into() });
        assert!(check_delegated_project(&token, Some(&project("p"))).is_ok());
        assert!(check_delegated_project(&token, Some(&project("q"))).is_err());
        assert!(check_delegated_project(&token, None).is_err());
        token.project = None;
        assert!(check_delegated_project(&token, None).is_err());
    }
}
