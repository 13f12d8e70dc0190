"""When each alert of dashboards/alerts.yaml fires, and when it does not.

Prints the cases for `promtool test rules`. In a series' values `5+2x3` is 5 7 9 11, `5x3` is 5 5 5 5, `_x3` is three gaps;
one value a minute.
"""

import json
import re
import sys
from pathlib import Path

ALERTS = Path(__file__).parents[2] / "dashboards" / "alerts.yaml"
SERIES = 'dynamodb_streams_adapter_%s{namespace="shop",job="adapter",table="orders",pod="%s"%s}'


def fixed_annotations():
    """Description and page of each alert, which hold no values that a case could change."""
    found = {}
    for block in ALERTS.read_text().split("- alert: ")[1:]:
        text = re.search(r"description: (?:>-\n)?((?:.*\n)(?:(?! *runbook_url).*\n)*)", block).group(1)
        page = re.search(r"runbook_url: (.*)", block).group(1)
        found[block.split()[0]] = {"description": " ".join(text.split()), "runbook_url": page}
    return found


ANNOTATIONS = fixed_annotations()
CASES = []


def case(name, series, *expected):
    """`series`: metric, further labels, values; of pod `a` unless they begin with another. `expected`: what `fires` and `silent`
    make."""
    CASES.append({
        "name": name,
        "interval": "1m",
        "input_series": [
            {"series": SERIES % (metric, pod, "," + labels if labels else ""), "values": values}
            for *others, metric, labels, values in series for pod in [*others, "a"][:1]
        ],
        "alert_rule_test": list(expected),
    })


def silent(at, alert):
    return {"eval_time": at, "alertname": "DynamoDBStreamsAdapter" + alert, "exp_alerts": []}


def fires(at, alert, severity, summary, **labels):
    test = silent(at, alert)
    test["exp_alerts"] = [{
        "exp_labels": {"severity": severity, "namespace": "shop", "job": "adapter", "table": "orders", **labels},
        "exp_annotations": {"summary": summary, **ANNOTATIONS[test["alertname"]]},
    }]
    return test


# Data loss

def loss(at, reason):
    summary = f"Changes of table orders were lost, or may have been ({reason})"
    return fires(at, "DataLoss", "critical", summary, reason=reason)


LOSS = "data_loss_total"
case("a loss while the process runs is reported at once, and for an hour",
     [(LOSS, 'reason="trimmed"', "0x29 1x200"), (LOSS, 'reason="undecodable"', "0x230")],
     silent("29m", "DataLoss"), loss("30m", "trimmed"), loss("80m", "trimmed"), silent("92m", "DataLoss"))
case("a loss that was counted before the first sample is reported too",
     [(LOSS, 'reason="trimmed"', "_x30 1x200")],
     silent("28m", "DataLoss"), loss("31m", "trimmed"), loss("80m", "trimmed"), silent("95m", "DataLoss"))
case("no loss is no alert, whether the process restarts or not",
     [(LOSS, 'reason="trimmed"', "2x100 0x100")],
     silent("95m", "DataLoss"), silent("101m", "DataLoss"), silent("150m", "DataLoss"))


# Time left

def headroom(at, alert, severity, left):
    return fires(at, alert, severity, f"Table orders has {left} left until changes are lost")


case("headroom of six hours is enough, less is not, and less than one is urgent",
     [("retention_headroom_seconds", "", "86400x10 21600x10 21599x20 3600x10 3599x10")],
     silent("21m", "RetentionLow"), silent("25m", "RetentionLow"),
     headroom("27m", "RetentionLow", "warning", "5h 59m 59s"), silent("40m", "RetentionCritical"),
     headroom("50m", "RetentionLow", "warning", "1h 0m 0s"), silent("53m", "RetentionCritical"),
     headroom("55m", "RetentionCritical", "critical", "59m 59s"))
case("headroom that is low for a moment is no alert",
     [("retention_headroom_seconds", "", "86400x10 100x0 86400x10 20000x3 86400x30")],
     silent("11m", "RetentionCritical"), silent("12m", "RetentionCritical"), silent("26m", "RetentionLow"),
     silent("30m", "RetentionLow"))


# No progress

def stuck(at):
    return fires(at, "NoProgress", "critical", "Nothing of table orders moves")


SETTLED = ["events_delivered_total", "events_dead_lettered_total", "events_dropped_total", "records_filtered_total"]


def table(lag, empty="0+200x120", parked="0x120", read="0x120", **settled):
    """A table's series over two hours; reads that were never answered have none."""
    answered = [("aws_calls_total", 'operation="GetRecords",result="empty"', empty)] if empty else []
    return answered + [
        ("lag_seconds", "", lag), ("parked_items", "", parked), ("records_read_total", "", read),
        *((metric, "", settled.get(metric, "0x120")) for metric in SETTLED),
    ]


STUCK = "NoProgress"
case("an idle table that is read is progress", table("0x120"), silent("20m", STUCK), silent("100m", STUCK))
case("reads that stop being answered are no progress", table("0x120", "0+200x30 6000x90"),
     silent("30m", STUCK), silent("44m", STUCK), stuck("46m"))
case("a table whose reads were never answered makes no progress",
     table("0+60x120", None) + [("aws_calls_total", 'operation="GetRecords",result="AccessDeniedException"', "0+2x120")],
     silent("3m", STUCK), stuck("7m"))
for metric in SETTLED:
    case(f"a backlog is progress while {metric} grows, and 10 minutes after that it is not",
         table("700x120", read="0+10x120", **{metric: "0+10x30 300x90"}),
         silent("30m", STUCK), silent("44m", STUCK), stuck("46m"))
case("changes that wait while none is settled are no progress, read or not", table("601x120"), stuck("30m"))
case("changes that have waited for 10 minutes may wait", table("600x120", read="0+10x120"), silent("60m", STUCK))
case("an item that is parked while its table is quiet does not mean that nothing moves",
     table("0+60x120", parked="1x120", read="5x120"), silent("60m", STUCK), silent("110m", STUCK))
case("an item that is parked hides no standstill of a table that is written to",
     table("700x120", parked="1x120", read="0+5x30 150x90"), stuck("30m"), stuck("38m"), silent("42m", STUCK))


# Absent

def absent(at):
    return fires(at, "Absent", "critical", "No adapter reports on table orders any more")


case("an adapter that is gone is missed, and forgotten after six hours", [("lag_seconds", "", "0x30 _x600")],
     silent("30m", "Absent"), silent("38m", "Absent"), absent("42m"), absent("6h"), silent("6h32m", "Absent"))
case("an adapter that comes back within minutes is not missed", [("lag_seconds", "", "0x30 _x7 0x60")],
     silent("38m", "Absent"), silent("60m", "Absent"))

# Parked items

case("an item that stays parked is reported, one that recovers is not",
     [("parked_items", "", "0x10 1x3 0x16 1x30")],
     silent("13m", "ItemParked"), silent("20m", "ItemParked"), silent("35m", "ItemParked"),
     fires("37m", "ItemParked", "warning", "Items of table orders that wait for an event which keeps failing: 1"))


# The sink

def sink_fails(at, share):
    return fires(at, "SinkFailing", "critical", f"The sink fails {share} of the deliveries of table orders, or of the time")


def attempts(code, values):
    return "delivery_attempts_total", f'code="{code}"', values


case("a sink that answers with faults is reported", [attempts(202, "0+60x20 1200x40"), attempts(503, "_x20 0+2x40")],
     silent("20m", "SinkFailing"), silent("25m", "SinkFailing"), sink_fails("28m", "100%"))
case("a sink that fails most requests is reported", [attempts(202, "0+20x30"), attempts(503, "0+30x30")],
     sink_fails("15m", "60%"))
for code in [401, 403, 404, 408, 409, 425, 429, 500, "connect", "malformed", "other", "reset", "timeout", "tls"]:
    case(f"{code} speaks against the sink", [attempts(202, "0+1x30"), attempts(code, "0+3x30")], sink_fails("15m", "75%"))
for code in [307, 400, 402, 405, 410, 413, 422]:
    case(f"{code} speaks against the event and not against the sink",
         [attempts(202, "0+1x30"), attempts(code, "0+3x30")], silent("15m", "SinkFailing"))
case("a sink that refuses every event is reported as long as it does, although its answers speak against events",
     [attempts(400, "0+60x30 1800x40"), attempts(202, "0x30 0+60x40"), ("lag_seconds", "", "0x70"),
      ("sink_up", 'sink="sink"', "1x4 0x25 1x40")],
     silent("6m", "SinkFailing"), sink_fails("15m", "100%"), silent("35m", "SinkFailing"))
case("a sink that is up for a moment now and then is reported, one that takes events half of the time is not",
     [("lag_seconds", "", "0x60"),
      ("sink_up", 'sink="sink"', " ".join("00001" * 6 + "01" * 15))],
     sink_fails("20m", "75%"), silent("45m", "SinkFailing"))
case("a parked item that is refused does not speak against the sink, nor does a dead-letter sink that fails",
     [attempts(422, "0+1x60"), ("parked_items", "", "1x60"), ("lag_seconds", "", "0+60x60"),
      ("sink_up", 'sink="sink"', "1x60"), ("sink_up", 'sink="dead-letter"', "0x60")],
     silent("20m", "SinkFailing"), silent("55m", "SinkFailing"))
case("half of the deliveries may fail, and a sink without deliveries does not fail",
     [attempts(202, "0+10x30 300x30"), attempts(503, "0+10x30 300x30")],
     silent("20m", "SinkFailing"), silent("50m", "SinkFailing"))

# Positions

case("positions that are not stored are reported after minutes", [("checkpoint_age_seconds", "", "0.4x10 0+60x20")],
     silent("10m", "PositionsNotStored"), silent("13m", "PositionsNotStored"),
     fires("16m", "PositionsNotStored", "warning", "Positions of table orders are not stored for 5m 0s"))
case("a minute is the limit for positions", [("checkpoint_age_seconds", "", "60x20 61x20")],
     silent("20m", "PositionsNotStored"),
     fires("30m", "PositionsNotStored", "warning", "Positions of table orders are not stored for 1m 1s"))
case("positions that are stored late once are not reported",
     [("checkpoint_age_seconds", "", "0.4x10 30x30 61x0 0x20")],
     silent("41m", "PositionsNotStored"), silent("43m", "PositionsNotStored"))


# Leases

def nobody(at):
    return fires(at, "NobodyOwns", "critical", "No process owns table orders")


def held(values, pod="a"):
    return pod, "lease_held", "", values


case("a table that one of two pods owns has an owner, whoever it is",
     [held("1x20 0x40"), held("0x20 1x40", "b")],
     silent("10m", "NobodyOwns"), silent("21m", "NobodyOwns"), silent("40m", "NobodyOwns"))
case("a table that nobody owns for minutes is reported until somebody does",
     [held("1x10 0x20 1x20"), held("0x50", "b")],
     silent("10m", "NobodyOwns"), silent("12m", "NobodyOwns"), nobody("14m"), nobody("30m"), silent("32m", "NobodyOwns"))
case("a takeover after a crash is not reported", [held("1x10 _x40"), held("0x11 1x39", "b")],
     silent("11m", "NobodyOwns"), silent("13m", "NobodyOwns"), silent("30m", "NobodyOwns"))
case("positions in a file have no owner, and nobody misses one", [("lag_seconds", "", "0x40")], silent("30m", "NobodyOwns"))


def waiting(pod):
    """What a pod exports of a table that another one owns: nothing that it reads, and nothing that is late."""
    return [
        (pod, "lease_held", "", "0x120"), (pod, "lag_seconds", "", "0x120"), (pod, "checkpoint_age_seconds", "", "0x120"),
        (pod, "retention_headroom_seconds", "", "86400x120"), (pod, "parked_items", "", "0x120"),
        (pod, "data_loss_total", 'reason="trimmed"', "0x120"), (pod, "sink_up", 'sink="sink"', "1x120"),
        *((pod, metric, "", "0x120") for metric in ["records_read_total", *SETTLED]),
    ]


ALL = sorted(name.removeprefix("DynamoDBStreamsAdapter") for name in ANNOTATIONS)
case("a pod that waits for a table that another one reads fires no alert",
     [*waiting("b"), held("1x120"), *table("1x120", read="0+10x120", events_delivered_total="0+10x120")],
     *(silent(at, alert) for alert in ALL for at in ("5m", "20m", "60m", "110m")))
case("pods that wait for a table whose owner is of another job fire no alert", waiting("b"),
     *(silent(at, alert) for alert in ALL if alert != "NobodyOwns" for at in ("5m", "20m", "60m", "110m")))


# AWS

def denied(at, operation, result):
    summary = f"AWS denies {operation} for table orders ({result})"
    return fires(at, "AwsDenied", "critical", summary, operation=operation, result=result)


def calls(operation, result, values):
    return "aws_calls_total", f'operation="{operation}",result="{result}"', values


case("a permission that is taken away is reported, and its return ends it",
     [calls("GetRecords", "empty", "0+200x60"), calls("GetRecords", "AccessDeniedException", "_x10 1+2x10 21x40")],
     silent("11m", "AwsDenied"), denied("15m", "GetRecords", "AccessDeniedException"),
     denied("23m", "GetRecords", "AccessDeniedException"), silent("30m", "AwsDenied"))
case("credentials that are missing are reported", [calls("ListStreams", "credentials", "1+2x20")],
     denied("5m", "ListStreams", "credentials"))
case("DescribeTable alone may be denied",
     [calls("DescribeTable", "AccessDeniedException", "1+2x20"), calls("ListStreams", "ok", "1+2x20")],
     silent("10m", "AwsDenied"))
case("other errors of AWS are not denials",
     [calls("GetRecords", "InternalServerError", "1+20x20"), calls("GetRecords", "ThrottlingException", "1+20x20")],
     silent("10m", "AwsDenied"))

THROTTLED = "ProvisionedThroughputExceededException"


def throttled(at, share):
    return fires(at, "AwsThrottled", "warning", f"AWS throttles {share} of the calls for table orders")


case("calls that are throttled for long are reported",
     [calls("GetRecords", "empty", "0+160x60"), calls("GetRecords", THROTTLED, "0x30 0+20x30"),
      calls("DescribeStream", "LimitExceededException", "0x30 0+20x30")],
     silent("30m", "AwsThrottled"), silent("44m", "AwsThrottled"), throttled("47m", "20%"))
case("more than one throttled call in ten is reported",
     [calls("GetRecords", "empty", "0+176x60"), calls("GetRecords", "http-429", "0+24x60")], throttled("30m", "12%"))
case("one throttled call in ten is everyday life",
     [calls("GetRecords", "empty", "0+180x60"), calls("GetRecords", THROTTLED, "0+20x60")],
     silent("30m", "AwsThrottled"))
case("a throttled minute is no alert",
     [calls("GetRecords", "empty", "0+100x60"), calls("GetRecords", "ThrottlingException", "0x20 0+60x1 60x40")],
     silent("22m", "AwsThrottled"), silent("25m", "AwsThrottled"), silent("35m", "AwsThrottled"))

json.dump({"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": CASES}, sys.stdout, indent=1)
