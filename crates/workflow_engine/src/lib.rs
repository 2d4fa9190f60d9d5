//! workflow_engine
