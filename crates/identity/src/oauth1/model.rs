//! Consumers and their tokens. None of them has a `Debug` that shows a secret.

use std::fmt;

use cloud_types::{Fault, ProjectId, RoleId, Timestamp, UserId};
use serde_json::{Value, json};
use service_kit::Ctx;
use zeroize::Zeroizing;

use crate::vault::{Stored, Vault};
use crate::wire;

/// A program that may ask people to let it act for them.
#[derive(Clone)]
pub(crate) struct Consumer {
    pub id: String,
    pub description: Option<String>,
    pub secret: Stored,
    /// The secret of one that was just made: it is shown once.
    pub made: Option<Zeroizing<String>>,
}

/// Under what a consumer's secret is sealed, before its id.
pub(crate) const CONSUMER: &str = "oauth1 consumer ";
/// The same of a request token.
pub(crate) const REQUEST: &str = "oauth1 request token ";
/// The same of an access token.
pub(crate) const ACCESS: &str = "oauth1 access token ";

impl Consumer {
    /// The secret.
    ///
    /// # Errors
    /// 500 when it does not open.
    pub fn opened(&self, vault: &Vault) -> Result<Zeroizing<String>, Fault> {
        vault.read(&format!("{CONSUMER}{}", self.id), &self.secret)
    }

    /// What the API shows: the secret only once, when it is made.
    pub fn view(&self, ctx: &Ctx) -> Value {
        json!({
            "id": self.id,
            "description": self.description,
            "links": {"self": wire::self_link(ctx, "OS-OAUTH1/consumers", &self.id)},
        })
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A question to a person: may the consumer act for you in this project?
#[derive(Clone)]
pub(crate) struct RequestToken {
    pub id: String,
    pub secret: Zeroizing<String>,
    pub consumer_id: String,
    pub project_id: ProjectId,
    pub expires_at: Timestamp,
    /// What the person answered.
    pub authorised: Option<Authorised>,
}

/// A person's yes.
#[derive(Clone)]
pub(crate) struct Authorised {
    pub user_id: UserId,
    pub roles: Vec<RoleId>,
    /// Proves to us that the consumer heard of it from the person.
    pub verifier: Zeroizing<String>,
}

/// The right of a consumer to act for a person.
#[derive(Clone)]
pub(crate) struct AccessToken {
    pub id: String,
    pub secret: Stored,
    /// The secret of one that was just made: it is shown once.
    pub made: Option<Zeroizing<String>>,
    pub consumer_id: String,
    pub project_id: ProjectId,
    pub user_id: UserId,
    pub roles: Vec<RoleId>,
    pub expires_at: Timestamp,
}

impl AccessToken {
    /// The secret.
    ///
    /// # Errors
    /// 500 when it does not open.
    pub fn opened(&self, vault: &Vault) -> Result<Zeroizing<String>, Fault> {
        vault.read(&format!("{ACCESS}{}", self.id), &self.secret)
    }

    /// What the API shows.
    pub fn view(&self, ctx: &Ctx) -> Value {
        let own = format!(
            "{}/v3/users/{}/OS-OAUTH1/access_tokens/{}",
            ctx.service_url(),
            self.user_id,
            self.id
        );
        json!({
            "id": self.id,
            "consumer_id": self.consumer_id,
            "project_id": self.project_id,
            "authorizing_user_id": self.user_id,
            "expires_at": self.expires_at.rfc3339_micros(),
            "links": {"self": own, "roles": format!("{own}/roles")},
        })
    }
}
