//! Storage: images now; volumes and objects later.
pub mod image;
