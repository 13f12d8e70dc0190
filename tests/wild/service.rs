//! DynamoDB Streams with one table and one shard, whose pages are written by the test.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::server::{Seen, Server, answer};

const STREAM: &str = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026-01-02T03:04:05.678";

/// The bodies of `GetRecords`, one after the other; the last one is repeated.
pub type Pages = Arc<Mutex<Vec<String>>>;

/// A service with these pages.
pub async fn serve(pages: &[String]) -> (Server, Pages) {
    let pages: Pages = Arc::new(Mutex::new(pages.to_vec()));
    let shown = pages.clone();
    let server = Server::start(move |request| answer(200, respond(request, &shown))).await;
    (server, pages)
}

/// Where the shard was asked to begin, in order.
pub fn iterators(server: &Server) -> Vec<Value> {
    let asked = server.seen().into_iter().filter(|seen| operation(seen) == "GetShardIterator");
    asked.map(|seen| serde_json::from_str(&seen.body).unwrap()).collect()
}

pub fn operation(request: &Seen) -> &str {
    request.header("x-amz-target").rsplit('.').next().unwrap()
}

fn respond(request: &Seen, pages: &Pages) -> String {
    match operation(request) {
        "DescribeTable" => {
            json!({"Table": {"TableArn": STREAM.split("/stream").next(), "LatestStreamArn": STREAM}}).to_string()
        }
        "ListStreams" => json!({"Streams": [{"StreamArn": STREAM, "TableName": "orders"}]}).to_string(),
        "DescribeStream" => json!({"StreamDescription": {
            "StreamArn": STREAM, "TableName": "orders", "StreamStatus": "ENABLED",
            "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
            "Shards": [{"ShardId": "shardId-00000001767323045000-00000001"}],
        }})
        .to_string(),
        "GetShardIterator" => json!({"ShardIterator": "first"}).to_string(),
        _ => {
            let mut pages = pages.lock().unwrap();
            if pages.len() > 1 { pages.remove(0) } else { pages[0].clone() }
        }
    }
}

/// A record with this sequence number.
pub fn record(sequence: &str) -> Value {
    json!({
        "eventID": format!("id-{sequence}"), "eventName": "INSERT", "eventVersion": "1.1", "awsRegion": "eu-west-1",
        "dynamodb": {"Keys": {"id": {"S": sequence}}, "SequenceNumber": sequence, "StreamViewType": "KEYS_ONLY", "SizeBytes": 9}
    })
}
