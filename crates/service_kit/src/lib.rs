//! What every service's HTTP side is made of, so that a service writes only its own routes, rules
//! and transactions: request context, faults in upstream's shapes, policy, microversions, strict
//! bodies, paging, quotas, idempotency keys, metrics, and the server itself.
//!
//! A service offers `routes(...) -> Routes` and a `POLICY`; the control plane makes one [`Kit`],
//! puts the tables together with [`App::new`] and runs [`serve`].
//!
//! ```text
//! connection ─ serve ─► App: id, span, service by path ─► Guard of the route: token, rate,
//!   policy, microversion, limits, idempotency ─► handler(Ctx, StrictJson<T>, Filters, Path<T>)
//!   ─► service ─► Kit::transact(&ctx, …) ─► answer or Fault ─► App: body in the service's shape
//! ```

mod app;
mod body;
mod context;
mod delegation;
pub mod fault;
mod filters;
mod guard;
pub mod idempotency;
mod kit;
mod metrics;
pub mod microversion;
mod migrations;
pub mod page;
pub mod policy;
pub mod quota;
mod rate;
pub mod request_id;
mod routes;
mod serve;
mod service;
pub mod tls;
mod token;
mod unread;

pub use app::{App, AppError, Peer};
pub use axum::Json;
pub use body::{Answer, OptionalJson, Path, StrictJson, from_slice, from_value, read_body};
pub use context::Ctx;
pub use delegation::{
    AccessRule, Delegation, TokenApplicationCredential, TokenFederation, TokenOauth, TokenTrust,
};
pub use fault::{ApiFault, ApiResult};
pub use filters::{Filters, encode as percent_encode};
pub use guard::TOKEN_HEADER;
pub use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
pub use idempotency::Created;
pub use kit::{Kit, KitConfig};
pub use metrics::Metrics;
pub use microversion::{Microversion, MicroversionRange};
pub use migrations::MIGRATIONS;
pub use page::PageRequest;
pub use policy::{Policy, PolicyError, PolicyFile, PolicyRule, Target, TokenScope};
pub use rate::RateLimit;
pub use routes::{Access, BodyLimit, RouteInfo, RouteOptions, Routes};
pub use serve::{ServeConfig, serve};
pub use service::Service;
pub use token::{FixedTokens, RECOVERY_METHOD, Token, TokenProject, TokenRole, TokenVerifier};
