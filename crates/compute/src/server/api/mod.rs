//! `/servers` and everything below it.

mod actions;
mod interfaces;
mod listing;
mod metadata;
mod one;
mod tags;
#[cfg(test)]
mod tests;
mod view;

use service_kit::{Access, Method, Path, Routes, Service};

use cloud_types::{Fault, ServerId};

use super::service::missing;
use crate::Compute;

/// The routes.
pub fn routes() -> Routes<Compute> {
    let rule = Access::Rule;
    const ONE: &str = "/v2.1/servers/{id}";
    let below = |rest: &str| format!("{ONE}{rest}");
    Routes::new(Service::Compute)
        .route(Method::GET, "/v2.1/servers", rule("compute:servers:list"), listing::brief)
        .route(Method::POST, "/v2.1/servers", rule("compute:servers:create"), one::create)
        .route(Method::GET, "/v2.1/servers/detail", rule("compute:servers:list"), listing::detail)
        .route(Method::GET, ONE, rule("compute:servers:show"), one::show)
        .route(Method::PUT, ONE, rule("compute:servers:update"), one::update)
        .route(Method::DELETE, ONE, rule("compute:servers:delete"), one::delete)
        // Each action has a rule of its own, asked by the service.
        .route(Method::POST, &below("/action"), Access::Token, actions::act)
        .route(
            Method::GET,
            &below("/os-instance-actions"),
            rule("compute:servers:actions"),
            actions::list,
        )
        .route(
            Method::GET,
            &below("/os-instance-actions/{request}"),
            rule("compute:servers:actions"),
            actions::show,
        )
        .route(
            Method::GET,
            &below("/metadata"),
            rule("compute:servers:metadata:show"),
            metadata::list,
        )
        .route(
            Method::PUT,
            &below("/metadata"),
            rule("compute:servers:metadata:update"),
            metadata::replace,
        )
        .route(
            Method::POST,
            &below("/metadata"),
            rule("compute:servers:metadata:update"),
            metadata::merge,
        )
        .route(
            Method::GET,
            &below("/metadata/{key}"),
            rule("compute:servers:metadata:show"),
            metadata::show,
        )
        .route(
            Method::PUT,
            &below("/metadata/{key}"),
            rule("compute:servers:metadata:update"),
            metadata::put,
        )
        .route(
            Method::DELETE,
            &below("/metadata/{key}"),
            rule("compute:servers:metadata:update"),
            metadata::delete,
        )
        .route(Method::GET, &below("/tags"), rule("compute:servers:tags:show"), tags::list)
        .route(Method::PUT, &below("/tags"), rule("compute:servers:tags:update"), tags::replace)
        .route(Method::DELETE, &below("/tags"), rule("compute:servers:tags:update"), tags::clear)
        .route(Method::GET, &below("/tags/{tag}"), rule("compute:servers:tags:show"), tags::check)
        .route(Method::PUT, &below("/tags/{tag}"), rule("compute:servers:tags:update"), tags::add)
        .route(
            Method::DELETE,
            &below("/tags/{tag}"),
            rule("compute:servers:tags:update"),
            tags::remove,
        )
        .route(Method::GET, &below("/ips"), rule("compute:servers:interfaces"), interfaces::ips)
        .route(
            Method::GET,
            &below("/ips/{network}"),
            rule("compute:servers:interfaces"),
            interfaces::ips_of,
        )
        .route(
            Method::GET,
            &below("/os-interface"),
            rule("compute:servers:interfaces"),
            interfaces::list,
        )
        .route(
            Method::GET,
            &below("/os-interface/{port}"),
            rule("compute:servers:interfaces"),
            interfaces::show,
        )
        .route(
            Method::GET,
            &below("/os-security-groups"),
            rule("compute:servers:interfaces"),
            interfaces::security_groups,
        )
        .route(
            Method::GET,
            &below("/os-volume_attachments"),
            rule("compute:servers:show"),
            interfaces::volumes,
        )
}

/// The server that a path names; what is no UUID names none.
fn server_id(Path(id): Path<String>) -> Result<ServerId, Fault> {
    parse_id(&id)
}

fn parse_id(id: &str) -> Result<ServerId, Fault> {
    id.parse().map_err(|_| missing(id.chars().take(64).collect::<String>()))
}
