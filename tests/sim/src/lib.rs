//! lakehold-sim
