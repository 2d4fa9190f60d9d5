//! Documents reach the hosts concerned and no others.
