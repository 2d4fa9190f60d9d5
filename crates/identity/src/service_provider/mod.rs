//! Service providers: other clouds whose addresses people who ask for a token are told. What upstream
//! also does with them (issuing SAML assertions) needs a SAML library and is not offered.

pub(crate) mod api;
pub(crate) mod model;
pub(crate) mod service;
pub(crate) mod store;
