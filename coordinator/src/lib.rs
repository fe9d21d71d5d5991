//! lakehold
