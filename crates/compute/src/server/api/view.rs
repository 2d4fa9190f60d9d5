//! The shapes of a server, by microversion.

use std::collections::BTreeSet;

use cloud_types::{Fault, Timestamp};
use network::PortView;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};
use service_kit::{Ctx, Target};
use sha2::{Digest, Sha224};

use super::super::model::{Server, VmState};
use super::super::service::Detail;
use crate::host::model::host_status;
use crate::links;

/// Which members a view has beyond the plain ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Members {
    /// `GET /servers/{id}`, and from 2.75 `PUT`.
    Show,
    /// `GET /servers/detail`: no server groups.
    List,
    /// `PUT /servers/{id}` before 2.75: nothing of the old extensions.
    Update,
}

/// A page as it is sent. Each server is text as soon as it has been put together: a thousand of
/// them as trees of values would be built, copied and taken down again, most of a long list's
/// time.
#[derive(Default, Serialize)]
pub struct Page {
    /// The servers.
    pub servers: Vec<Box<RawValue>>,
    /// Where it goes on.
    #[serde(rename = "servers_links", skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Value>,
}

/// A view as text.
pub fn text(view: &Value) -> Result<Box<RawValue>, Fault> {
    to_raw_value(view)
        .map_err(|error| Fault::internal(format!("a server cannot be shown: {error}")))
}

/// A server in a brief list.
pub fn brief(ctx: &Ctx, server: &Server) -> Value {
    let id = server.id.to_string();
    json!({"id": id, "name": server.name, "links": links::of(ctx, "servers", &id)})
}

/// A server in full.
pub fn detail(ctx: &Ctx, shown: &Detail, members: Members, now: Timestamp) -> Value {
    let server = &shown.server;
    let id = server.id.to_string();
    let whole = members != Members::Update;
    let status = server.state.status();
    let mut view = Map::new();
    let mut put = |key: &str, value: Value| {
        view.insert(key.to_owned(), value);
    };
    put("id", json!(id));
    put("name", json!(server.name));
    put("status", json!(status));
    put("tenant_id", json!(server.project));
    put("user_id", json!(server.user));
    put("created", json!(server.created_at.rfc3339_seconds()));
    put("updated", json!(server.updated_at.rfc3339_seconds()));
    put("metadata", json!(server.metadata));
    put("links", links::of(ctx, "servers", &id));
    put("image", image(ctx, server));
    put("flavor", flavor(ctx, server));
    put("hostId", json!(host_id(server)));
    put("addresses", addresses(server, &shown.ports, whole));
    put("accessIPv4", json!(server.access_ipv4.map(|ip| ip.to_string()).unwrap_or_default()));
    put("accessIPv6", json!(server.access_ipv6.map(|ip| ip.to_string()).unwrap_or_default()));
    put("OS-DCF:diskConfig", json!(server.disk_config.as_str()));
    if matches!(status, "ACTIVE" | "BUILD") {
        put("progress", json!(server.progress));
    }
    if let ("ERROR" | "DELETED", Some(fault)) = (status, &server.fault) {
        let mut shown = json!({
            "code": fault.code,
            "created": fault.created.rfc3339_seconds(),
            "message": fault.message,
        });
        if let Some(details) = fault.details.as_ref().filter(|_| ctx.is_admin()) {
            shown["details"] = json!(details);
        }
        put("fault", shown);
    }
    if whole {
        extensions(ctx, shown, &mut put);
        if shown.shows_host {
            placement(ctx, shown, now, &mut put);
        }
    }
    by_microversion(ctx, shown, members, &mut put);
    Value::Object(view)
}

fn extensions(_ctx: &Ctx, shown: &Detail, put: &mut impl FnMut(&str, Value)) {
    let server = &shown.server;
    put("OS-EXT-AZ:availability_zone", json!(server.zone));
    put("config_drive", json!(if server.config_drive { "True" } else { "" }));
    put("key_name", json!(server.key_name()));
    put("OS-SRV-USG:launched_at", json!(server.launched_at.map(Timestamp::iso_micros_naive)));
    put("OS-SRV-USG:terminated_at", json!(server.terminated_at.map(Timestamp::iso_micros_naive)));
    put("OS-EXT-STS:task_state", json!(server.state.task));
    put("OS-EXT-STS:vm_state", json!(server.state.vm));
    put("OS-EXT-STS:power_state", json!(server.power.code()));
    put("os-extended-volumes:volumes_attached", json!([]));
    let groups = security_groups(server, &shown.ports);
    if !groups.is_empty() {
        put("security_groups", json!(groups));
    }
}

/// What only operators see: where the server is, and what it was given.
fn placement(ctx: &Ctx, shown: &Detail, now: Timestamp, put: &mut impl FnMut(&str, Value)) {
    let server = &shown.server;
    let host = server.host.as_ref().map(|host| host.name.as_str());
    put("OS-EXT-SRV-ATTR:host", json!(host));
    put("OS-EXT-SRV-ATTR:hypervisor_hostname", json!(host));
    put("OS-EXT-SRV-ATTR:instance_name", json!(instance_name(server)));
    if ctx.at_least(2, 3) {
        put("OS-EXT-SRV-ATTR:hostname", json!(server.hostname));
        put("OS-EXT-SRV-ATTR:launch_index", json!(server.launch_index));
        put("OS-EXT-SRV-ATTR:reservation_id", json!(server.reservation_id));
        put("OS-EXT-SRV-ATTR:root_device_name", json!("/dev/vda"));
        put("OS-EXT-SRV-ATTR:kernel_id", json!(""));
        put("OS-EXT-SRV-ATTR:ramdisk_id", json!(""));
        put("OS-EXT-SRV-ATTR:user_data", json!(shown.user_data));
    }
    if ctx.at_least(2, 16) {
        put("host_status", json!(host_status(shown.host.as_ref(), now)));
    }
}

fn by_microversion(ctx: &Ctx, shown: &Detail, members: Members, put: &mut impl FnMut(&str, Value)) {
    let server = &shown.server;
    let since = |minor| ctx.at_least(2, minor);
    if since(9) {
        put("locked", json!(server.locked_by.is_some()));
    }
    if since(19) {
        put("description", json!(server.description));
    }
    if since(26) {
        put("tags", json!(shown.tags));
    }
    if since(63) {
        put("trusted_image_certificates", json!(server.fixed.trusted_certificates));
    }
    if since(71) && members != Members::List {
        put("server_groups", json!([]));
    }
    if since(73) {
        put("locked_reason", json!(server.locked_reason));
    }
    if since(90) && (members != Members::Update || since(75)) {
        put("OS-EXT-SRV-ATTR:hostname", json!(server.hostname));
    }
    if since(96) {
        put("pinned_availability_zone", json!(server.requested_zone));
    }
}

fn image(ctx: &Ctx, server: &Server) -> Value {
    match &server.fixed.image {
        None => json!(""),
        Some(image) => {
            let id = image.id.to_string();
            let href = links::bookmark(ctx, "images", &id);
            json!({"id": id, "links": [{"rel": "bookmark", "href": href}]})
        }
    }
}

/// From 2.47 the flavor as it was when the server was made; before, a link to one that may have
/// gone since.
fn flavor(ctx: &Ctx, server: &Server) -> Value {
    let flavor = &server.fixed.flavor;
    if !ctx.at_least(2, 47) {
        let href = links::bookmark(ctx, "flavors", &flavor.id);
        return json!({"id": flavor.id, "links": [{"rel": "bookmark", "href": href}]});
    }
    let mut shown = json!({
        "original_name": flavor.name,
        "vcpus": flavor.vcpus,
        "ram": flavor.memory_mib,
        "disk": flavor.disk_gib,
        "ephemeral": flavor.ephemeral_gib,
        "swap": flavor.swap_mib,
    });
    let target = Target::project(&server.project);
    if ctx.may("compute:servers:show:flavor_extra_specs", &target) {
        shown["extra_specs"] = json!(flavor.extra_specs);
    }
    shown
}

/// The same for all servers of a project on one host, and telling nothing else: SHA-224 over
/// project and host, as Nova computes it. Empty before a host is chosen.
pub fn host_id(server: &Server) -> String {
    server.host.as_ref().map_or_else(String::new, |host| hash_host(server, &host.name))
}

/// The hash of one host's name for the server's project.
pub fn hash_host(server: &Server, host: &str) -> String {
    let digest = Sha224::digest(format!("{}{host}", server.project).as_bytes());
    hex::encode(digest)
}

/// libvirt's kind of name, unique for the server.
fn instance_name(server: &Server) -> String {
    let id = server.id.0.simple().to_string();
    format!("instance-{}", &id[..8])
}

/// Addresses by network name. None while it is built, as in Nova: it has none to answer on yet.
pub fn addresses(server: &Server, ports: &[PortView], extended: bool) -> Value {
    let mut networks: Map<String, Value> = Map::new();
    if server.state.vm == VmState::Building {
        return Value::Object(networks);
    }
    for port in ports {
        let entry = networks.entry(port.network_name.clone()).or_insert_with(|| json!([]));
        for (_, ip) in &port.ips {
            let mut address =
                json!({"addr": ip.to_string(), "version": if ip.is_ipv4() { 4 } else { 6 }});
            if extended {
                address["OS-EXT-IPS:type"] = json!("fixed");
                address["OS-EXT-IPS-MAC:mac_addr"] = json!(port.mac);
            }
            if let Value::Array(list) = entry {
                list.push(address);
            }
        }
    }
    Value::Object(networks)
}

/// The groups of the ports by name, each once for each group; those asked for while there are
/// none.
fn security_groups(server: &Server, ports: &[PortView]) -> Vec<Value> {
    let groups: BTreeSet<_> = ports
        .iter()
        .flat_map(|port| port.security_groups.iter().map(|(id, name)| (name.as_str(), *id)))
        .collect();
    if groups.is_empty() && server.state.vm == VmState::Building {
        return server.security_groups.iter().map(|name| json!({"name": name})).collect();
    }
    groups.into_iter().map(|(name, _)| json!({"name": name})).collect()
}
