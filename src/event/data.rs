//! What an event's data looks like: one file for each form.
//!
//! A form writes one JSON value from the record's members, which it copies as AWS sent them wherever the form allows.
//! Those that write items in another way walk through AWS's text once and build no tree.

pub(super) mod dynamodb_json;
pub(super) mod integration_source;
pub(super) mod json;
pub(super) mod triggermesh;

mod attribute;
mod escapes;
mod json_text;
mod number;
mod writer;

#[cfg(test)]
mod tests;
