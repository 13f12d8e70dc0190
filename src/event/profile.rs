//! Which attributes an event has: one file for each profile.
//!
//! A profile hands a record's attributes to a serializer of the CloudEvents SDK's kind. It knows neither the form of
//! the data nor the encoding of the whole. Those that replace or add attributes later (overrides, dead-letter
//! attributes) stand between it and the serializer, as a serializer that passes the rest on.

pub(super) mod aws;
