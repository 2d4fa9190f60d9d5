//! DHCP, DNS and metadata behind [`crate::edges::Responders`].
