//! Taps, veths and namespaces behind [`crate::edges::Links`].
