//! What users can rely on when they set variables.

mod access;
mod dialects;
mod documents;
mod generated;
mod mistakes;
mod positions;
mod scaler;
mod spelling;
mod support;
mod tables;
mod together;
mod values;
