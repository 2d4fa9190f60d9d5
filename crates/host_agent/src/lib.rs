//! host_agent
