//! What an image is, and which changes of it are allowed.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use cloud_types::{Fault, ImageId, ProjectId, Timestamp};

use super::format::DiskFormat;

/// An upload that has not been heard of for this long has died.
pub const UPLOAD_SILENCE: Duration = Duration::from_secs(60);
/// How often an upload says that it lives.
pub const UPLOAD_SIGN: Duration = Duration::from_secs(10);
/// Longest name.
const MAX_NAME: usize = 255;
/// Most custom properties.
const MAX_PROPERTIES: usize = 128;
/// Most tags.
const MAX_TAGS: usize = 128;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident => $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant),* }
        impl $name {
            /// The word on the wire and in the database.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word),* }
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(self.as_str()) }
        }
        impl FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok($name::$variant),)*
                    _ => Err(format!("{text:?} is not one of {}", [$($word),*].join(", "))),
                }
            }
        }
    };
}

words! {
    /// Where an image is in its life.
    ImageStatus {
        /// A record without a file.
        Queued => "queued",
        /// An upload is under way.
        Saving => "saving",
        /// Whole, checked and on disk.
        Active => "active",
        /// Whole, and kept from being read by an administrator.
        Deactivated => "deactivated",
        /// Gone for the outside; its file is about to be removed.
        Deleted => "deleted",
    }
}

words! {
    /// Who may see and use an image.
    Visibility {
        /// Everybody; only administrators may say so.
        Public => "public",
        /// Everybody who knows it; not in others' lists.
        Community => "community",
        /// The owner and its members.
        Shared => "shared",
        /// The owner.
        Private => "private",
    }
}

/// An image.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// Its identity, for ever: replacing data is a new image.
    pub id: ImageId,
    /// The owning project.
    pub owner: ProjectId,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Where it is in its life.
    pub status: ImageStatus,
    /// Who may see it.
    pub visibility: Visibility,
    /// The declared format.
    pub disk_format: Option<DiskFormat>,
    /// `bare`: a container around the disk is not known here.
    pub container_format: Option<String>,
    /// Length of the file in bytes.
    pub size: Option<u64>,
    /// Size of the disk in bytes.
    pub virtual_size: Option<u64>,
    /// MD5 of the file, which older clients compare.
    pub checksum: Option<String>,
    /// SHA-512 of the file.
    pub sha512: Option<String>,
    /// SHA-256 of the file, which hosts check before first use.
    pub sha256: Option<String>,
    /// GiB that a server's disk must have.
    pub min_disk: u64,
    /// MiB of memory that a server must have.
    pub min_ram: u64,
    /// Whether deleting is refused.
    pub protected: bool,
    /// Whether lists leave it out unless asked.
    pub hidden: bool,
    /// Custom properties.
    pub properties: BTreeMap<String, String>,
    /// Tags, sorted.
    pub tags: Vec<String>,
    /// When the record was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Version of the row.
    pub generation: i64,
}

/// What a server needs of an image to boot from it.
#[derive(Clone, Debug, PartialEq)]
pub struct BootImage {
    /// The image.
    pub id: ImageId,
    /// Its name.
    pub name: Option<String>,
    /// Its format.
    pub format: DiskFormat,
    /// Length of the file in bytes.
    pub size_bytes: u64,
    /// SHA-256 of the file.
    pub sha256: String,
    /// GiB that the root disk must have.
    pub min_disk: u64,
    /// MiB of memory that the server must have.
    pub min_ram: u64,
    /// Where the image is in its life; `Active` for one that is returned.
    pub status: ImageStatus,
    /// Size of the disk in bytes.
    pub virtual_size: u64,
    /// Custom properties.
    pub properties: BTreeMap<String, String>,
}

/// Names of base attributes that no custom property may have.
pub const BASE_ATTRIBUTES: &[&str] = &[
    "id",
    "name",
    "status",
    "visibility",
    "disk_format",
    "container_format",
    "size",
    "virtual_size",
    "checksum",
    "os_hash_algo",
    "os_hash_value",
    "os_hidden",
    "min_disk",
    "min_ram",
    "protected",
    "owner",
    "tags",
    "created_at",
    "updated_at",
    "self",
    "file",
    "schema",
    "direct_url",
    "locations",
    "deleted",
    "deleted_at",
    "is_public",
];

/// Attributes that only the service writes.
pub const READ_ONLY: &[&str] = &[
    "id",
    "status",
    "size",
    "virtual_size",
    "checksum",
    "os_hash_algo",
    "os_hash_value",
    "created_at",
    "updated_at",
    "self",
    "file",
    "schema",
    "direct_url",
    "locations",
    "deleted",
    "deleted_at",
    "is_public",
];

/// Properties that Glance keeps for itself.
///
/// # Errors
/// 403 for such a name.
pub fn check_property_name(name: &str) -> Result<(), Fault> {
    if name.starts_with("os_glance") {
        return Err(Fault::forbidden(format!("Attribute '{name}' is reserved.")));
    }
    Ok(())
}

/// Checks the parts of an image that a caller chooses.
///
/// # Errors
/// 400 naming what is wrong; 413 for too many properties or tags.
pub fn validate(image: &Image) -> Result<(), Fault> {
    if image.name.as_ref().is_some_and(|name| name.chars().count() > MAX_NAME) {
        return Err(Fault::bad_request(format!(
            "Attribute 'name' is longer than {MAX_NAME} characters."
        )));
    }
    if image.container_format.as_deref().is_some_and(|format| format != "bare") {
        return Err(Fault::bad_request(
            "Invalid container format: only 'bare' is accepted; an image is a disk without a container around it.",
        ));
    }
    for (attribute, value) in [("min_disk", image.min_disk), ("min_ram", image.min_ram)] {
        if value > 2_147_483_647 {
            return Err(Fault::bad_request(format!(
                "Attribute '{attribute}' has to be at most 2147483647."
            )));
        }
    }
    if image.properties.len() > MAX_PROPERTIES {
        return Err(Fault::too_large(format!(
            "The limit has been exceeded on the number of allowed image properties. Attempted: {}, Maximum: {MAX_PROPERTIES}",
            image.properties.len()
        )));
    }
    if image.tags.len() > MAX_TAGS {
        return Err(Fault::too_large(format!(
            "The limit has been exceeded on the number of allowed image tags. Attempted: {}, Maximum: {MAX_TAGS}",
            image.tags.len()
        )));
    }
    for (key, value) in &image.properties {
        if key.is_empty() || key.len() > MAX_NAME || value.len() > 65_535 {
            return Err(Fault::bad_request(format!(
                "Property '{}' is not usable: names have 1 to {MAX_NAME} bytes, values at most 65535.",
                key.chars().take(80).collect::<String>()
            )));
        }
    }
    if let Some(tag) = image.tags.iter().find(|tag| tag.is_empty() || tag.len() > MAX_NAME) {
        return Err(Fault::bad_request(format!(
            "Tag '{}' is not usable: a tag has 1 to {MAX_NAME} bytes.",
            tag.chars().take(80).collect::<String>()
        )));
    }
    Ok(())
}

/// Reads a declared format.
///
/// # Errors
/// 400 naming the formats that are accepted.
pub fn parse_format(text: &str) -> Result<DiskFormat, Fault> {
    text.parse().map_err(|()| {
        Fault::bad_request(format!(
            "Invalid disk format '{}' for image: this cloud boots from 'raw' and 'qcow2' (qemu-img convert makes one).",
            text.chars().take(40).collect::<String>()
        ))
    })
}
