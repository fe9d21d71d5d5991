//! lakehold-tests
