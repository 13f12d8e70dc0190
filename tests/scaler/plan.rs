//! How a scaler is started for tests.

use crate::support::adapter::Plan;

/// What tables every namespace may be scaled by.
pub const ALL_TABLES: &str = r#"[{"namespaces": ["*"], "tables": ["*"], "regions": ["eu-west-1"]}]"#;

/// A scaler that looks often.
pub fn plan(endpoint: &str) -> Plan {
    Plan::bare()
        .subcommand("scaler")
        .env("SCALER_RULES", ALL_TABLES)
        .env("SCALER_ADDRESS", "127.0.0.1:0")
        .env("HTTP_ADDRESS", "127.0.0.1:0")
        .env("SCALER_REFRESH_INTERVAL", "1s")
        .env("SCALER_DESCRIBE_RATE", "10")
        .env("SCALER_POLL_INTERVAL", "250ms")
        .env("SCALER_IDLE_AFTER", "1s")
        .env("AWS_ENDPOINT_URL", endpoint)
        .env("AWS_REGION", "eu-west-1")
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("LOG_FORMAT", "json")
}
