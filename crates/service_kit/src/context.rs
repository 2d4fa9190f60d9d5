//! The request's context: what a handler and the services beneath it know about who asks and how.
//! It is made by the guard of the route, before the handler runs, and handed on by reference.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use cloud_types::{Fault, ProjectId, UserId};
use database::Origin;
use http::request::Parts;

use crate::Service;
use crate::fault::ApiFault;
use crate::idempotency::{Answering, Claim};
use crate::microversion::Microversion;
use crate::policy::{Policy, Target};
use crate::token::Token;

/// Everything about the request that is not its body. An axum extractor; cheap to clone.
#[derive(Clone, Debug)]
pub struct Ctx {
    /// `req-<uuid>`, made by us; in the log, the journal, and on the host.
    pub request_id: String,
    /// The caller's own id for a chain of requests (`X-OpenStack-Request-ID`), when well formed.
    pub global_request_id: Option<String>,
    /// The service that was asked.
    pub service: Service,
    /// The verified token; `None` on public routes that were called without one.
    pub token: Option<Arc<Token>>,
    /// The dialect of the answer; [`Microversion::NONE`] for services without microversions.
    pub microversion: Microversion,
    /// `scheme://host[:port]` under which the caller sees us, for links.
    pub base_url: String,
    /// The peer's address; `None` inside a process (tests, workers).
    pub source_ip: Option<IpAddr>,
    /// The caller's `Idempotency-Key`.
    pub idempotency_key: Option<String>,
    /// The claim on that key which this request holds.
    pub claim: Option<Arc<Claim>>,
    /// How the handler shows what is made; see [`Ctx::creating`].
    pub(crate) answering: Option<Answering>,
    /// The rules in force when the request began.
    pub policy: Arc<Policy>,
}

impl Ctx {
    /// A context for work that no request asked for, and for tests. It has no token: give it one
    /// with [`Ctx::with_token`].
    pub fn internal(service: Service, request_id: impl Into<String>, policy: Arc<Policy>) -> Ctx {
        Ctx {
            request_id: request_id.into(),
            global_request_id: None,
            service,
            token: None,
            microversion: service.microversions().map_or(Microversion::NONE, |range| range.max),
            base_url: "http://localhost".to_owned(),
            source_ip: None,
            idempotency_key: None,
            claim: None,
            answering: None,
            policy,
        }
    }

    /// The same context with a token.
    #[must_use]
    pub fn with_token(mut self, token: Arc<Token>) -> Ctx {
        self.token = Some(token);
        self
    }

    /// The token.
    ///
    /// # Errors
    /// 401 on a public route that was called without one.
    pub fn token(&self) -> Result<&Arc<Token>, Fault> {
        self.token.as_ref().ok_or_else(|| {
            Fault::unauthorized("The request you have made requires authentication.")
        })
    }

    /// The user who asks.
    ///
    /// # Errors
    /// 401 without a token.
    pub fn user(&self) -> Result<UserId, Fault> {
        Ok(self.token()?.user_id.clone())
    }

    /// The project in scope.
    ///
    /// # Errors
    /// 401 without a token, 403 with a token that is not scoped to a project.
    pub fn project(&self) -> Result<ProjectId, Fault> {
        match &self.token()?.project {
            Some(project) => Ok(project.id.clone()),
            None => Err(Fault::forbidden(
                "This request needs a token that is scoped to a project; the one given is scoped \
                 to the system, a domain or nothing. Name a project when you authenticate.",
            )),
        }
    }

    /// Who asks, in the journal's terms.
    pub fn origin(&self) -> Origin {
        Origin {
            request_id: self.request_id.clone(),
            actor: self.token.as_ref().map(|token| token.user_id.clone()),
            project: self
                .token
                .as_ref()
                .and_then(|token| token.project.as_ref())
                .map(|project| project.id.clone()),
        }
    }

    /// Whether the token may do `rule` to `target`. A default deny: no token, no right.
    ///
    /// # Errors
    /// 401 without a token, 403 with one that may not.
    pub fn authorise(&self, rule: &str, target: &Target) -> Result<(), Fault> {
        let token = self.token()?;
        if self.policy.allows(rule, token, target) {
            return Ok(());
        }
        Err(crate::policy::denied(self.service, rule))
    }

    /// Whether the token may do `rule` to `target`; for choosing what to show, not for refusing.
    pub fn may(&self, rule: &str, target: &Target) -> bool {
        self.token.as_ref().is_some_and(|token| self.policy.allows(rule, token, target))
    }

    /// Whether the token carries the admin role.
    pub fn is_admin(&self) -> bool {
        self.token.as_ref().is_some_and(|token| token.has_role("admin"))
    }

    /// Whether the client speaks this microversion or a later one.
    pub fn at_least(&self, major: u16, minor: u16) -> bool {
        self.microversion.at_least(major, minor)
    }

    /// `scheme://host[:port]/prefix` of the service that was asked, without a trailing slash.
    pub fn service_url(&self) -> String {
        format!("{}{}", self.base_url, self.service.prefix())
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Ctx {
    type Rejection = ApiFault;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiFault> {
        parts.extensions.get::<Ctx>().cloned().ok_or_else(|| {
            tracing::error!(path = %parts.uri.path(), "a handler runs outside the route guard");
            ApiFault(Fault::internal("The request could not be processed."))
        })
    }
}
