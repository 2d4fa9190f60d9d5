//! The list of requests: what is sent, by whom, and what is remembered from the answer.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use super::directory;

/// One request. `{name}` in the path, the headers and the body stands for a remembered value.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// What it asks, in words; unique in its group.
    pub name: String,
    /// `admin`, `demo`, `none` (no token) or `wrong` (a token that is none).
    #[serde(rename = "as")]
    pub who: String,
    /// `METHOD SERVICE PATH`, the path from the service's root.
    pub call: String,
    /// Compute's microversion, sent in both headers.
    pub version: Option<String>,
    /// More headers.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// A body of JSON.
    pub body: Option<Value>,
    /// A body of text that claims to be JSON.
    pub text: Option<String>,
    /// A body of so many bytes.
    pub bytes: Option<usize>,
    /// The body's content type, when it is not the obvious one.
    #[serde(rename = "type")]
    pub content_type: Option<String>,
    /// Values to remember: name, and pointer into the answer's body.
    #[serde(default)]
    pub keep: BTreeMap<String, String>,
    /// Values to remember: name, and header of the answer.
    #[serde(default)]
    pub keep_header: BTreeMap<String, String>,
    /// The request is repeated until this pointer (or `status`) shows this value.
    pub until: Option<(String, Value)>,
    /// Only the shape of lists is compared: what is in them differs from cloud to cloud.
    #[serde(default)]
    pub shapes: bool,
    /// Whether the answer is recorded and compared.
    #[serde(default = "yes")]
    pub record: bool,
}

fn yes() -> bool {
    true
}

impl Request {
    /// Method, service and path.
    ///
    /// # Errors
    /// When the call does not consist of three words.
    pub fn parts(&self) -> Result<(&str, &str, &str)> {
        let words: Vec<_> = self.call.split(' ').collect();
        match words.as_slice() {
            [method, service, path] => Ok((method, service, path)),
            _ => bail!("{}: the call is not METHOD SERVICE PATH: {}", self.name, self.call),
        }
    }
}

/// The requests of a group.
///
/// # Errors
/// When the file cannot be read, or two requests have one name.
pub fn read_requests(group: &str) -> Result<Vec<Request>> {
    let path = directory().join(format!("requests/{group}.json"));
    let text = std::fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
    let requests: Vec<Request> =
        serde_json::from_str(&text).with_context(|| format!("{}", path.display()))?;
    for (index, request) in requests.iter().enumerate() {
        request.parts()?;
        if requests[..index].iter().any(|other| other.name == request.name) {
            bail!("{group}: two requests are called {:?}", request.name);
        }
    }
    Ok(requests)
}
