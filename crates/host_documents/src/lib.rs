//! host_documents
