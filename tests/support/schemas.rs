//! The published JSON Schemas, for whatever arrives at a test's sink.

use std::sync::LazyLock;

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::Value;

use super::sink::Received;

struct Compiled {
    schemas: Schemas,
    change: SchemaIndex,
    gap: SchemaIndex,
}

static COMPILED: LazyLock<Compiled> = LazyLock::new(|| {
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    let mut compile = |name: &str| {
        let text = std::fs::read_to_string(format!("{}/docs/schemas/{name}.json", env!("CARGO_MANIFEST_DIR")));
        let place = format!("file:///{name}.json");
        compiler.add_resource(&place, serde_json::from_str::<Value>(&text.unwrap()).unwrap()).unwrap();
        compiler.compile(&place, &mut schemas).unwrap()
    };
    let (change, gap) = (compile("dynamodb-json"), compile("gap"));
    Compiled { schemas, change, gap }
});

/// Events whose data is not what the schemas say, for those of the default form and of gaps.
pub fn invalid(received: &[Received]) -> Vec<String> {
    let Compiled { schemas, change, gap } = &*COMPILED;
    let objection = |event: &Received| {
        let index = if event.kind.ends_with(".gap") { *gap } else { *change };
        let error = schemas.validate(&event.data, index).err()?;
        Some(format!("not as the schema says: {} of {:?}: {error:#}", event.id, event.item))
    };
    received.iter().filter(|event| event.kind.starts_with("com.amazonaws.dynamodb.")).filter_map(objection).collect()
}
