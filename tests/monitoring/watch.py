"""Watches the scene with Prometheus: every query of every panel, every alert.

usage: watch.py SCENE [WORD]   SCENE is the built test target `monitoring`; with WORD only checks whose name holds it.
"""

import json
import math
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import dashboards
from dashboards import ROOT

SCENE_SECONDS = 50
RATE_INTERVAL, RANGE = "5s", "50s"
ALERTS = ROOT / "dashboards/alerts.yaml"

# What does not happen in the scene: there is no filter in this version, no event is dead-lettered or dropped, no item's changes are
# too many for the memory, no scaler is there, and one machine has one clock.
ALWAYS_ZERO = {
    "overview.json, 'Parked items by table', B",
    "overview.json, 'Records and events', C", "overview.json, 'Records and events', D",
    "overview.json, 'Records and events', E", "overview.json, 'Failed requests by whose fault', C",
    "shards.json, 'Records left out', A",
    "shards.json, 'Calls of KEDA', A", "shards.json, 'Tables of the scaler', A",
    "shards.json, 'Calls of the scaler to AWS', A", "shards.json, 'Streams of activity', A",
    "shards.json, 'Replicas of the scaler that read', A",
    "overview.json, \"AWS's clock, ahead of this one\", A",
}

# What has no value as long as the sink never had too many requests.
NEVER_LIMITED = {"overview.json, 'What the sink takes', B", "overview.json, 'What the sink takes', C"}


class Prometheus:
    """A Prometheus of our own that scrapes the scene every second. It ends with the `with` block."""

    def __init__(self, folder, targets):
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = "127.0.0.1:%d" % probe.getsockname()[1]
        self.begun = time.time()
        namespace = lambda name: name.split("-")[0]
        statics = [{"targets": [address], "labels": {"namespace": namespace(name)}} for name, address in targets.items()]
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(ALERTS)],
            "scrape_configs": [{"job_name": "adapter", "static_configs": statics}],
        }
        (folder / "prometheus.yml").write_text(json.dumps(config))

    def __enter__(self):
        log = open(self.folder / "prometheus.log", "w")
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={self.folder}/prometheus.yml", f"--storage.tsdb.path={self.folder}/data",
             f"--web.listen-address={self.address}"], stdout=log, stderr=log)
        wait_for("Prometheus", self.is_ready, self.process, self.folder / "prometheus.log")
        return self

    def __exit__(self, *_):
        end(self.process)

    def is_ready(self):
        try:
            return urllib.request.urlopen(f"http://{self.address}/-/ready", timeout=5).status == 200
        except OSError:
            return False

    def get(self, path, **parameters):
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters, doseq=True)}"
        try:
            answer = json.load(urllib.request.urlopen(url, timeout=30))
        except urllib.error.HTTPError as error:
            answer = json.load(error)
        assert answer["status"] == "success", f"{answer.get('error')}: {parameters}"
        assert not answer.get("warnings"), f"{answer['warnings']}: {parameters}"
        return answer["data"]

    def over_time(self, expression):
        """All values since the start, series by series."""
        data = self.get("query_range", query=expression, start=self.begun, end=time.time(), step=1)
        return [(series["metric"], [(at, float(value)) for at, value in series["values"]]) for series in data["result"]]


class Scene:
    """The scene as a process of its own. It ends with the `with` block."""

    def __init__(self, executable, folder):
        self.executable, self.folder = executable, folder

    def __enter__(self):
        log = open(self.folder / "scene.log", "w")
        self.process = subprocess.Popen(
            [self.executable, "--nocapture"], cwd=ROOT, stdout=log, stderr=log,
            env={**os.environ, "MONITORING_SCENE": str(self.folder)})
        found = self.folder / "targets"
        wait_for("the scene", found.exists, self.process, self.folder / "scene.log")
        self.targets = dict(line.split() for line in found.read_text().splitlines())
        return self

    def __exit__(self, *_):
        (self.folder / "stop").touch()
        try:
            self.ended_well = self.process.wait(60) == 0
        except subprocess.TimeoutExpired:
            self.ended_well = False
            end(self.process)


def end(process):
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_for(what, condition, process, log):
    deadline = time.time() + 60
    while not condition():
        if process.poll() is not None or time.time() > deadline:
            end(process)
            raise SystemExit(f"{what} did not start; its log:\n{log.read_text()[-3000:]}")
        time.sleep(0.05)


def promtool(*arguments, given=None):
    done = subprocess.run(["promtool", *arguments], input=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


# Checks that need no adapter

def check_panels_are_complete():
    """Each has a description, a unit, the data source variable, and a place of its own."""
    for file, dashboard in dashboards.dashboards().items():
        ids = [panel["id"] for panel in dashboard["panels"]]
        assert len(set(ids)) == len(ids), f"{file}: an id is there twice"
        variables = [variable["name"] for variable in dashboard["templating"]["list"]]
        assert variables == ["datasource", "cluster", "namespace", "job", "table"], f"{file}: {variables}"
        taken = {}
        for panel in dashboard["panels"]:
            place = panel["gridPos"]
            for cell in ((x, y) for x in range(place["x"], place["x"] + place["w"])
                         for y in range(place["y"], place["y"] + place["h"])):
                assert cell[0] < 24 and cell not in taken, f"{file}: {panel['title']} lies on {taken.get(cell)}"
                taken[cell] = panel["title"]
        for panel in dashboards.panels(dashboard):
            name = f"{file}: {panel['title']}"
            assert panel["description"].endswith("."), f"{name} has no description"
            assert panel["fieldConfig"]["defaults"]["unit"], f"{name} has no unit"
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, name
            for page in re.findall(r"docs/[\w./-]+\.md", panel["description"]):
                assert (ROOT / page).is_file(), f"{name}: {page} is missing"


def check_units_fit_the_metrics():
    """Seconds are shown as seconds and bytes as bytes."""
    for query in dashboards.queries():
        first = re.search(dashboards.PREFIX + r"\w+|process_\w+", query.expression).group()
        counts = first.endswith(("_total", "_count"))
        expected = "s" if "_seconds" in first and not counts else "bytes" if first.endswith("_bytes") else None
        unit = query.panel["fieldConfig"]["defaults"]["unit"]
        counted = "count(" in query.expression
        if expected and not counted:
            assert unit == expected, f"{query.name} shows {first} as {unit}"
        elif not counted:
            assert unit not in ("s", "bytes"), f"{query.name} shows {first} as {unit}"


def check_all_metrics_exist():
    """What panels and alerts refer to is in docs/metrics.md; what is there is shown somewhere."""
    known = dashboards.known_series()
    assert len(known) > 20, "docs/metrics.md is not understood"
    shown = set()
    for query in dashboards.queries():
        used = dashboards.used_series(query.expression)
        assert used <= known, f"{query.name}: there is no {used - known}"
        shown |= used
    used = dashboards.used_series(ALERTS.read_text())
    assert used <= known, f"alerts.yaml: there is no {used - known}"
    unseen = {name for name in known - shown if not name.endswith(("_sum", "_count"))}
    assert not unseen, f"no panel shows {unseen}"


def check_all_queries_keep_to_what_is_chosen():
    """Each metric is asked for the chosen clusters, namespaces, jobs and tables; those of the whole process have no table."""
    whole = dashboards.series_of_the_process()
    assert whole, "docs/metrics.md is not understood"
    for query in dashboards.queries():
        for metric, labels in re.findall(r"((?:dynamodb_streams_adapter|process)_\w+)(\{[^}]*\})?", query.expression):
            of_process = metric.startswith("process_") or metric in whole
            chosen = [f'{name}=~"${name}"' for name in ("cluster", "namespace", "job")]
            wanted = chosen + ([] if of_process else ['table=~"$table"'])
            missing = [label for label in wanted if label not in labels]
            assert not missing, f"{query.name}: {metric} without {missing}"


def check_error_codes_are_the_programs():
    """The codes in alerts and panels are those that src/aws/errors.rs takes for denials, and the SDK for throttles."""
    metadata = subprocess.run(["cargo", "metadata", "--format-version", "1"], cwd=ROOT, check=True, capture_output=True, text=True)
    packages = json.loads(metadata.stdout)["packages"]
    runtime = next(Path(one["manifest_path"]).parent for one in packages if one["name"] == "aws-runtime")
    files = {"DENIED": ROOT / "src/aws/errors.rs", "THROTTLING_ERRORS": runtime / "src/retries/classifiers.rs"}

    def codes(constant):
        found = re.search(rf"const {constant}: .*?=\s*&?\[(.*?)\];", files[constant].read_text(), re.S)
        return set(re.findall(r'"(\w+)"', found.group(1)))

    expected = {
        "AccessDenied": codes("DENIED") | {"credentials"},
        "ProvisionedThroughputExceededException": codes("THROTTLING_ERRORS") | {"http-429"},
    }
    texts = {"alerts.yaml": ALERTS.read_text(), **{query.name: query.expression for query in dashboards.queries()}}
    seen = set()
    for name, text in texts.items():
        for lists in re.findall(r'result=~"([^"]*Exception[^"]*)"', text):
            first = lists.split("|")[0]
            seen.add(first)
            assert set(lists.split("|")) == expected[first], f"{name}: {set(lists.split('|')) ^ expected[first]}"
    assert seen == set(expected), seen


def check_components_hold_the_same_files():
    """What Kustomize makes of the components is what is in dashboards/."""
    if not shutil.which("kubectl"):
        return "kubectl is not installed"
    with tempfile.TemporaryDirectory(dir=ROOT / "manifests") as folder:
        components = ["../components/dashboards", "../components/prometheus-rule"]
        (Path(folder) / "kustomization.yaml").write_text(json.dumps({"components": components}))
        done = subprocess.run(["kubectl", "kustomize", "-o", f"{folder}/out.yaml", folder], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        made = (Path(folder) / "out.yaml").read_text()
    for file in dashboards.FILES:
        text = (ROOT / "dashboards" / file).read_text()
        assert "".join(f"    {line}\n" for line in text.splitlines()) in made, f"{file} is not in its ConfigMap"
    assert made.count('grafana_dashboard: "1"') == len(dashboards.FILES), made[-2000:]
    assert made.count("kind: PrometheusRule") == 1 and made.count("- alert:") == ALERTS.read_text().count("- alert:")


def check_rules_are_valid():
    promtool("check", "rules", str(ALERTS))


def check_alerts_fire_when_they_should():
    """The cases in alert_cases.py; each alert fires in one of them at least."""
    cases = subprocess.run([sys.executable, ROOT / "tests/monitoring/alert_cases.py"], capture_output=True, text=True)
    assert cases.returncode == 0, cases.stderr
    expected = [test for case in json.loads(cases.stdout)["tests"] for test in case["alert_rule_test"]]
    alerts = set(re.findall(r"- alert: (\w+)", ALERTS.read_text()))
    assert {test["alertname"] for test in expected if test["exp_alerts"]} == alerts, "an alert never fires"
    assert {test["alertname"] for test in expected if not test["exp_alerts"]} == alerts, "an alert is never silent"
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(cases.stdout)
        file.flush()
        promtool("test", "rules", file.name)


# Checks that ask Prometheus

def ask(prometheus, query, namespace):
    return prometheus.over_time(query.substituted(namespace, RATE_INTERVAL, RANGE))


def check_every_panel_shows_what_happens(prometheus):
    """In a scene in which everything happens each query has values, and more than zeros."""
    kept, bad = {}, []
    for query in dashboards.queries():
        series = ask(prometheus, query, "busy")
        kept[query.name] = series
        values = [value for _, points in series for _, value in points if math.isfinite(value)]
        if not values:
            bad.append(f"{query.name} shows nothing")
        elif (max(values) > 0) == (query.name in ALWAYS_ZERO):
            bad.append(f"{query.name} shows {max(values)} at most")
    (ROOT / ".interop/prometheus/panels.json").write_text(json.dumps(kept))
    assert not bad, "\n".join(bad)


def check_no_panel_is_blank_where_nothing_happens(prometheus):
    """An adapter with nothing to do shows zeros; only times of things that never happened, and limits that never were, have
    no value."""
    bad = []
    for query in dashboards.queries():
        series = ask(prometheus, query, "quiet")
        values = [value for _, points in series for _, value in points]
        if query.name in NEVER_LIMITED:
            if values:
                bad.append(f"{query.name} shows {values[-1]}")
        elif not values or ("histogram_quantile" not in query.expression and not all(map(math.isfinite, values))):
            bad.append(f"{query.name} is blank")
    assert not bad, "\n".join(bad)


def check_no_panel_reassures_where_no_adapter_is(prometheus):
    """A zero would look as if all was well."""
    bad = [query.name for query in dashboards.queries() if ask(prometheus, query, "nobody")]
    assert not bad, "\n".join(bad)


def check_the_variables_have_values(prometheus):
    for file, dashboard in dashboards.dashboards().items():
        for variable, expected in (("namespace", {"busy", "quiet"}), ("job", {"adapter"}), ("table", {"orders", "returns"})):
            query = next(v for v in dashboard["templating"]["list"] if v["name"] == variable)["query"]["query"]
            metric, label = re.fullmatch(r"label_values\((.*), (\w+)\)", query).groups()
            metric = re.sub(r"\$\w+", ".*", metric)
            found = {series[label] for series in prometheus.get("series", **{"match[]": metric})}
            assert found == expected, f"{file}: {variable} has the values {found}"


def check_one_table_can_be_chosen(prometheus):
    """Where a query names tables at all, it shows the chosen one only."""
    for query in dashboards.queries():
        text = query.substituted("busy", RATE_INTERVAL, RANGE, table="returns")
        tables = {labels["table"] for labels, _ in prometheus.over_time(text) if "table" in labels}
        assert tables <= {"returns"}, f"{query.name} shows {tables}"


def check_alerts_see_the_scene(prometheus):
    """Prometheus evaluates every rule; those that must, see the trouble, and none sees any in the quiet adapter."""
    rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert len(rules) == ALERTS.read_text().count("- alert:")
    unwell = [(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] != "ok"]
    assert not unwell, unwell
    active = {(rule["name"], alert["labels"]["namespace"]) for rule in rules for alert in rule["alerts"]}
    in_quiet = {name for name, namespace in active if namespace == "quiet"}
    assert not in_quiet, f"in the quiet adapter: {in_quiet}"
    for name in ("DataLoss", "ItemParked", "AwsDenied"):
        assert (f"DynamoDBStreamsAdapter{name}", "busy") in active, f"{name} does not see the scene: {active}"


class Report:
    """Runs checks and counts them, as Rust's test harness does."""

    def __init__(self, word):
        self.word, self.passed, self.failed = word, 0, []

    def run(self, check, *arguments):
        name = check.__name__.removeprefix("check_")
        if self.word not in name:
            return
        try:
            skipped = check(*arguments)
        except AssertionError as failure:
            print(f"test {name} ... FAILED\n{failure}")
            self.failed.append(name)
            return
        print(f"test {name} ... {f'ignored: {skipped}' if skipped else 'ok'}")
        self.passed += 0 if skipped else 1


def scene_ended_well(scene):
    assert scene.ended_well, (scene.folder / "scene.log").read_text()[-3000:]


def main():
    executable, word = sys.argv[1], (sys.argv[2:] or [""])[0]
    report = Report(word)
    for check in (check_panels_are_complete, check_units_fit_the_metrics, check_all_metrics_exist,
                  check_all_queries_keep_to_what_is_chosen, check_error_codes_are_the_programs,
                  check_components_hold_the_same_files, check_rules_are_valid, check_alerts_fire_when_they_should):
        report.run(check)
    with tempfile.TemporaryDirectory() as folder:
        with Scene(executable, Path(folder)) as scene, Prometheus(Path(folder), scene.targets) as prometheus:
            time.sleep(SCENE_SECONDS)
            for check in (check_every_panel_shows_what_happens, check_no_panel_is_blank_where_nothing_happens,
                          check_no_panel_reassures_where_no_adapter_is, check_the_variables_have_values,
                          check_one_table_can_be_chosen, check_alerts_see_the_scene):
                report.run(check, prometheus)
        report.run(scene_ended_well, scene)
    verdict = "FAILED" if report.failed else "ok"
    print(f"\ntest result: {verdict}. {report.passed} passed; {len(report.failed)} failed")
    sys.exit(bool(report.failed))


if __name__ == "__main__":
    main()
