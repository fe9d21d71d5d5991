//! lakehold-proto
