//! The protocol: JSON 1.0 over HTTP, one POST a call.

use std::sync::{Arc, Mutex};
use std::time::{Instant, UNIX_EPOCH};

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::calls::Call;
use super::faults::Trouble;
use super::model::{Children, LastPage, Shard, Stream, Table, World, table_arn};
use crate::support::body::CutBody;

type Shared = Arc<Mutex<World>>;

pub async fn serve(listener: TcpListener, world: Shared) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let _ = stream.set_nodelay(true);
        let world = world.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| answer(world.clone(), request));
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(world: Shared, request: Request<Incoming>) -> Result<Response<CutBody>, std::io::Error> {
    let target = request.headers().get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
    let body = request.into_body().collect().await.map_err(std::io::Error::other)?.to_bytes();
    let input: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let about = about(&operation, &input);
    let trouble = lock(&world).faults.strike(&operation, &about);
    let outcome = match trouble {
        None => {
            let mut world = lock(&world);
            let outcome = perform(&mut world, &operation, &input);
            let records = outcome.as_ref().map_or(0, |text| text.matches("\"eventID\"").count());
            let (shard, detail) = detail(&operation, &input);
            world.calls.0.push(Call { operation, about, shard, detail, at: Instant::now(), records });
            outcome
        }
        Some(trouble) => {
            let (shard, detail) = (String::new(), format!("{trouble:?}"));
            lock(&world).calls.0.push(Call { operation, about, shard, detail, at: Instant::now(), records: 0 });
            match trouble {
                Trouble::Error(code) => Err(code),
                Trouble::Html(status) => return Ok(response(&world, status, "<html>sorry</html>".to_owned(), 0)),
                Trouble::Answer(status, body) => return Ok(response(&world, status, body, 0)),
                Trouble::Truncated => return Ok(response(&world, 200, "{\"Records\":[".to_owned(), 5000)),
                Trouble::Garbage => return Ok(response(&world, 200, "not json".to_owned(), 0)),
                Trouble::Reset => return Err(std::io::ErrorKind::ConnectionReset.into()),
                Trouble::Hang(time) => {
                    tokio::time::sleep(time).await;
                    return Err(std::io::ErrorKind::TimedOut.into());
                }
            }
        }
    };
    Ok(match outcome {
        Ok(text) => response(&world, 200, text, 0),
        Err(code) => {
            let status = if code.starts_with("InternalServerError") { 500 } else { 400 };
            let body = json!({"__type": format!("com.amazonaws.dynamodb.v20120810#{code}"), "message": "scripted"});
            response(&world, status, body.to_string(), 0)
        }
    })
}

fn response(world: &Shared, status: u16, text: String, announced: u64) -> Response<CutBody> {
    let now = UNIX_EPOCH + lock(world).now();
    Response::builder()
        .status(status)
        .header("content-type", "application/x-amz-json-1.0")
        .header("date", httpdate::fmt_http_date(now))
        .body(CutBody::new(text, announced))
        .unwrap_or_else(|never: hyper::http::Error| unreachable!("{never}"))
}

fn lock(world: &Shared) -> std::sync::MutexGuard<'_, World> {
    world.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn about(operation: &str, input: &Value) -> String {
    let text = |name: &str| input[name].as_str().unwrap_or_default().to_owned();
    match operation {
        "DescribeTable" | "ListStreams" => text("TableName").rsplit('/').next().unwrap_or_default().to_owned(),
        "GetRecords" => text("ShardIterator").split('|').next().unwrap_or_default().to_owned(),
        _ => text("StreamArn"),
    }
}

fn detail(operation: &str, input: &Value) -> (String, String) {
    let text = |name: &str| input[name].as_str().unwrap_or_default().to_owned();
    match operation {
        "GetShardIterator" => (text("ShardId"), text("ShardIteratorType")),
        "GetRecords" => {
            let iterator = text("ShardIterator");
            let parts: Vec<&str> = iterator.split('|').collect();
            (parts.get(1).copied().unwrap_or_default().to_owned(), parts.get(2).copied().unwrap_or_default().to_owned())
        }
        "DescribeStream" => {
            (text("ExclusiveStartShardId"), input["ShardFilter"]["ShardId"].as_str().unwrap_or_default().to_owned())
        }
        _ => Default::default(),
    }
}

type Outcome = Result<String, &'static str>;

const NOT_FOUND: &str = "ResourceNotFoundException";

fn perform(world: &mut World, operation: &str, input: &Value) -> Outcome {
    match operation {
        "DescribeTable" => describe_table(world, input),
        "ListStreams" => list_streams(world, input),
        "DescribeStream" => describe_stream(world, input),
        "GetShardIterator" => get_shard_iterator(world, input),
        "GetRecords" => get_records(world, input),
        _ => Err("UnknownOperationException"),
    }
}

fn describe_table(world: &World, input: &Value) -> Outcome {
    let name = about("DescribeTable", input);
    let table = world.tables.get(&name).filter(|table| table.exists).ok_or(NOT_FOUND)?;
    let mut description = json!({"TableName": name, "TableArn": table_arn(&name), "TableStatus": "ACTIVE"});
    if let Some(stream) = table.streams.last() {
        description["LatestStreamArn"] = json!(stream.arn);
    }
    Ok(json!({"Table": description}).to_string())
}

fn list_streams(world: &World, input: &Value) -> Outcome {
    let name = about("ListStreams", input);
    let streams = world.tables.get(&name).map(|table| &table.streams).ok_or(NOT_FOUND)?;
    let known = streams.iter().filter(|stream| !stream.gone);
    let listed: Vec<Value> = known.map(|stream| json!({"StreamArn": stream.arn, "TableName": name})).collect();
    Ok(json!({"Streams": listed}).to_string())
}

fn stream<'w>(world: &'w mut World, arn: &str) -> Result<(&'w str, &'static str, &'w mut Stream), &'static str> {
    for (name, table) in &mut world.tables {
        let view = table.view;
        if let Some(stream) = table.streams.iter_mut().find(|stream| stream.arn == arn && !stream.gone) {
            return Ok((name, view, stream));
        }
    }
    Err(NOT_FOUND)
}

fn describe_stream(world: &mut World, input: &Value) -> Outcome {
    let arn = input["StreamArn"].as_str().unwrap_or_default();
    let behind = input["ExclusiveStartShardId"].as_str();
    let parent = input["ShardFilter"]["ShardId"].as_str();
    let (page, reverse) = (world.page_shards, world.reverse_listing);
    let filter = match (parent, world.children) {
        (Some(_), Children::LateBy(times)) if times > 0 => {
            world.children = Children::LateBy(times - 1);
            Some("nobody's child")
        }
        (parent, Children::Known | Children::LateBy(_)) => parent,
        (_, Children::Ignored) => None,
    };
    let owner = world.tables.values().find(|table| table.streams.iter().any(|stream| stream.arn == arn));
    let key_schema = owner.map(Table::key_schema);
    let (name, view, stream) = stream(world, arn)?;
    let visible = |shard: &&mut Shard| {
        let shown = !shard.gone && shard.hidden == 0;
        shown && filter.is_none_or(|filter| shard.parent.as_deref() == Some(filter))
    };
    let mut shards: Vec<Value> = stream.shards.iter_mut().filter(visible).map(|shard| listed(shard)).collect();
    stream.shards.iter_mut().for_each(|shard| shard.hidden = shard.hidden.saturating_sub(1));
    if reverse {
        shards.reverse();
    }
    let begin = behind.map_or(0, |behind| {
        shards.iter().position(|shard| shard["ShardId"] == behind).map_or(shards.len(), |at| at + 1)
    });
    let rest = shards.split_off(begin.min(shards.len()));
    let more = rest.len() > page;
    let shown: Vec<Value> = rest.into_iter().take(page).collect();
    let mut description = json!({
        "StreamArn": arn, "TableName": name, "StreamViewType": view,
        "StreamStatus": if stream.enabled { "ENABLED" } else { "DISABLED" },
        "KeySchema": key_schema,
    });
    if more {
        description["LastEvaluatedShardId"] = shown.last().expect("more follows it")["ShardId"].clone();
    }
    description["Shards"] = json!(shown);
    Ok(json!({"StreamDescription": description}).to_string())
}

fn listed(shard: &Shard) -> Value {
    let mut range = json!({"StartingSequenceNumber": "100000000000000000000"});
    if shard.closed {
        range["EndingSequenceNumber"] = json!("999999999999999999999999");
    }
    let mut listed = json!({"ShardId": shard.id, "SequenceNumberRange": range});
    if let Some(parent) = &shard.parent {
        listed["ParentShardId"] = json!(parent);
    }
    listed
}

fn get_shard_iterator(world: &mut World, input: &Value) -> Outcome {
    let (arn, id) = (input["StreamArn"].as_str().unwrap_or_default(), input["ShardId"].as_str().unwrap_or_default());
    let epoch = world.iterator_epoch;
    let (_, _, stream) = stream(world, arn)?;
    let shard = stream.shards.iter().find(|shard| shard.id == id && !shard.gone).ok_or(NOT_FOUND)?;
    let sequence =
        || input["SequenceNumber"].as_str().and_then(|text| text.parse::<u128>().ok()).ok_or("ValidationException");
    let index = match input["ShardIteratorType"].as_str().unwrap_or_default() {
        "TRIM_HORIZON" => shard.trimmed,
        "LATEST" => shard.records.len(),
        kind @ ("AT_SEQUENCE_NUMBER" | "AFTER_SEQUENCE_NUMBER") => {
            let sequence = sequence()?;
            let first = sequence + u128::from(kind == "AFTER_SEQUENCE_NUMBER");
            let index = shard.records.iter().take_while(|record| record.sequence < first).count();
            if shard.trimmed > 0 && shard.records[..shard.trimmed].last().is_some_and(|last| last.sequence >= sequence)
            {
                return Err("TrimmedDataAccessException");
            }
            index
        }
        _ => return Err("ValidationException"),
    };
    Ok(json!({"ShardIterator": format!("{arn}|{id}|{index}|{epoch}|{}", 0)}).to_string())
}

fn get_records(world: &mut World, input: &Value) -> Outcome {
    let iterator = input["ShardIterator"].as_str().unwrap_or_default().to_owned();
    let parts: Vec<&str> = iterator.split('|').collect();
    let [arn, id, index, epoch, empties] = parts[..] else { return Err("ValidationException") };
    let number = |text: &str| text.parse::<usize>().map_err(|_| "ValidationException");
    let (index, epoch, empties) = (number(index)?, number(epoch)? as u64, number(empties)?);
    if epoch < world.iterator_epoch {
        return Err("ExpiredIteratorException");
    }
    let (limit, last_page, wanted_empties) = (world.page_records, world.last_page, world.empty_pages);
    let (_, _, stream) = stream(world, arn)?;
    let shard = stream.shards.iter().find(|shard| shard.id == id && !shard.gone).ok_or(NOT_FOUND)?;
    if index < shard.trimmed {
        return Err("TrimmedDataAccessException");
    }
    let rest = &shard.records[index..];
    if !rest.is_empty() && empties < wanted_empties {
        let next = format!("{arn}|{id}|{index}|{epoch}|{}", empties + 1);
        return Ok(json!({"Records": [], "NextShardIterator": next}).to_string());
    }
    let mut records = Vec::new();
    let mut bytes = 0;
    for record in rest.iter().take(limit) {
        bytes += record.json.len();
        if bytes > 1_000_000 && !records.is_empty() {
            break;
        }
        records.push(record.json.as_str());
    }
    let end = index + records.len();
    let at_end = shard.closed && end == shard.records.len();
    let ended = at_end && (last_page == LastPage::WithRecords || records.is_empty());
    let next = if ended { String::new() } else { format!(",\"NextShardIterator\":\"{arn}|{id}|{end}|{epoch}|0\"") };
    Ok(format!("{{\"Records\":[{}]{next}}}", records.join(",")))
}
