//! What users can rely on when they set variables.

mod documents;
mod generated;
mod mistakes;
mod sink;
mod spelling;
mod support;
mod tables;
mod together;
mod values;
