//! The harness: everything a suite needs to set a scene in three lines. Never shipped.
