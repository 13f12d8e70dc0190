//! The rules, and what breaks them.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::{Import, Source};
use crate::tree::{Tree, module_of};

/// Who may import whom. A room is a file `src/<room>.rs` with all that lies below `src/<room>/`; it may import the rooms behind it
/// and nothing else of the house, `room::Name` that name alone. A room imports only rooms of rows above its own.
#[rustfmt::skip]
pub const MAY_IMPORT: [(&str, &str); 31] = [
    ("clock", ""),
    ("backoff", ""),
    ("error_text", ""),
    ("command_output", ""),
    ("readiness", ""),
    ("spare_files", ""),
    ("memory_limit", ""),
    ("ports", ""),
    ("records", "clock"),
    ("telemetry", "clock"),
    ("config", "clock backoff error_text"),
    ("aws", "config error_text clock"),
    ("event", "records config clock"),
    ("filter", "records config clock"),
    ("sink", "event config telemetry error_text clock"),
    ("lease", "records telemetry backoff clock"),
    ("checkpoint", "records lease aws telemetry error_text clock spare_files"),
    ("progress", "records checkpoint lease telemetry readiness backoff clock"),
    ("streams", "records progress checkpoint lease aws config telemetry readiness backoff error_text clock"),
    ("delivery", "records event sink lease progress config telemetry readiness backoff clock"),
    ("pipeline", "records streams filter event progress delivery config telemetry"),
    ("backfill", "records aws pipeline progress config telemetry backoff error_text clock"),
    ("admin", "records lease progress delivery telemetry readiness clock spare_files"),
    ("check", "records aws streams event sink checkpoint config telemetry error_text clock command_output"),
    ("scaler", "backoff records aws streams checkpoint lease config telemetry readiness admin sink::ReloadingFile error_text \
                clock command_output ports"),
    ("convert", "config command_output"),
    ("commands", "records aws streams event sink checkpoint lease config telemetry readiness admin error_text clock \
                  command_output check scaler convert"),
    ("app", "clock backoff error_text command_output memory_limit ports readiness records telemetry config aws event filter sink lease \
             checkpoint progress streams delivery pipeline backfill admin"),
    ("fuzzing", "checkpoint config delivery error_text event records sink"),
    ("lib", ""),
    ("main", "app commands scaler config telemetry clock command_output"),
];

/// Files, and folders with all that is in them, that do no I/O: time and chance are arguments.
///
/// Some are planned: `filter.rs`, `lease/`, `pipeline/backfill_rows.rs`; so are the rooms `filter`, `lease`, `backfill`, `scaler` and
/// `convert` above.
const PURE: &str = "\
    backoff.rs error_text.rs error_text/ command_output.rs readiness.rs filter.rs records.rs records/ config.rs config/ aws/errors.rs \
    event.rs event/ checkpoint/journal/lines.rs checkpoint/dynamodb/items.rs checkpoint/dynamodb/entries.rs \
    checkpoint/dynamodb/heads.rs checkpoint/dynamodb/plan.rs checkpoint/dynamodb/ledger.rs checkpoint/dynamodb/strays.rs progress/shard_progress.rs progress/tracked_shard.rs progress/tracked_stream.rs \
    progress/left_out.rs progress/left_out_lanes.rs progress/catch_up.rs progress/page_entry.rs \
    delivery/barriers.rs delivery/lane.rs delivery/request.rs delivery/request_load.rs delivery/batch_size.rs \
    lease/assignment.rs progress/table_tracker.rs progress/lineage.rs streams/shard_discovery.rs \
    delivery/sink_controller.rs delivery/sink_controller/ delivery/response_class.rs delivery/lanes.rs \
    delivery/retry.rs delivery/queues.rs pipeline/backfill_rows.rs check/fix.rs \
    scaler/trigger.rs scaler/table_view.rs scaler/activity.rs";

/// What a pure file does not call, by its last name, and which of the standard library it does not know.
const IMPURE_CALLS: [&str; 6] = ["now", "elapsed", "sleep", "sleep_until", "spawn", "spawn_blocking"];
const IMPURE_PATHS: [&str; 4] = ["fastrand", "std::fs", "std::net", "std::env"];
/// Addresses, but nothing that connects them.
const PURE_NAMES: [&str; 5] = ["IpAddr", "Ipv4Addr", "Ipv6Addr", "SocketAddr", "AddrParseError"];

/// Libraries that do I/O or whose types spread, how their crates' paths begin, and the files and folders that they stay in. Others
/// may be used anywhere.
#[rustfmt::skip]
const LIBRARIES: [(&str, &str, &str); 13] = [
    ("the AWS SDK", "aws_",
        "aws.rs aws/ streams/client/aws.rs checkpoint/dynamodb/aws.rs backfill.rs check/aws.rs \
         check/clock_skew.rs"),
    ("hyper", "hyper hyper_util",
        "sink/http.rs sink/connection.rs sink/connector.rs sink/response_body.rs sink/transport_error.rs admin/server.rs streams/client/aws.rs check/connection.rs scaler/server.rs scaler/reader_client.rs"),
    ("rustls", "rustls tokio_rustls hyper_rustls rustls_native_certs",
        "sink/http.rs sink/connector.rs sink/tls.rs sink/transport_error.rs config/sink.rs check/connection.rs scaler/server.rs scaler/server_tls.rs scaler/reader_client.rs"),
    ("tonic", "tonic tonic_prost prost",
        "scaler/service.rs scaler/calls.rs scaler/activity_stream.rs scaler/reader_client.rs scaler/externalscaler.rs"),
    ("axum", "axum",
        "admin.rs admin/server.rs"),
    ("prometheus", "prometheus",
        "telemetry/metrics.rs telemetry/metrics/ admin.rs"),
    ("tracing", "tracing tracing_subscriber",
        "telemetry.rs telemetry/ config/process.rs main.rs"),
    ("chrono", "chrono",
        "clock.rs check/sink.rs"),
    ("httpdate", "httpdate",
        "sink/http.rs check/clock_skew.rs"),
    ("cloudevents", "cloudevents",
        "event.rs event/ delivery/pending_event.rs check/sink.rs"),
    ("envy", "envy",
        "config/variable.rs config/reader.rs"),
    ("clap", "clap",
        "commands.rs commands/ main.rs check.rs config/"),
    ("std::fs", "std::fs tokio::fs",
        "aws/files.rs aws/http_client.rs aws/keys_folder.rs checkpoint/journal.rs checkpoint/journal/ sink/tls.rs sink/reloading_file.rs check/store.rs \
          check/web_identity.rs \
         commands.rs commands/ memory_limit.rs"),
];

/// A rule that is broken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Offence {
    /// As `offences.txt` lists it.
    pub what: String,
    /// The file and line of the first place.
    pub place: String,
    pub rule: String,
}

impl Offence {
    fn new(file: &str, line: usize, what: String, rule: impl Into<String>) -> Self {
        Self { what, place: format!("src/{file}:{line}"), rule: rule.into() }
    }
}

/// All offences, each once.
pub fn offences(tree: &Tree) -> Vec<Offence> {
    let rules = [
        imports(tree),
        circles(tree),
        spread_impls(tree),
        impure(tree),
        libraries(tree),
        selects(tree),
        questions(tree),
    ];
    let mut all: BTreeMap<String, Offence> = BTreeMap::new();
    for offence in rules.into_iter().flatten() {
        all.entry(offence.what.clone()).or_insert(offence);
    }
    all.into_values().collect()
}

fn room_of(file: &str) -> String {
    module_of(file).into_iter().next().unwrap_or_else(|| "lib".to_owned())
}

fn imports(tree: &Tree) -> Vec<Offence> {
    let mut found = Vec::new();
    for file in tree.files.keys() {
        let room = room_of(file);
        let row = MAY_IMPORT.iter().find(|(name, _)| *name == room);
        let Some((_, allowed)) = row else {
            let rule = "every room has a row in MAY_IMPORT of tests/house/rules.rs";
            found.push(Offence::new(file, 1, format!("{room} is a room without a row"), rule));
            continue;
        };
        for (import, target) in tree.imports(file) {
            let (other, name) = (room_of(&target.file), target.name);
            let is_allowed = |word: &str| word == other || word == format!("{other}::{name}");
            if other != room && other != "lib" && !allowed.split_whitespace().any(is_allowed) {
                let rule = format!(
                    "{room} may import these rooms and no others: {}",
                    if allowed.is_empty() { "none" } else { allowed }
                );
                found.push(Offence::new(file, import.line, format!("{room} imports {name} of {other}"), rule));
            }
        }
    }
    found
}

/// Files of its own room that each file imports, with the lines. That a file re-exports what its children declare does not count,
/// unless it also uses it.
fn imported_files(tree: &Tree) -> BTreeMap<&str, BTreeMap<String, usize>> {
    let of = |(file, source): (&'_ String, &Source)| {
        let children = format!("{}/", file.trim_end_matches(".rs"));
        let mut files = BTreeMap::new();
        for (import, target) in tree.imports(file) {
            let is_reexport = import.is_public && target.file.starts_with(&children);
            let counts = target.file != *file && room_of(&target.file) == room_of(file);
            if counts && !(is_reexport && source.uses_of(&import.alias) == 0) {
                files.entry(target.file).or_insert(import.line);
            }
        }
        files
    };
    tree.files.iter().map(|(file, source)| (file.as_str(), of((file, source)))).collect()
}

fn circles(tree: &Tree) -> Vec<Offence> {
    let graph = imported_files(tree);
    let reached: BTreeMap<&str, BTreeSet<&str>> = graph.keys().map(|file| (*file, reachable(&graph, file))).collect();
    let mut found = Vec::new();
    for (file, others) in &reached {
        let circle: Vec<&str> = others.iter().copied().filter(|other| reached[other].contains(file)).collect();
        // Each circle once, by its first file.
        if circle.first() == Some(file) {
            let inside = |from: &str| graph[from].iter().filter(|(to, _)| circle.contains(&to.as_str()));
            let steps =
                circle.iter().flat_map(|from| inside(from).map(move |(to, line)| format!("{from}:{line} -> {to}")));
            let rule =
                format!("files do not import each other in a circle:\n    {}", Vec::from_iter(steps).join("\n    "));
            found.push(Offence::new(file, 1, format!("circle of {}", circle.join(" ")), rule));
        }
    }
    found
}

/// All files that a file imports, and those that they import.
fn reachable<'g>(graph: &'g BTreeMap<&str, BTreeMap<String, usize>>, file: &'g str) -> BTreeSet<&'g str> {
    let (mut seen, mut ahead) = (BTreeSet::new(), vec![file]);
    while let Some(file) = ahead.pop() {
        let next = graph.get(file).into_iter().flat_map(BTreeMap::keys);
        ahead.extend(next.map(String::as_str).filter(|file| seen.insert(*file)));
    }
    seen
}

fn spread_impls(tree: &Tree) -> Vec<Offence> {
    let mut declaring: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (file, source) in &tree.files {
        source.declared().into_iter().for_each(|name| declaring.entry(name).or_default().push(file));
    }
    let mut found = Vec::new();
    for (file, source) in &tree.files {
        for (name, line) in source.inherent_impls() {
            let declared_in = declaring.get(name).filter(|files| !files.contains(&file.as_str()));
            let Some(declared_in) = declared_in else { continue };
            let rule =
                format!("an `impl` block stands in the file that declares its type: {}", declared_in.join(" or "));
            found.push(Offence::new(file, line, format!("{file} has an impl of {name}"), rule));
        }
    }
    found
}

fn is_in(file: &str, places: &str) -> bool {
    places.split_whitespace().any(|place| file == place || place.ends_with('/') && file.starts_with(place))
}

fn impure(tree: &Tree) -> Vec<Offence> {
    let rule = "a pure file does no I/O and takes time and chance as arguments";
    let mut found = Vec::new();
    for (file, source) in tree.files.iter().filter(|(file, _)| is_in(file, PURE)) {
        let calls =
            source.tokens.windows(2).filter(|pair| pair[1].text == "(").map(|pair| (&pair[0].text, pair[0].line));
        let named = source.imports.iter().filter_map(|import| Some((import.path.last()?, import.line)));
        let impure = calls.chain(named).filter(|(name, _)| IMPURE_CALLS.contains(&name.as_str()));
        found.extend(impure.map(|(name, line)| Offence::new(file, line, format!("{file} calls {name}"), rule)));
        for import in &source.imports {
            let path = import.path.join("::");
            let word = IMPURE_PATHS.iter().find(|word| leads_to(&path, word));
            if let Some(word) = word.filter(|_| !import.path.iter().any(|name| PURE_NAMES.contains(&name.as_str()))) {
                found.push(Offence::new(file, import.line, format!("{file} uses {word}"), rule));
            }
        }
    }
    found
}

fn leads_to(path: &str, word: &str) -> bool {
    path.strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with("::") || word.ends_with('_'))
}

fn libraries(tree: &Tree) -> Vec<Offence> {
    let mut found = Vec::new();
    for (file, source) in &tree.files {
        // A path that begins with a name of a `use` is that one's.
        let is_named = |import: &&Import| source.imports.iter().any(|used| used.alias == import.path[0]);
        for import in source.imports.iter().filter(|import| !import.alias.is_empty() || !is_named(import)) {
            let path = import.path.join("::");
            let library = LIBRARIES.iter().find(|(_, crates, _)| crates.split(' ').any(|word| leads_to(&path, word)));
            let Some((name, _, places)) = library.filter(|(_, _, places)| !is_in(file, places)) else { continue };
            let rule = format!("{name} is used in these files and no others: {places}");
            found.push(Offence::new(file, import.line, format!("{file} uses {name}"), rule));
        }
    }
    found
}

/// `tokio::select!` draws the order of its branches by chance; the macro of `lib.rs` takes them as they come.
fn selects(tree: &Tree) -> Vec<Offence> {
    let rule =
        "the macro `select!` of lib.rs is used instead of `tokio::select!`, whose order a simulation cannot repeat";
    let mut found = Vec::new();
    for (file, source) in tree.files.iter().filter(|(file, _)| *file != "lib.rs") {
        let uses = source.tokens.windows(3).filter(|three| {
            [three[0].text.as_str(), three[1].text.as_str(), three[2].text.as_str()] == ["tokio", "::", "select"]
        });
        found.extend(uses.map(|three| Offence::new(file, three[0].line, format!("{file} uses tokio::select"), rule)));
    }
    found
}

/// How the name of a function begins that asks something.
const QUESTIONS: [&str; 6] = ["is_", "are_", "was_", "has_", "may_", "can_"];

/// Whoever reads `lane.is_due(shard)` takes it for a question: what changes something is named for that (`mark_due`, `set_lease`).
fn questions(tree: &Tree) -> Vec<Offence> {
    let rule = "a function whose name asks something returns the answer; name one that changes something `mark_…`, `set_…` or the like";
    let mut found = Vec::new();
    for (file, source) in &tree.files {
        let silent = source.functions_without_result().into_iter();
        let asking = silent.filter(|(name, _)| QUESTIONS.iter().any(|question| name.starts_with(question)));
        found.extend(
            asking.map(|(name, line)| {
                Offence::new(file, line, format!("{file} has {name}, which answers nothing"), rule)
            }),
        );
    }
    found
}
