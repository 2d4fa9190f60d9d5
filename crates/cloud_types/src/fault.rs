//! What went wrong, in the caller's terms. A fault is decided where the rule lives (a service or a
//! pure model) and becomes HTTP in one place, `service_kit`, in the body shape of the service that
//! was asked.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The class of a fault; each maps to one HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// 400: the request can never succeed as written.
    BadRequest,
    /// 401: no valid token.
    Unauthorized,
    /// 403: a valid token that may not do this, or a quota.
    Forbidden,
    /// 404: there is no such thing, or the caller may not know of it.
    NotFound,
    /// 405: the path exists, the method does not.
    MethodNotAllowed,
    /// 406: a microversion or representation that is not offered.
    NotAcceptable,
    /// 409: the resource is in a state that does not allow this.
    Conflict,
    /// 410: it was here and is gone.
    Gone,
    /// 411: a length is needed.
    LengthRequired,
    /// 412: a precondition named by the caller does not hold.
    PreconditionFailed,
    /// 413: the body, or what is asked for, is over a limit.
    TooLarge,
    /// 415: a media type that is not understood.
    UnsupportedMediaType,
    /// 416: a byte range outside the object.
    RangeNotSatisfiable,
    /// 429: slow down; `retry_after` says for how long.
    TooManyRequests,
    /// 500: our own failure; the message says nothing secret.
    Internal,
    /// 501: a feature that this cloud does not have.
    NotImplemented,
    /// 503: something that is needed cannot be reached now.
    Unavailable,
    /// 504: something did not answer within the request's deadline.
    Timeout,
}

impl FaultKind {
    /// The HTTP status code.
    pub fn status(self) -> u16 {
        match self {
            FaultKind::BadRequest => 400,
            FaultKind::Unauthorized => 401,
            FaultKind::Forbidden => 403,
            FaultKind::NotFound => 404,
            FaultKind::MethodNotAllowed => 405,
            FaultKind::NotAcceptable => 406,
            FaultKind::Conflict => 409,
            FaultKind::Gone => 410,
            FaultKind::LengthRequired => 411,
            FaultKind::PreconditionFailed => 412,
            FaultKind::TooLarge => 413,
            FaultKind::UnsupportedMediaType => 415,
            FaultKind::RangeNotSatisfiable => 416,
            FaultKind::TooManyRequests => 429,
            FaultKind::Internal => 500,
            FaultKind::NotImplemented => 501,
            FaultKind::Unavailable => 503,
            FaultKind::Timeout => 504,
        }
    }
}

/// A refusal or failure, with everything a caller needs to act on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The class, hence the status.
    pub kind: FaultKind,
    /// What happened, why, and what to do, in the caller's terms.
    pub message: String,
    /// The service's own name for the fault where its clients look at one, for example Neutron's
    /// `NetworkInUse` or `OverQuota`.
    pub name: Option<String>,
    /// Seconds after which a retry makes sense.
    pub retry_after: Option<u32>,
}

macro_rules! constructors {
    ($($(#[$doc:meta])* $name:ident => $kind:ident),* $(,)?) => {
        impl Fault {
            $($(#[$doc])*
            pub fn $name(message: impl Into<String>) -> Self {
                Fault::new(FaultKind::$kind, message)
            })*
        }
    };
}

constructors! {
    /// 400
    bad_request => BadRequest,
    /// 401
    unauthorized => Unauthorized,
    /// 403
    forbidden => Forbidden,
    /// 404
    not_found => NotFound,
    /// 409
    conflict => Conflict,
    /// 413
    too_large => TooLarge,
    /// 500; log the cause, put nothing secret in the message
    internal => Internal,
    /// 501
    not_implemented => NotImplemented,
    /// 503
    unavailable => Unavailable,
    /// 504
    timeout => Timeout,
}

impl Fault {
    /// A fault of any class.
    pub fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Fault { kind, message: message.into(), name: None, retry_after: None }
    }

    /// Gives the fault the name that the service's clients know it by.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Says after how many seconds to try again.
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// The HTTP status code.
    pub fn status(&self) -> u16 {
        self.kind.status()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.status())
    }
}

impl std::error::Error for Fault {}
