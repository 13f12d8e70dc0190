//! What an event's data looks like: one file for each form.
//!
//! A form writes one JSON value from the record's members, which it copies as AWS sent them wherever the form allows.

pub(super) mod dynamodb_json;
