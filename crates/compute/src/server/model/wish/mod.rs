//! What a request for a server says: the body of `POST /servers`, read by microversion, and
//! whether an image fits a flavor.

mod devices;
mod image;
mod networks;
mod tags;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use cloud_types::{Fault, ImageId};
use serde_json::Value;
use service_kit::Microversion;

use super::{DiskConfig, Payload};
use crate::wire::{Fields, NAME_CHARS, invalid};
use devices::read_block_devices;
pub use image::{ImageFacts, check_image};
pub use networks::Networks;
use networks::read_networks;
pub use tags::TagChange;
use tags::read_tags;

/// The most servers of one request; more than a quota's default, less than a denial of service.
const MAX_COUNT: u64 = 1000;
/// The longest user data, in base64 characters (Nova's column).
const MAX_USER_DATA: usize = 65_535;

/// A request for servers.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateRequest {
    /// The name, or its beginning when several are made.
    pub name: String,
    /// Free text; before 2.19 the name.
    pub description: Option<String>,
    /// The guest's host name; made from the name when absent.
    pub hostname: Option<String>,
    /// The flavor's public id.
    pub flavor: String,
    /// The image.
    pub image: ImageId,
    /// Key-value pairs.
    pub metadata: BTreeMap<String, String>,
    /// NICs.
    pub networks: Networks,
    /// Disk configuration.
    pub disk_config: DiskConfig,
    /// An address for people.
    pub access_ipv4: Option<Ipv4Addr>,
    /// The same for IPv6.
    pub access_ipv6: Option<Ipv6Addr>,
    /// Large parts.
    pub payload: Payload,
    /// The availability zone.
    pub zone: Option<String>,
    /// The host by name: for administrators.
    pub host: Option<String>,
    /// The key pair's name.
    pub key_name: Option<String>,
    /// At least so many servers,
    pub min_count: u32,
    /// at most so many.
    pub max_count: u32,
    /// Whether only the reservation's id is wanted.
    pub return_reservation_id: bool,
    /// Names or ids of security groups; `None` means the default one.
    pub security_groups: Option<Vec<String>>,
    /// Whether a config drive is built.
    pub config_drive: bool,
    /// Labels.
    pub tags: BTreeSet<String>,
    /// Scheduler hints.
    pub scheduler_hints: Value,
    /// The password to return; made up when absent.
    pub admin_pass: Option<String>,
}

impl CreateRequest {
    /// Reads the body as the microversion defines it.
    ///
    /// # Errors
    /// 400 with the place and the reason.
    pub fn read(body: Value, version: Microversion) -> Result<Self, Fault> {
        let since = |minor| version.at_least(2, minor);
        let mut root = Fields::root(body)?;
        let mut server = root.required_object("server")?;
        let hints = match root.take("os:scheduler_hints") {
            Some(hints) => {
                root.take("OS-SCH-HNT:scheduler_hints");
                hints
            }
            None => root.take("OS-SCH-HNT:scheduler_hints").unwrap_or_default(),
        };
        if !hints.is_null() && !hints.is_object() {
            return Err(invalid("os:scheduler_hints", &hints, "it is not an object"));
        }
        root.finish()?;

        let name = server.required_name("name")?;
        let flavor = read_flavor_ref(&mut server)?;
        let image = read_image_ref(&mut server)?;
        let admin_pass = server.secret("adminPass", NAME_CHARS)?;
        let metadata = server.metadata("metadata")?.unwrap_or_default();
        let networks = read_networks(&mut server, version)?;
        let disk_config = server
            .word("OS-DCF:diskConfig", &["AUTO", "MANUAL"])?
            .and_then(|word| DiskConfig::parse(&word))
            .unwrap_or_default();
        let access_ipv4 = read_access_v4(&mut server)?;
        let access_ipv6 = read_access_v6(&mut server)?;
        let personality = if since(57) { Vec::new() } else { read_personality(&mut server)? };
        let zone = server.name("availability_zone")?;
        let config_drive = server.boolean("config_drive")?.unwrap_or(false);
        let key_name = server.name("key_name")?;
        let min_count = server.amount("min_count", 1, MAX_COUNT)?;
        let max_count = server.amount("max_count", 1, MAX_COUNT)?;
        let return_reservation_id = server.boolean("return_reservation_id")?.unwrap_or(false);
        let security_groups = read_security_groups(&mut server)?;
        let user_data = read_user_data(&mut server)?;
        let description = if since(19) {
            server.description("description", NAME_CHARS)?.flatten()
        } else {
            Some(name.clone())
        };
        let tags = if since(52) { read_tags(&mut server)? } else { BTreeSet::new() };
        if since(63) {
            refuse_trusted_certificates(&mut server)?;
        }
        let (mut host, mut hypervisor) = (None, None);
        if since(74) {
            host = server.hostname("host", true)?;
            hypervisor = server.hostname("hypervisor_hostname", true)?;
        }
        let hostname = if since(90) { server.hostname("hostname", since(94))? } else { None };
        let image = read_block_devices(&mut server, image, version)?;
        server.finish()?;

        let min_count = min_count.unwrap_or(1);
        let max_count = max_count.unwrap_or(min_count);
        if min_count > max_count {
            return Err(Fault::bad_request("min_count must be <= max_count"));
        }
        if hostname.is_some() && max_count > 1 {
            return Err(Fault::bad_request(
                "Unable to allocate a single hostname to multiple instances",
            ));
        }
        let Some(image) = image else {
            return Err(Fault::bad_request(
                "Invalid imageRef provided: a server starts from an image. Name one in imageRef.",
            ));
        };
        let (zone, zone_host) = split_zone(zone)?;
        if zone_host.is_some() && (host.is_some() || hypervisor.is_some()) {
            return Err(Fault::bad_request(
                "One mechanism with host and/or hypervisor_hostname and another mechanism with \
                 zone:host:node are mutually exclusive.",
            ));
        }
        if let (Some(host), Some(hypervisor)) = (&host, &hypervisor)
            && host != hypervisor
        {
            return Err(Fault::bad_request(format!(
                "No host is named {host} and has the hypervisor {hypervisor}: here both are one."
            )));
        }
        Ok(CreateRequest {
            name,
            description,
            hostname,
            flavor,
            image,
            metadata,
            networks,
            disk_config,
            access_ipv4,
            access_ipv6,
            payload: Payload { user_data, personality },
            zone,
            host: zone_host.or(host).or(hypervisor),
            key_name,
            min_count: u32::try_from(min_count).unwrap_or(u32::MAX),
            max_count: u32::try_from(max_count).unwrap_or(u32::MAX),
            return_reservation_id,
            security_groups,
            config_drive,
            tags,
            scheduler_hints: hints,
            admin_pass,
        })
    }
}

fn read_flavor_ref(server: &mut Fields) -> Result<String, Fault> {
    let found = match server.take("flavorRef") {
        Some(Value::String(text)) if !text.is_empty() => text,
        Some(Value::Number(number)) => number.to_string(),
        Some(other) => {
            return Err(invalid(&server.path_of("flavorRef"), &other, "it is not a flavor's id"));
        }
        None => {
            return Err(Fault::bad_request(
                "Invalid input for field/attribute server. 'flavorRef' is a required property",
            ));
        }
    };
    // Older clients send the flavor's whole link.
    Ok(found.rsplit('/').next().unwrap_or_default().to_owned())
}

fn read_image_ref(server: &mut Fields) -> Result<Option<ImageId>, Fault> {
    let Some(text) = server.text("imageRef", 0, usize::MAX)? else { return Ok(None) };
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        invalid(&server.path_of("imageRef"), &Value::String(text), "it is not a 'uuid'")
    })
}

pub(in crate::server) fn read_access_v4(server: &mut Fields) -> Result<Option<Ipv4Addr>, Fault> {
    read_address(server, "accessIPv4", "it is not an IPv4 address")
}

pub(in crate::server) fn read_access_v6(server: &mut Fields) -> Result<Option<Ipv6Addr>, Fault> {
    read_address(server, "accessIPv6", "it is not an IPv6 address")
}

fn read_address<T: std::str::FromStr>(
    server: &mut Fields,
    key: &str,
    why: &str,
) -> Result<Option<T>, Fault> {
    let Some(text) = server.text(key, 0, 64)? else { return Ok(None) };
    text.parse().map(Some).map_err(|_| invalid(&server.path_of(key), &Value::String(text), why))
}

/// A list of security groups: an empty name is left out, as in Nova.
fn read_security_groups(server: &mut Fields) -> Result<Option<Vec<String>>, Fault> {
    let Some(groups) = server.objects("security_groups")? else { return Ok(None) };
    let mut names = Vec::new();
    for mut group in groups {
        if let Some(name) = group.name("name")?
            && !names.contains(&name)
        {
            names.push(name);
        }
        group.finish()?;
    }
    Ok(if names.is_empty() { None } else { Some(names) })
}

fn read_user_data(server: &mut Fields) -> Result<Option<String>, Fault> {
    let Some(text) = server.secret("user_data", MAX_USER_DATA)? else { return Ok(None) };
    let compact: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    if BASE64.decode(&compact).is_err() {
        return Err(Fault::bad_request(
            "Invalid input for field/attribute user_data. It is not base64",
        ));
    }
    Ok(Some(compact))
}

fn read_personality(server: &mut Fields) -> Result<Vec<(String, String)>, Fault> {
    const MAX_FILES: usize = 5;
    const MAX_BYTES: usize = 10_240;
    let Some(files) = server.objects("personality")? else { return Ok(Vec::new()) };
    if files.len() > MAX_FILES {
        return Err(Fault::forbidden(format!(
            "Personality file limit exceeded: at most {MAX_FILES}"
        )));
    }
    let mut read = Vec::new();
    for mut file in files {
        let path = file.text("path", 1, NAME_CHARS)?.unwrap_or_default();
        let contents = file.secret("contents", MAX_BYTES * 2)?.unwrap_or_default();
        file.finish()?;
        let Ok(bytes) = BASE64.decode(&contents) else {
            return Err(Fault::bad_request(
                "Invalid input for field/attribute personality. The contents are not base64",
            ));
        };
        if bytes.len() > MAX_BYTES {
            return Err(Fault::forbidden(format!(
                "Personality file content exceeds maximum: at most {MAX_BYTES} bytes"
            )));
        }
        read.push((path, contents));
    }
    Ok(read)
}

/// Nobody here checks image signatures, and a demand for safety must not be passed over silently.
fn refuse_trusted_certificates(server: &mut Fields) -> Result<(), Fault> {
    match server.take("trusted_image_certificates") {
        None | Some(Value::Null) => Ok(()),
        Some(_) => Err(Fault::bad_request(
            "trusted_image_certificates cannot be honoured: this cloud does not verify image \
             signatures. It checks each image's SHA-256 on every host. Leave the field out.",
        )),
    }
}

/// `zone`, or for administrators `zone:host` or `zone:host:node`.
fn split_zone(zone: Option<String>) -> Result<(Option<String>, Option<String>), Fault> {
    let Some(zone) = zone else { return Ok((None, None)) };
    let parts: Vec<&str> = zone.split(':').collect();
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    match parts.as_slice() {
        [zone] => Ok((some(zone), None)),
        [zone, host] => Ok((some(zone), some(host))),
        [zone, host, node] if host.is_empty() || node.is_empty() || host == node => {
            Ok((some(zone), some(host).or_else(|| some(node))))
        }
        _ => Err(Fault::bad_request("Unable to parse availability_zone: it is ZONE or ZONE:HOST.")),
    }
}
