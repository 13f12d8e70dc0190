"""The real binary in the environments that the two controllers make, against moto and a sink.

Arguments: the binary, the program that prints Knative's environments, moto's URL.
"""

import http.client
import http.server
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback

import boto3

import recipes

BINARY, ENVIRONMENTS, MOTO = sys.argv[1:]
# Kubernetes' default grace period is 30 s; nothing is under way here, so it takes no time.
GRACE = 5
PATIENCE = 20
PROBES = ["/q/health/started", "/q/health/ready", "/q/health/live"]
KAMELET = "CAMEL_KAMELET_AWS_DDB_STREAMS_SOURCE_"
SECRETS = {"aws.accessKey": "AKIAIOSFODNN7EXAMPLE", "aws.secretKey": "secret-of-the-test"}
# What a service account's credentials, or the user's own, look like to the SDK.
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
HERE = {"HTTP_ADDRESS": "127.0.0.1:0", "AWS_EC2_METADATA_DISABLED": "true"}

dynamodb = boto3.client(
    "dynamodb", endpoint_url=MOTO, region_name="eu-west-1", aws_access_key_id="test", aws_secret_access_key="test"
)


class Sink(http.server.BaseHTTPRequestHandler):
    """Acknowledges everything and keeps it."""

    protocol_version = "HTTP/1.1"
    received = []

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        Sink.received.append((self.path.strip("/"), headers, json.loads(body)))
        self.send_response(202)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Adapter:
    """The binary with exactly these variables."""

    def __init__(self, environment):
        self.log = []
        self.process = subprocess.Popen([BINARY], env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        wait("the adapter listens", lambda: self.ports() or self._ended())

    def _read(self):
        for line in self.process.stderr:
            self.log.append(line)

    def _ended(self):
        assert self.process.poll() is None, f"it ended with {self.process.returncode}: {''.join(self.log)}"

    def lines(self):
        return [json.loads(line) for line in self.log if line.startswith("{")]

    def ports(self):
        """Of the probes first, then of the metrics."""
        return [int(line["address"].rsplit(":", 1)[1]) for line in self.lines() if line.get("message") == "listening"]

    def get(self, path, port=0):
        connection = http.client.HTTPConnection("127.0.0.1", self.ports()[port], timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def warnings(self):
        return [line["message"] for line in self.lines() if line["level"] in ("WARN", "ERROR")]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def terminate(self):
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=GRACE)
        assert code == 0, f"it ended with {code}"
        return time.monotonic() - begun


def wait(what, condition, patience=PATIENCE):
    """Until the condition holds; what it returned then."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        result = condition()
        if result:
            return result
        time.sleep(0.02)
    raise AssertionError(f"{what}: not within {patience} s")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def create(table):
    dynamodb.create_table(
        TableName=table,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )


def write(table, item):
    dynamodb.put_item(TableName=table, Item={"id": {"S": item}, "note": {"S": "a < b"}})


def key_of(body):
    record = body.get("dynamodb") or body.get("Dynamodb")
    keys = record.get("keys") or record.get("Keys")
    return keys["id"].get("s") or keys["id"].get("S")


def delivered(sink, item):
    """The one request that brought the item to this path of the sink."""
    found = [request for request in Sink.received if request[0] == sink and key_of(request[2]) == item]
    assert len(found) < 2, f"{item} came {len(found)} times"
    return found and found[0]


def attributes(headers):
    return {name.removeprefix("ce-"): value for name, value in headers.items() if name.startswith("ce-")}


def is_integration_source(request, more=None):
    _, headers, body = request
    found = attributes(headers)
    time_, id_ = found.pop("time"), found.pop("id")
    assert id_ == body["eventID"] and time_.endswith("Z"), (id_, time_, body)
    assert headers["content-type"] == "application/json", headers
    assert found == {
        "specversion": "1.0",
        "type": "dev.knative.eventing.aws-ddb-streams",
        "source": "dev.knative.eventing.aws-ddb-streams-source",
        "subject": "aws-ddb-streams-source",
        **(more or {}),
    }, found
    note = body["dynamodb"]["newImage"]["note"]
    assert note["s"] == "a < b" and note["type"] == "S", body
    assert body["dynamodb"]["oldImage"] == {}, body


def is_triggermesh(request, arn):
    _, headers, body = request
    found = attributes(headers)
    time_, id_ = found.pop("time"), found.pop("id")
    assert id_ == body["EventID"] and time_.endswith("Z"), (id_, time_, body)
    assert headers["content-type"] == "application/json", headers
    assert found == {
        "specversion": "1.0",
        "type": "com.amazon.dynamodb.stream_record",
        "source": arn,
        "subject": "id",
        "dynamodboperation": "INSERT",
    }, found
    assert body["Dynamodb"]["NewImage"]["note"]["S"] == "a < b", body
    assert body["Dynamodb"]["OldImage"] is None and body["EventName"] == "INSERT", body


def started(case, more):
    """The controller's environment as it is, with secrets resolved and what the test adds."""
    resolve = lambda value: SECRETS[value["key"]] if isinstance(value, dict) else value
    environment = {name: resolve(value) for name, value in case["environment"].items()}
    return Adapter({**environment, **HERE, **more})


def table_of(case):
    return case["environment"][f"{KAMELET}TABLE"]


def integration_source(case):
    """One wish of a user of IntegrationSource, from the first probe to SIGTERM."""
    table, sink, overridden = table_of(case), "broker", case["name"] in ("endpoint", "secret")
    from_start = case["name"] == "from-start"
    create(table)
    write(table, f"{table}-before")
    # Creation times are whole seconds.
    time.sleep(1.1)
    more = {} if case["name"] == "secret" else dict(KEYS)
    if not overridden:
        more["AWS_ENDPOINT_URL"] = MOTO
    token = None
    if case["name"] == "oidc":
        assert case["mounts"] == ["/oidc"], case["mounts"]
        assert case["environment"]["CAMEL_KNATIVE_CLIENT_OIDC_TOKEN_PATH"] == "file:///oidc/token", case
        token = pathlib.Path(tempfile.mkdtemp()) / "token"
        token.write_text("a-token")
        more["CAMEL_KNATIVE_CLIENT_OIDC_TOKEN_PATH"] = f"file://{token}"
    with started(case, more) as adapter:
        own = [probe["httpGet"]["path"] for probe in case["probes"].values() if probe]
        for path in own + PROBES:
            wait(path, lambda: adapter.get(path)[0] == 200)
        write(table, f"{table}-after")
        request = wait("the item is delivered", lambda: delivered(sink, f"{table}-after"))
        is_integration_source(request, {"team": "blue"} if case["name"] == "overrides" else None)
        assert request[1].get("authorization") == (token and "Bearer a-token"), request[1]
        assert bool(delivered(sink, f"{table}-before")) == from_start, "the start position was not honoured"
        assert len(adapter.ports()) == 1, "a port that nobody asked for"
        warnings = [text for text in adapter.warnings() if "positions are kept in memory" not in text]
        assert warnings == [], warnings
        adapter.terminate()


def triggermesh_environment(sink, table, **more):
    """As the controller sets it; the user's endpoint, if any, is AWS_ENDPOINT_URL there too."""
    return {
        "ARN": f"arn:aws:dynamodb:eu-west-1:123456789012:table/{table}",
        "K_SINK": sink,
        "K_SINK_TIMEOUT": "30",
        "NAMESPACE": "shop",
        "NAME": "orders",
        "K_COMPONENT": "awsdynamodbsource",
        "METRICS_PROMETHEUS_HOST": "127.0.0.1",
        "METRICS_PROMETHEUS_PORT": str(free_port()),
        "K_LOGGING_CONFIG": json.dumps({"zap-logger-config": json.dumps({"level": "info"})}),
        "K_METRICS_CONFIG": json.dumps(
            {"Domain": "triggermesh.io/sources", "Component": "awsdynamodbsource", "PrometheusPort": 0, "ConfigMap": {}}
        ),
        "K_TRACING_CONFIG": json.dumps({"backend": "none", "debug": "false", "sample-rate": "0.1"}),
        "AWS_ENDPOINT_URL": MOTO,
        # Another region than the table's: the ARN's counts.
        "AWS_REGION": "us-east-1",
        **KEYS,
        **HERE,
        **more,
    }


def triggermesh(sink):
    table = "Triggermesh"
    environment = triggermesh_environment(sink, table)
    with Adapter(environment) as adapter:
        # The port answers before the table is looked for.
        wait("no table yet", lambda: adapter.get("/health")[0] == 503 and table in adapter.get("/health")[1])
        create(table)
        wait("/health", lambda: adapter.get("/health") == (204, ""))
        write(table, f"{table}-after")
        request = wait("the item is delivered", lambda: delivered("broker", f"{table}-after"))
        is_triggermesh(request, environment["ARN"])
        assert adapter.ports()[1:] == [int(environment["METRICS_PROMETHEUS_PORT"])], adapter.ports()
        status, metrics = adapter.get("/metrics", port=1)
        assert status == 200 and 'events_delivered_total{table="Triggermesh"} 1' in metrics, (status, metrics)
        labels = (
            f'event_source="{environment["ARN"]}",event_type="com.amazon.dynamodb.stream_record",name="orders",'
            'namespace_name="shop",resource_group="awsdynamodbsources.sources.triggermesh.io",response_code="202",'
            'response_code_class="2xx",response_error="",response_timeout=""'
        )
        assert f"awsdynamodbsource_event_count{{{labels}}} 1\n" in metrics, metrics
        assert adapter.get("/health", port=1)[0] == 404
        adapter.terminate()


def a_start_time_covers_the_switch(case, sink):
    """What is written while neither adapter reads comes from the new one, where the pages say how."""
    begun = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    create("Switched")
    write("Switched", "Switched-between")
    time.sleep(1.1)
    triggermesh_ = triggermesh_environment(sink, "Switched", START_POSITION=begun)
    camel = {**case["environment"], f"{KAMELET}TABLE": "Switched", "START_POSITION": begun}
    camel = {**camel, **HERE, **KEYS, "AWS_ENDPOINT_URL": MOTO}
    for environment in (triggermesh_, camel):
        Sink.received.clear()
        with Adapter(environment) as adapter:
            wait("what was written before is delivered", lambda: delivered("broker", "Switched-between"))
            settled = lambda: json.loads(adapter.get("/status")[1])["tables"][0]["unsettled_events"] == 0
            wait("nothing is under way", settled)
            adapter.terminate()


def create_positions(page):
    """The command of the recipe, by somebody with credentials of their own; a second time changes nothing."""
    environment = {**KEYS, **HERE, "AWS_ENDPOINT_URL": MOTO, "AWS_REGION": "eu-west-1"}
    for _ in range(2):
        done = subprocess.run([BINARY, *recipes.arguments(page)], env=environment, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, done.stderr
    expires = dynamodb.describe_time_to_live(TableName="dynamodb-streams-adapter")["TimeToLiveDescription"]
    assert (expires["TimeToLiveStatus"], expires["AttributeName"]) == ("ENABLED", "expires"), expires


def positions_are_kept(environment, table, ready):
    """`environment` makes that of one more pod; `ready` is what the controller's probe asks. A rolling update and a crash."""
    create(table)
    write(table, f"{table}-before")
    time.sleep(1.1)
    arrives = lambda item, patience=PATIENCE: wait(item, lambda: delivered("broker", f"{table}-{item}"), patience)
    with Adapter(environment()) as first:
        wait("the first pod is ready", lambda: first.get(ready)[0] in (200, 204))
        assert not [text for text in first.warnings() if "memory" in text], first.warnings()
        write(table, f"{table}-one")
        arrives("one")
        with Adapter(environment()) as second:
            wait("the second pod is ready while the first one reads", lambda: second.get(ready)[0] in (200, 204))
            write(table, f"{table}-two")
            arrives("two")
            first.terminate()
            write(table, f"{table}-three")
            arrives("three", 5)
            # What was acknowledged in the last second before a crash comes again.
            time.sleep(2.5)
            second.process.kill()
    write(table, f"{table}-four")
    with Adapter(environment()) as third:
        arrives("four", 30)
        third.terminate()
    assert not delivered("broker", f"{table}-before"), "the first start began too early"
    for item in ("one", "two", "three", "four"):
        assert delivered("broker", f"{table}-{item}"), f"{item} is gone"


def integration_source_keeps_positions(case):
    create_positions(recipes.INTEGRATION_SOURCE)
    controllers = {**case["environment"], f"{KAMELET}TABLE": "KeptByAnImage"}
    environment = lambda: {**recipes.variables_of_the_image(), **controllers, **HERE, **KEYS, "AWS_ENDPOINT_URL": MOTO}
    positions_are_kept(environment, "KeptByAnImage", "/q/health/ready")


def triggermesh_keeps_positions(sink):
    create_positions(recipes.TRIGGERMESH)
    # The controller puts what is in adapterOverrides behind its own variables.
    environment = lambda: {**triggermesh_environment(sink, "KeptByOverrides"), **recipes.variables_of_the_overrides()}
    positions_are_kept(environment, "KeptByOverrides", "/health")


def a_mistake_is_told_under_its_foreign_name(sink):
    environment = triggermesh_environment(sink, "Orders", ARN="arn:aws:sqs:eu-west-1:123456789012:orders")
    ended = subprocess.run([BINARY], env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert ended.returncode == 64 and "\n  ARN has the value " in ended.stderr, (ended.returncode, ended.stderr)


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sink = f"http://127.0.0.1:{server.server_address[1]}/broker"
    cases = json.loads(subprocess.run([ENVIRONMENTS, sink, MOTO], check=True, capture_output=True, text=True).stdout)
    tests = [(f"integration source, {case['name']}", lambda case=case: integration_source(case)) for case in cases]
    tests.append(("triggermesh", lambda: triggermesh(sink)))
    start_time = lambda: a_start_time_covers_the_switch(cases[0], sink)
    tests.append(("a start time covers the switch", start_time))
    tests.append(("integration source keeps positions", lambda: integration_source_keeps_positions(cases[0])))
    tests.append(("triggermesh keeps positions", lambda: triggermesh_keeps_positions(sink)))
    tests.append(("a mistake is told under its foreign name", lambda: a_mistake_is_told_under_its_foreign_name(sink)))
    wanted = os.environ.get("ONLY", "")
    failed, passed = 0, 0
    for name, test in tests:
        if wanted not in name:
            continue
        try:
            test()
            passed += 1
            print(f"test {name} ... ok", flush=True)
        except Exception:
            failed += 1
            print(f"test {name} ... FAILED\n{traceback.format_exc()}", flush=True)
    server.shutdown()
    print(f"\ntest result: {'FAILED' if failed else 'ok'}. {passed} passed; {failed} failed")
    sys.exit(1 if failed or not passed else 0)


main()
