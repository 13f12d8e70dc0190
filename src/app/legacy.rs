//! What the counters of Knative's adapters say about this process.

use crate::config::{Config, EventProfile, LegacyMetrics, TableRef};
use crate::telemetry::metrics::LegacySettings;

/// `awsDynamoDBSourceResource` of TriggerMesh.
const TRIGGERMESH_GROUP: &str = "awsdynamodbsources.sources.triggermesh.io";

/// Source: the defaults of `EnvConfig` in `knative.dev/eventing/pkg/adapter/v2`.
const DEFAULT_GROUP: &str = "adapter.sources.knative.dev";
const DEFAULT_NAME: &str = "adapter";

/// What they are to say, where they are wanted.
pub(super) fn settings(config: &Config) -> Option<LegacySettings> {
    if config.process.legacy_metrics == LegacyMetrics::Off {
        return None;
    }
    let (resource_group, event_type, one_source) = match config.event.profile {
        EventProfile::Aws => (DEFAULT_GROUP, "", None),
        EventProfile::Triggermesh => (TRIGGERMESH_GROUP, "com.amazon.dynamodb.stream_record", None),
        EventProfile::IntegrationSource => {
            (DEFAULT_GROUP, "dev.knative.eventing.aws-ddb-streams", Some("dev.knative.eventing.aws-ddb-streams-source"))
        }
    };
    let source = |table: &TableRef| one_source.or(table.table_arn()).unwrap_or(table.table_name()).to_owned();
    let names = &config.platform_names;
    Some(LegacySettings {
        component: names.component.clone().unwrap_or_else(|| DEFAULT_NAME.to_owned()),
        name: names.name.clone().unwrap_or_else(|| DEFAULT_NAME.to_owned()),
        namespace: names.namespace.clone().unwrap_or_default(),
        resource_group: resource_group.to_owned(),
        event_type: event_type.to_owned(),
        event_sources: config.source.tables.iter().map(|it| (it.table_name().to_owned(), source(it))).collect(),
    })
}
