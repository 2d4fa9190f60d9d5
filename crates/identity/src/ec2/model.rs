//! What a key looks like on EC2's routes, and what is asked about a signed request. Pure.

use std::collections::BTreeMap;

use cloud_types::Fault;
use serde::Deserialize;
use serde_json::{Value, json};
use service_kit::Ctx;

use crate::credential::model::Credential;
use crate::wire;

/// What the API shows of a key: its secret, too, as upstream does.
pub(crate) fn view(ctx: &Ctx, credential: &Credential) -> Result<Value, Fault> {
    let blob = credential.ec2()?;
    let collection = format!("users/{}/credentials/OS-EC2", credential.user_id);
    Ok(json!({
        "user_id": credential.user_id,
        "tenant_id": credential.project_id,
        "access": blob.access,
        "secret": blob.text("secret"),
        "trust_id": blob.text("trust_id"),
        "links": {"self": wire::self_link(ctx, &collection, &blob.access)},
    }))
}

/// A request that was signed, as a service saw it. No `Debug`: it may hold a signature that is
/// still good.
#[derive(Clone, Default, Deserialize)]
pub(crate) struct Signed {
    #[serde(default)]
    pub access: Option<String>,
    #[serde(default)]
    pub signature: Option<String>,
    /// S3: what was signed, in base64url.
    #[serde(default)]
    pub token: Option<String>,
    #[serde(default)]
    pub host: Option<String>,
    #[serde(default)]
    pub verb: Option<String>,
    #[serde(default)]
    pub path: Option<String>,
    #[serde(default)]
    pub params: BTreeMap<String, Value>,
    #[serde(default)]
    pub headers: BTreeMap<String, Value>,
    #[serde(default)]
    pub body_hash: Option<String>,
}

impl Signed {
    /// A parameter as text; numbers and truth values as they are written.
    pub fn param(&self, name: &str) -> Option<String> {
        self.params.get(name).map(text_of)
    }

    /// A header by its exact name.
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers.get(name).map(text_of)
    }

    /// When the request was signed, as far as it says so.
    pub fn signed_at(&self) -> Option<String> {
        self.param("Timestamp")
            .or_else(|| self.header("X-Amz-Date"))
            .or_else(|| self.param("X-Amz-Date"))
            .filter(|text| !text.is_empty())
    }
}

pub(super) fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The body: `credentials`, `credential` or `ec2Credentials`, as clients have called it.
#[derive(Deserialize)]
pub(crate) struct SignedBody {
    #[serde(default)]
    credentials: Option<Signed>,
    #[serde(default)]
    credential: Option<Signed>,
    #[serde(default, rename = "ec2Credentials")]
    ec2_credentials: Option<Signed>,
}

impl SignedBody {
    pub fn into_signed(self) -> Signed {
        self.credentials.or(self.credential).or(self.ec2_credentials).unwrap_or_default()
    }
}
