//! service_kit
