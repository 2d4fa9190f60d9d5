//! The NICs that a request asks for.

use std::net::IpAddr;

use cloud_types::{Fault, NetworkId, PortId};
use serde_json::Value;
use service_kit::Microversion;

use super::tags::read_tag;
use crate::wire::{Fields, invalid};

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

pub(super) fn read_networks(server: &mut Fields, version: Microversion) -> Result<Networks, Fault> {
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
