//! The table of routes. Every route says who may call it; nothing can be added without, and the
//! table itself is public so that a test can walk it.

use axum::handler::Handler;
use axum::routing::{MethodFilter, MethodRouter, on};
use http::Method;
use std::time::Duration;

use crate::Service;

/// Who may call a route, decided before its handler runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody, with or without a token. A token that is sent is not even looked at, except that
    /// the handler finds it in the context when it is valid.
    Public,
    /// Anybody with a valid token.
    Token,
    /// Whoever could satisfy the rule for some target; the service asks again with the real one.
    Rule(&'static str),
    /// Whoever could satisfy one of the rules for some target: the service finds out which of them
    /// the request is about, and asks that one.
    AnyOf(&'static [&'static str]),
    /// Whoever satisfies one of the rules, of which the service asks one after it has looked for the
    /// object: who may not is told 404 of what does not exist. For the few routes whose clients
    /// expect so.
    AfterLookup(&'static [&'static str]),
}

impl Access {
    /// The rules that say who may call the route.
    pub fn rules(&self) -> &[&'static str] {
        match self {
            Access::Public | Access::Token => &[],
            Access::Rule(rule) => std::slice::from_ref(rule),
            Access::AnyOf(rules) | Access::AfterLookup(rules) => rules,
        }
    }

    /// The rules of which one must be possible before the handler runs.
    pub fn asked_first(&self) -> &[&'static str] {
        match self {
            Access::AfterLookup(_) => &[],
            other => other.rules(),
        }
    }
}

/// How much body a route takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLimit {
    /// At most so many bytes.
    Bytes(usize),
    /// A stream without an end in sight: uploads. The handler must not collect it.
    Unlimited,
}

impl BodyLimit {
    /// What a JSON document may have: 1 MiB, several times Nova's largest legitimate request
    /// (64 KiB of user data, in base64, and personality files).
    pub const DEFAULT_BYTES: usize = 1024 * 1024;
}

/// What differs from the ordinary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteOptions {
    /// How much body the route takes.
    pub body: BodyLimit,
    /// How long the handler may take until it answers; `None` for streams.
    pub time_limit: Option<Duration>,
}

impl RouteOptions {
    /// One minute: longer than any transaction's retries, shorter than clients' patience.
    pub const DEFAULT_TIME: Duration = Duration::from_secs(60);

    /// For uploads and downloads: any length, any time (the connection's own limits still hold).
    pub const STREAMING: RouteOptions =
        RouteOptions { body: BodyLimit::Unlimited, time_limit: None };
}

impl Default for RouteOptions {
    fn default() -> Self {
        RouteOptions {
            body: BodyLimit::Bytes(BodyLimit::DEFAULT_BYTES),
            time_limit: Some(RouteOptions::DEFAULT_TIME),
        }
    }
}

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteInfo {
    /// The service.
    pub service: Service,
    /// The method.
    pub method: Method,
    /// The whole path with its parameters, for example `/network/v2.0/networks/{id}`.
    pub path: String,
    /// Who may call it.
    pub access: Access,
    /// Body and time limits.
    pub options: RouteOptions,
}

/// The routes of one service.
///
/// ```text
/// Routes::new(Service::Network)
///     .route(Method::GET, "/v2.0/networks", Access::Rule("network:networks:list"), list)
///     .route(Method::POST, "/v2.0/networks", Access::Rule("network:networks:create"), create)
///     .with_state(network)
/// ```
/// Paths are below the service's prefix; the empty path is the prefix itself. A trailing slash in
/// a request is ignored. `GET` answers `HEAD` too.
pub struct Routes<S = ()> {
    pub(crate) service: Service,
    pub(crate) entries: Vec<(RouteInfo, MethodRouter<S>)>,
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    /// No routes yet.
    pub fn new(service: Service) -> Self {
        Routes { service, entries: Vec::new() }
    }

    /// Adds a route with the ordinary limits.
    #[must_use]
    pub fn route<H, T>(self, method: Method, path: &str, access: Access, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        self.route_with(method, path, access, RouteOptions::default(), handler)
    }

    /// Adds a route with limits of its own.
    ///
    /// # Panics
    /// When the method is not one that a route can have; that is a mistake in the code, found by
    /// the first test that builds the table.
    #[must_use]
    pub fn route_with<H, T>(
        mut self,
        method: Method,
        path: &str,
        access: Access,
        options: RouteOptions,
        handler: H,
    ) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        let filter = MethodFilter::try_from(method.clone())
            .unwrap_or_else(|_| panic!("{method} cannot be routed"));
        let info = RouteInfo {
            service: self.service,
            method,
            path: format!("{}{}", self.service.prefix(), path.trim_end_matches('/')),
            access,
            options,
        };
        self.entries.push((info, on(filter, handler)));
        self
    }

    /// Adds the routes of another table of the same service.
    #[must_use]
    pub fn merge(mut self, other: Routes<S>) -> Self {
        self.entries.extend(other.entries);
        self
    }

    /// Gives the handlers their state.
    pub fn with_state<S2>(self, state: S) -> Routes<S2> {
        Routes {
            service: self.service,
            entries: self
                .entries
                .into_iter()
                .map(|(info, handler)| (info, handler.with_state(state.clone())))
                .collect(),
        }
    }
}

impl<S> Routes<S> {
    /// The service that the routes belong to.
    pub fn service(&self) -> Service {
        self.service
    }

    /// The table: every route with who may call it.
    pub fn table(&self) -> Vec<RouteInfo> {
        self.entries.iter().map(|(info, _)| info.clone()).collect()
    }
}
