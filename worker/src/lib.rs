//! lakehold-worker
