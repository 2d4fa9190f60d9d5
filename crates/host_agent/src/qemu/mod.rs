//! QEMU behind [`crate::hypervisor::Hypervisor`].
