//! flow_compiler
