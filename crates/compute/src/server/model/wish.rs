//! What a request for a server says: the body of `POST /servers`, read by microversion, and
//! whether an image fits a flavor.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use cloud_types::{Fault, ImageId, NetworkId, PortId};
use host_protocol::ImageFormat;
use serde_json::Value;
use service_kit::Microversion;

use super::{DiskConfig, FlavorSnapshot, ImageSnapshot, Payload};
use crate::wire::{Fields, NAME_CHARS, invalid};

/// The most servers of one request; more than a quota's default, less than a denial of service.
const MAX_COUNT: u64 = 1000;
/// The longest user data, in base64 characters (Nova's column).
const MAX_USER_DATA: usize = 65_535;
/// The most tags of a server (Nova's limit).
const MAX_TAGS: usize = 50;
/// The longest tag.
const MAX_TAG: usize = 60;

/// One NIC as asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NicWish {
    /// A port that is made on this network,
    pub network: Option<NetworkId>,
    /// or one that exists.
    pub port: Option<PortId>,
    /// The address that the new port should have.
    pub fixed_ip: Option<IpAddr>,
    /// A label that the guest sees.
    pub tag: Option<String>,
}

/// The NICs as asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Networks {
    /// Nothing was said (before 2.37), or `auto`: the project's only network.
    Auto {
        /// Whether `auto` was said; then there must be a network.
        asked: bool,
    },
    /// No NIC.
    None,
    /// These.
    Some(Vec<NicWish>),
}

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

pub(in super::super) fn read_access_v4(server: &mut Fields) -> Result<Option<Ipv4Addr>, Fault> {
    read_address(server, "accessIPv4", "it is not an IPv4 address")
}

pub(in super::super) fn read_access_v6(server: &mut Fields) -> Result<Option<Ipv6Addr>, Fault> {
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

fn read_networks(server: &mut Fields, version: Microversion) -> Result<Networks, Fault> {
    let since = |minor| version.at_least(2, minor);
    if !server.has("networks") {
        if since(37) {
            return Err(Fault::bad_request(
                "Invalid input for field/attribute server. 'networks' is a required property",
            ));
        }
        return Ok(Networks::Auto { asked: false });
    }
    if since(37)
        && let Some(word) = server.take("networks")
    {
        match word {
            Value::String(text) if text == "auto" => return Ok(Networks::Auto { asked: true }),
            Value::String(text) if text == "none" => return Ok(Networks::None),
            Value::Array(items) => return read_nics(server, items, version),
            other => {
                return Err(invalid(
                    &server.path_of("networks"),
                    &other,
                    "it is not a list, auto or none",
                ));
            }
        }
    }
    let items = server.list("networks")?.unwrap_or_default();
    read_nics(server, items, version)
}

fn read_nics(server: &Fields, items: Vec<Value>, version: Microversion) -> Result<Networks, Fault> {
    // 2.32 to 2.36 know tags, 2.37 to 2.41 forgot them, and 2.42 has them again.
    let tags = version.at_least(2, 42) || (version.at_least(2, 32) && !version.at_least(2, 37));
    let mut nics: Vec<NicWish> = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        let mut nic = Fields::root(item).map_err(|_| {
            invalid(
                &format!("{}[{index}]", server.path_of("networks")),
                &Value::Null,
                "it is not an object",
            )
        })?;
        let fixed_ip = nic.ip("fixed_ip")?;
        let port = nic.nullable_uuid("port")?.map(PortId::from);
        let network = match nic.text("uuid", 0, usize::MAX)? {
            None => None,
            Some(text) => Some(text.parse::<NetworkId>().map_err(|_| {
                Fault::bad_request(format!(
                    "Bad networks format: network uuid is not in proper format ({})",
                    text.chars().take(64).collect::<String>()
                ))
            })?),
        };
        let tag = if tags { read_tag(&mut nic)? } else { None };
        nic.finish()?;
        match (port, network) {
            (Some(port), _) => {
                if nics.iter().any(|known| known.port == Some(port)) {
                    return Err(Fault::bad_request(format!(
                        "Port ID '{port}' was specified twice: you cannot attach a port multiple times."
                    )));
                }
                if let Some(address) = fixed_ip {
                    return Err(Fault::bad_request(format!(
                        "Specified Fixed IP '{address}' cannot be used with port '{port}': the two \
                         cannot be specified together."
                    )));
                }
                nics.push(NicWish { network: None, port: Some(port), fixed_ip: None, tag });
            }
            (None, Some(network)) => {
                nics.push(NicWish { network: Some(network), port: None, fixed_ip, tag });
            }
            (None, None) => {
                return Err(Fault::bad_request("Bad network format: missing 'uuid'"));
            }
        }
    }
    if nics.is_empty() {
        return Ok(Networks::Auto { asked: false });
    }
    Ok(Networks::Some(nics))
}

fn read_tag(fields: &mut Fields) -> Result<Option<String>, Fault> {
    match fields.text("tag", 1, MAX_TAG)? {
        Some(tag) if tag.contains([',', '/']) => Err(invalid(
            &fields.path_of("tag"),
            &Value::String(tag),
            "a tag holds no comma and no slash",
        )),
        other => Ok(other),
    }
}

fn read_tags(server: &mut Fields) -> Result<BTreeSet<String>, Fault> {
    let Some(items) = server.list("tags")? else { return Ok(BTreeSet::new()) };
    if items.len() > MAX_TAGS {
        return Err(Fault::bad_request(format!(
            "Invalid input for field/attribute tags. A server has at most {MAX_TAGS} tags"
        )));
    }
    items.into_iter().map(|item| check_tag("tags", item)).collect()
}

/// Checks one tag: 1 to 60 characters without comma and slash.
pub(super) fn check_tag(path: &str, item: Value) -> Result<String, Fault> {
    match item {
        Value::String(tag)
            if (1..=MAX_TAG).contains(&tag.chars().count()) && !tag.contains([',', '/']) =>
        {
            Ok(tag)
        }
        other => {
            Err(invalid(path, &other, "a tag has 1 to 60 characters, none a comma or a slash"))
        }
    }
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

/// Block devices: the one shape that says what a server without volumes says anyway, an image on
/// a local disk that it boots from.
fn read_block_devices(
    server: &mut Fields,
    image: Option<ImageId>,
    version: Microversion,
) -> Result<Option<ImageId>, Fault> {
    const VOLUMES: &str = "This cloud has no volumes yet, so a server has one disk, made from its \
                           image: a block device is source_type image, destination_type local and \
                           boot_index 0.";
    if server.list("block_device_mapping")?.is_some_and(|list| !list.is_empty()) {
        return Err(Fault::bad_request(VOLUMES));
    }
    let Some(devices) = server.objects("block_device_mapping_v2")? else { return Ok(image) };
    if devices.len() > 1 {
        return Err(Fault::bad_request(VOLUMES));
    }
    let mut found = image;
    for mut device in devices {
        let source = device.word("source_type", &["volume", "image", "snapshot", "blank"])?;
        let destination = device.word("destination_type", &["local", "volume"])?;
        let uuid = device.text("uuid", 1, NAME_CHARS)?;
        let image_id = device.uuid("image_id")?;
        let boot_index = match device.take("boot_index") {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => text.parse::<i64>().ok(),
            Some(other) => other.as_i64(),
        };
        for ignored in
            ["guest_format", "device_type", "disk_bus", "device_name", "delete_on_termination"]
        {
            device.take(ignored);
        }
        if version.at_least(2, 42) || version == Microversion::new(2, 32) {
            read_tag(&mut device)?;
        }
        for volume in [
            "volume_id",
            "snapshot_id",
            "volume_size",
            "virtual_name",
            "no_device",
            "connection_info",
        ] {
            if device.take(volume).is_some() {
                return Err(Fault::bad_request(VOLUMES));
            }
        }
        if version.at_least(2, 67)
            && device.take("volume_type").is_some_and(|value| !value.is_null())
        {
            return Err(Fault::bad_request(VOLUMES));
        }
        device.finish()?;
        let local = source.as_deref() == Some("image")
            && destination.as_deref() == Some("local")
            && boot_index == Some(0);
        if !local {
            return Err(Fault::bad_request(VOLUMES));
        }
        let named = match uuid {
            Some(text) => Some(text.parse::<ImageId>().map_err(|_| {
                invalid(
                    "block_device_mapping_v2[0].uuid",
                    &Value::String(text),
                    "it is not a 'uuid'",
                )
            })?),
            None => image_id.map(ImageId::from),
        };
        match (found, named) {
            (_, None) => return Err(Fault::bad_request(VOLUMES)),
            (Some(image), Some(named)) if image != named => {
                return Err(Fault::bad_request(
                    "imageRef and the block device with boot_index 0 name different images.",
                ));
            }
            (_, Some(named)) => found = Some(named),
        }
    }
    Ok(found)
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

/// What the image service says of an image that a server is to start from.
#[derive(Clone, Debug)]
pub struct ImageFacts {
    /// The image, once it is known to fit.
    pub snapshot: ImageSnapshot,
    /// Whether it can be used.
    pub active: bool,
    /// The smallest root disk, in GiB.
    pub min_disk_gib: u64,
    /// The smallest memory, in MiB.
    pub min_ram_mib: u64,
}

/// Whether the image can boot a server of this flavor.
///
/// # Errors
/// 400 with both numbers.
pub fn check_image(flavor: &FlavorSnapshot, image: &ImageFacts) -> Result<(), Fault> {
    let id = image.snapshot.id;
    if !image.active {
        return Err(Fault::bad_request(format!("Image {id} is not active.")));
    }
    if flavor.memory_mib < image.min_ram_mib {
        return Err(Fault::bad_request(format!(
            "Flavor's memory is too small for requested image: it has {} MiB, the image needs {} MiB.",
            flavor.memory_mib, image.min_ram_mib
        )));
    }
    if flavor.disk_gib == 0 {
        return Ok(());
    }
    let disk = flavor.disk_gib.saturating_mul(1 << 30);
    let minimum = image.min_disk_gib.saturating_mul(1 << 30);
    let size = match image.snapshot.format {
        ImageFormat::Raw => image.snapshot.size_bytes,
        ImageFormat::Qcow2 => image.snapshot.virtual_size.unwrap_or(0),
    };
    let needed = minimum.max(size);
    if disk < needed {
        return Err(Fault::bad_request(format!(
            "Flavor's disk is too small for requested image. Flavor disk is {disk} bytes, minimum \
             size is {needed} bytes."
        )));
    }
    Ok(())
}

/// A change of a server's tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagChange {
    /// These and no others.
    Replace(BTreeSet<String>),
    /// This one too.
    Add(String),
    /// Without this one.
    Remove(String),
    /// None.
    Clear,
}

impl TagChange {
    /// The most tags of a server.
    pub const MAX: usize = MAX_TAGS;

    /// Reads `PUT /servers/{id}/tags`.
    ///
    /// # Errors
    /// 400 with the place and the reason.
    pub fn read(body: Value) -> Result<Self, Fault> {
        let mut root = Fields::root(body)?;
        if !root.has("tags") {
            return Err(Fault::bad_request(
                "Invalid input for field/attribute the body. 'tags' is a required property",
            ));
        }
        let tags = read_tags(&mut root)?;
        root.finish()?;
        Ok(TagChange::Replace(tags))
    }

    /// Checks a tag out of a path.
    ///
    /// # Errors
    /// 400 when it is none.
    pub fn check(tag: &str) -> Result<String, Fault> {
        check_tag("tag", Value::String(tag.to_owned()))
    }
}
