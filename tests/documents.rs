//! What documents refer to is there: pages, headings, codes, alerts. `UPDATE_DOCS=1 cargo test --test documents` writes the
//! copy of the alerts for the Prometheus operator.
#![allow(clippy::unwrap_used)] // a document that cannot be read has failed

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::{env, fs};

use dynamodb_streams_adapter::config::variables;
use dynamodb_streams_adapter::telemetry::events::CODES;

const INDEX: &str = "docs/runbook/README.md";
const ALERTS: &str = "dashboards/alerts.yaml";
const RULE: &str = "manifests/components/prometheus-rule/prometheus-rule.yaml";

const URLS: &str = "manifests/components/runbook-url/pages.yaml";
const URLS_HEAD: &str =
    "# Written from dashboards/alerts.yaml by `UPDATE_DOCS=1 cargo test --test documents`; change it there.\n";

const RULE_HEAD: &str = "\
# Written from dashboards/alerts.yaml by `UPDATE_DOCS=1 cargo test --test documents`; change it there.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: dynamodb-streams-adapter
  labels:
    app.kubernetes.io/name: dynamodb-streams-adapter
spec:
";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All Markdown files at the top, and below the folders that have any.
fn pages() -> Vec<String> {
    let mut folders: Vec<PathBuf> = ["docs", "dashboards", "manifests"].iter().map(|name| root().join(name)).collect();
    let mut files: Vec<PathBuf> = entries(&root()).into_iter().filter(|path| path.is_file()).collect();
    while let Some(folder) = folders.pop() {
        let (below, here): (Vec<_>, Vec<_>) = entries(&folder).into_iter().partition(|path| path.is_dir());
        folders.extend(below);
        files.extend(here);
    }
    files.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    files.iter().map(|path| path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned()).collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
}

/// The page without what stands between fences.
fn prose(page: &str) -> String {
    let mut fenced = false;
    let lines = page.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Where a page's links and pictures lead.
fn links(page: &str) -> Vec<String> {
    let page = prose(page);
    let ends = page.match_indices("](").map(|(at, _)| &page[at + 2..]);
    ends.filter_map(|rest| rest.split_once(')')).map(|(link, _)| link.to_owned()).collect()
}

/// The anchors that GitHub gives a page's headings.
fn anchors(page: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for heading in prose(page).lines().filter(|line| line.starts_with('#')) {
        let text = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        let anchor: String = text.chars().filter(|letter| letter.is_alphanumeric() || "-_".contains(*letter)).collect();
        let repeated = (1..).map(|n| format!("{anchor}-{n}"));
        let free = [anchor.clone()].into_iter().chain(repeated).find(|anchor| !anchors.contains(anchor));
        anchors.extend(free);
    }
    anchors
}

/// A link's file, seen from the top; `from` is the page it stands on.
fn target(from: &str, link: &str) -> String {
    let joined = Path::new(from).parent().unwrap().join(link);
    let mut parts: Vec<&str> = Vec::new();
    for part in joined.components() {
        match part {
            Component::ParentDir => drop(parts.pop().expect("a link that stays in the repository")),
            Component::Normal(name) => parts.push(name.to_str().unwrap()),
            _ => {}
        }
    }
    parts.join("/")
}

/// What is wrong with a link, if anything is.
fn broken(from: &str, link: &str) -> Option<String> {
    if link.starts_with("http://") || link.starts_with("https://") || link.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
    let file = if file.is_empty() { from.to_owned() } else { target(from, file) };
    if !root().join(&file).exists() {
        return Some(format!("{from}: {link}: there is no {file}"));
    }
    let anchor = anchor?;
    (!anchors(&read(&file)).contains(anchor)).then(|| format!("{from}: {link}: {file} has no such heading"))
}

/// The rows of a Markdown table whose first cell is a code in backticks: that code, and the page that the last cell links to.
fn rows(page: &str) -> Vec<(String, String)> {
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    rows.filter_map(|(code, rest)| Some((code.to_owned(), links(rest).pop()?))).collect()
}

/// Each alert with its page.
fn alerts() -> Vec<(String, String)> {
    let text = read(ALERTS);
    let blocks = text.split("- alert: ").skip(1);
    let page = |block: &str| {
        let page = block.lines().find_map(|line| line.trim().strip_prefix("runbook: "));
        page.unwrap_or_else(|| panic!("an alert without a page: {block}")).to_owned()
    };
    blocks.map(|block| (block.lines().next().unwrap().to_owned(), page(block))).collect()
}

#[test]
fn every_link_in_the_documents_leads_somewhere() {
    let pages = pages();
    assert!(pages.iter().any(|page| page == "README.md") && pages.iter().any(|page| page == INDEX), "{pages:?}");
    let mut seen = 0;
    let mut bad = Vec::new();
    for page in &pages {
        let links = links(&read(page));
        seen += links.len();
        bad.extend(links.iter().filter_map(|link| broken(page, link)));
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
    assert!(seen > 40, "only {seen} links were understood");
}

#[test]
fn anchors_are_made_as_github_makes_them() {
    let page = "# The `file` of positions, v1.2!\n```\n# no heading\n```\n## Do\n## Do\n[a](b#c)";
    let expected = ["do", "do-1", "the-file-of-positions-v12"];
    assert_eq!(anchors(page), expected.map(str::to_owned).into());
    assert_eq!(links(page), ["b#c"]);
    assert!(broken("docs/runbook/README.md", "../semantics.md#no-such-heading").is_some());
    assert!(broken("docs/runbook/README.md", "no-such-page.md").is_some());
    assert!(broken("docs/runbook/README.md", "../semantics.md#delivery").is_none());
}

#[test]
fn every_code_has_its_page_in_the_runbook() {
    let rows: Vec<_> = rows(&read(INDEX)).into_iter().filter(|(code, _)| code.starts_with("DSA-")).collect();
    let listed: Vec<&str> = rows.iter().map(|(code, _)| code.as_str()).collect();
    assert_eq!(listed, CODES, "{INDEX} must list exactly the program's codes, in their order");
    for (code, page) in &rows {
        let page = target(INDEX, page);
        assert!(read(&page).contains(&format!("`{code}`")), "{page} says nothing of {code}");
    }
}

#[test]
fn every_alert_has_its_page_in_the_runbook() {
    let alerts = alerts();
    assert_eq!(alerts.len(), read(ALERTS).matches("expr:").count(), "an alert was not understood");
    let listed = rows(&read(INDEX)).into_iter().filter(|(name, _)| !name.starts_with("DSA-"));
    let listed: BTreeSet<_> = listed.map(|(name, page)| (name, target(INDEX, &page))).collect();
    assert_eq!(listed, alerts.iter().cloned().collect(), "{INDEX} (left) and runbook (right) differ");
    for (alert, page) in &alerts {
        assert!(read(page).contains(&format!("`{alert}`")), "{page} says nothing of {alert}");
    }
}

#[test]
fn every_page_of_the_runbook_is_in_its_index() {
    let index = read(INDEX);
    for page in pages().iter().filter(|page| page.starts_with("docs/runbook/") && *page != INDEX) {
        let name = Path::new(page).file_name().unwrap().to_str().unwrap();
        assert!(index.contains(&format!("({name})")), "{page} is in no list");
    }
}

/// What gives each alert of the operator's copy an address, of which a kustomization sets the beginning.
fn runbook_urls() -> String {
    let patches = alerts().into_iter().enumerate().map(|(number, (_, page))| {
        let path = format!("/spec/groups/0/rules/{number}/annotations/runbook_url");
        format!("- {{ op: add, path: {path}, value: BASE/{page} }}\n")
    });
    [URLS_HEAD.to_owned()].into_iter().chain(patches).collect()
}

#[test]
fn each_alert_of_the_prometheus_operator_can_have_an_address() {
    let expected = runbook_urls();
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(root().join(URLS), &expected).unwrap();
    }
    let hint = "is out of date: run UPDATE_DOCS=1 cargo test --test documents";
    assert!(read(URLS) == expected, "{URLS} {hint}");
}

#[test]
fn the_prometheus_operator_gets_the_same_alerts() {
    let indented = |line: &str| if line.is_empty() { "\n".to_owned() } else { format!("  {line}\n") };
    let alerts = read(ALERTS);
    let rules = &alerts[alerts.find("groups:").expect("groups of rules")..];
    let expected = format!("{RULE_HEAD}{}", rules.lines().map(indented).collect::<String>());
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(root().join(RULE), &expected).unwrap();
    }
    let hint = "is out of date: run UPDATE_DOCS=1 cargo test --test documents";
    assert!(read(RULE) == expected, "{RULE} {hint}");
}

/// The lines of a page's shell examples, without prompts and comments.
fn commands(page: &str) -> Vec<String> {
    let (mut shell, mut commands) = (false, Vec::new());
    for line in page.lines().map(str::trim) {
        if let Some(language) = line.strip_prefix("```") {
            shell = matches!(language, "sh" | "bash" | "shell");
        } else if shell && !line.starts_with('#') {
            commands.push(line.to_owned());
        }
    }
    commands
}

/// What is wrong with a command, as far as this repository can tell.
fn objection(command: &str) -> Option<String> {
    let words: Vec<&str> = command.split_whitespace().map(|word| word.trim_matches(['\'', '"', '`', ';'])).collect();
    let (cargo, just) = (read("Cargo.toml"), read("justfile"));
    for (at, pair) in words.windows(2).enumerate() {
        // Elsewhere it is the name of an object.
        let is_program = at == 0 || words[at - 1] == "--";
        let known = match pair[0] {
            "just" => just.lines().any(|line| line.split([' ', ':']).next() == Some(pair[1])),
            "-p" if words.contains(&"cargo") => root().join("examples").join(pair[1]).join("Cargo.toml").is_file(),
            "--bench" => root().join(format!("benches/{}.rs", pair[1])).is_file(),
            "--test" => {
                root().join(format!("tests/{}.rs", pair[1])).is_file()
                    || cargo.contains(&format!("name = \"{}\"", pair[1]))
            }
            "dynamodb-streams-adapter" if is_program => {
                pair[1].starts_with('-') || ["check", "positions", "scaler", "help"].contains(&pair[1])
            }
            _ => true,
        };
        if !known {
            return Some(format!("{} {} is not known", pair[0], pair[1]));
        }
    }
    let path =
        |word: &&&str| ["manifests/", "dashboards/", "tests/", ".ci/"].iter().any(|folder| word.starts_with(folder));
    let missing = words.iter().filter(path).find(|path| !root().join(path.split([':', '*']).next().unwrap()).exists());
    missing.map(|path| format!("{path} is not there"))
}

#[test]
fn every_command_in_the_documents_is_one_of_ours() {
    let mut seen = 0;
    for page in pages() {
        for command in commands(&read(&page)) {
            seen += 1;
            assert_eq!(objection(&command), None, "{page}: {command}");
        }
    }
    assert!(seen > 40, "only {seen} commands were found");
    for wrong in [
        "just nonsense",
        "cargo run -p nothing",
        "cargo bench --bench nothing",
        "kubectl apply -k manifests/overlays/none",
    ] {
        assert!(objection(wrong).is_some(), "{wrong}");
    }
}

/// Names of variables that a page's examples set.
fn variables_set(page: &str) -> BTreeSet<String> {
    let is_name = |text: &str| {
        text.len() > 3
            && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
            && text.starts_with(|first: char| first.is_ascii_uppercase())
    };
    let before_equals =
        |part: &str| part.rsplit(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).next().map(str::to_owned);
    let parts: Vec<&str> = page.split('=').collect();
    parts[..parts.len() - 1].iter().filter_map(|part| before_equals(part)).filter(|name| is_name(name)).collect()
}

#[test]
fn every_variable_that_the_documents_set_is_read() {
    // Those of the SDK, of tools in the examples, and of the platforms that start the image.
    let foreign = [
        "AWS_",
        "CAMEL_",
        "K_",
        "SSL_CERT",
        "RUST_",
        "AWSDYNAMODBSOURCE_IMAGE",
        "UPDATE_DOCS",
        "READERS_ALL",
        "SIMULATION_",
        "SOAK_",
    ];
    let of_others = [
        "ARN",
        "SINK_BINDING_SELECTION_MODE",
        "VCS_REF",
        "BUILD_IMAGE",
        "METRICS_PROMETHEUS_PORT",
        "METRICS_PROMETHEUS_HOST",
        "DELAY",
        "OVERRIDEENDPOINT",
    ];
    let known: BTreeSet<&str> = variables().map(|variable| variable.name).collect();
    let mut seen = BTreeSet::new();
    for page in pages() {
        for name in variables_set(&read(&page)) {
            let ours = known.contains(name.as_str());
            let allowed =
                ours || of_others.contains(&name.as_str()) || foreign.iter().any(|prefix| name.starts_with(prefix));
            assert!(allowed, "{page} sets {name}, which nothing reads");
            seen.extend(ours.then_some(name));
        }
    }
    assert!(seen.len() > 10, "only these were found: {seen:?}");
}
