//! Sinks that do anything at all: whatever they do, the same must hold.
