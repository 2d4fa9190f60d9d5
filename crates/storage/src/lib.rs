//! Storage: images in the zone. Volumes and objects have their place here when they come.

pub mod image;
mod migrations;

pub use image::{BootImage, Images};
pub use migrations::MIGRATIONS;
