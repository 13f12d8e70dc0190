"""When each alert of dashboards/alerts.yaml fires, and when it does not.

Prints the cases for `promtool test rules`. In a series' values `5+2x3` is 5 7 9 11, `5x3` is 5 5 5 5, `_x3` is three gaps;
one value a minute.
"""

import json
import re
import sys
from pathlib import Path

ALERTS = Path(__file__).parents[2] / "dashboards" / "alerts.yaml"
SERIES = '%s{namespace="shop",job="adapter",%spod="%s"%s}'
# What is exported once a process, and by every program.
WITHOUT_TABLE = {"ready", "build_info", "sink_up", "process_start_time_seconds"}


def fixed_annotations():
    """Description and page of each alert, which hold no values that a case could change."""
    found = {}
    for block in ALERTS.read_text().split("- alert: ")[1:]:
        text = re.search(r"description: (?:>-\n)?((?:.*\n)(?:(?! *runbook).*\n)*)", block).group(1)
        page = re.search(r"runbook: (.*)", block).group(1)
        found[block.split()[0]] = {"description": " ".join(text.split()), "runbook": page}
    return found


ANNOTATIONS = fixed_annotations()
CASES = []


def series_of(metric, pod, labels):
    """One series as promtool takes it."""
    name = metric if metric.startswith("process_") else "dynamodb_streams_adapter_" + metric
    table = f'instance="{pod}",' if metric in WITHOUT_TABLE else 'table="orders",'
    return SERIES % (name, table, pod, "," + labels if labels else "")


def case(name, series, *expected):
    """`series`: metric, further labels, values; of pod `a` unless they begin with another. `expected`: what `fires` and `silent`
    make."""
    CASES.append({
        "name": name,
        "interval": "1m",
        "input_series": [
            {"series": series_of(metric, pod, labels), "values": values}
            for *others, metric, labels, values in series for pod in [*others, "a"][:1]
        ],
        "alert_rule_test": list(expected),
    })


def silent(at, alert):
    return {"eval_time": at, "alertname": "DynamoDBStreamsAdapter" + alert, "exp_alerts": []}


def fires(at, alert, severity, summary, table="orders", **labels):
    test = silent(at, alert)
    of_table = {"table": table} if table else {}
    test["exp_alerts"] = [{
        "exp_labels": {"severity": severity, "namespace": "shop", "job": "adapter", **of_table, **labels},
        "exp_annotations": {"summary": summary, **ANNOTATIONS[test["alertname"]]},
    }]
    return test


# Data loss

def loss(at, reason):
    summary = f"Changes of table orders were lost, or may have been ({reason})"
    return fires(at, "DataLoss", "critical", summary, reason=reason)


LOSS = "data_loss_total"
case("a loss while the process runs is reported at once, and for a day, whatever becomes of the process",
     [(LOSS, 'reason="trimmed"', "0x29 1x200 _x1800"), (LOSS, 'reason="undecodable"', "0x230")],
     silent("29m", "DataLoss"), loss("30m", "trimmed"), loss("80m", "trimmed"), loss("20h", "trimmed"), loss("25h", "trimmed"),
     silent("26h", "DataLoss"))
case("a loss that was counted before the first sample is reported too",
     [(LOSS, 'reason="trimmed"', "_x30 1x2000")],
     silent("28m", "DataLoss"), loss("31m", "trimmed"), loss("80m", "trimmed"), loss("24h", "trimmed"), silent("26h", "DataLoss"))
case("no loss is no alert, whether the process restarts or not",
     [(LOSS, 'reason="trimmed"', "2x1700 0x300")],
     silent("27h", "DataLoss"), silent("28h30m", "DataLoss"), silent("31h", "DataLoss"))


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


def table(lag, refused="0x120", parked="0x120", read="0x120", **settled):
    """A table's series over two hours."""
    return [
        ("aws_refused_seconds", "", refused),
        ("lag_seconds", "", lag), ("parked_items", "", parked), ("records_read_total", "", read),
        *((metric, "", settled.get(metric, "0x120")) for metric in SETTLED),
    ]


def attempts_of(code, values):
    return "delivery_attempts_total", f'code="{code}"', values


STUCK = "NoProgress"
for often in ["250ms", "5s", "15m", "24h"]:
    # A call each `often`, as many a minute or one in so many.
    calls_made = {"250ms": "0+240x120", "5s": "0+12x120", "15m": " ".join(f"{n}x14" for n in range(8)), "24h": "1x120"}[often]
    case(f"an idle table that is read every {often} is progress",
         [*table("0x120"), ("aws_calls_total", 'operation="GetRecords",result="empty"', calls_made)],
         silent("20m", STUCK), silent("60m", STUCK), silent("100m", STUCK))
case("reads that stop being answered are no progress after a quarter of an hour", table("0x120", "0x30 0+60x90"),
     silent("30m", STUCK), silent("45m", STUCK), stuck("48m"), stuck("100m"))
case("a table whose reads were never answered makes no progress",
     table("0x120", "0+60x120") + [("aws_calls_total", 'operation="GetRecords",result="AccessDeniedException"', "0+2x120")],
     silent("15m", STUCK), stuck("17m"))
case("an outage of AWS that is over within ten minutes is no standstill", table("0x120", "0x30 0+60x9 0x90"),
     silent("40m", STUCK), silent("60m", STUCK))
for metric in SETTLED:
    case(f"a backlog is progress while {metric} grows, and 10 minutes after that it is not",
         table("700x120", read="0+10x120", **{metric: "0+10x30 300x90"}),
         silent("30m", STUCK), silent("44m", STUCK), stuck("46m"))
case("changes that wait while none is settled are no progress, read or not", table("601x120"), stuck("30m"))
case("changes that have waited for 10 minutes may wait", table("600x120", read="0+10x120"), silent("60m", STUCK))
case("an item that is parked while its table is quiet does not mean that nothing moves",
     table("0+60x120", parked="1x120", read="5x120"), silent("60m", STUCK), silent("110m", STUCK))
case("one cluster's adapter does not hide that another's stands still",
     [(m, 'cluster="west"', v) for m, _, v in table("0x120", read="0+10x120", events_delivered_total="0+10x120")]
     + [(m, 'cluster="east"', v) for m, _, v in table("700x120", read="0+10x120")],
     fires("30m", STUCK, "critical", "Nothing of table orders moves", cluster="east"))
case("an item that is parked hides no standstill of a table that is written to",
     table("700x120", parked="1x120", read="0+5x30 150x90"), stuck("30m"), stuck("38m"), silent("42m", STUCK))


# Absent

def absent(at):
    return fires(at, "Absent", "critical", "No adapter reports on table orders any more")


case("an adapter that is gone is missed until its changes are lost", [("lag_seconds", "", "0x30 _x2000")],
     silent("30m", "Absent"), silent("38m", "Absent"), absent("42m"), absent("7h"), absent("24h30m"), absent("26h"),
     silent("26h32m", "Absent"))
case("an adapter that comes back within minutes is not missed", [("lag_seconds", "", "0x30 _x7 0x60")],
     silent("38m", "Absent"), silent("60m", "Absent"))
case("one cluster's adapter does not stand in for another's",
     [("lag_seconds", 'cluster="west"', "0x200"), ("b", "lag_seconds", 'cluster="east"', "0x30 _x170")],
     fires("60m", "Absent", "critical", "No adapter reports on table orders any more", cluster="east"))


# Nobody knows

UNKNOWN = " ".join(["NaN"] * 121)
case("a table of which nobody knows how far behind it is fires none of these alerts and is missed by none",
     [("retention_headroom_seconds", "", UNKNOWN), *table(UNKNOWN, "0+60x120"), ("ready", "", "0x120")],
     *(silent(at, alert) for alert in ("RetentionLow", "RetentionCritical", "LagHigh", "LagCritical", "Absent") for at in ("30m", "100m")),
     stuck("30m"), fires("30m", "NotReady", "critical", "The adapter a is not ready", table=None, instance="a"))
case("one process that does not know hides no other's headroom",
     [("retention_headroom_seconds", "", UNKNOWN), ("b", "retention_headroom_seconds", "", "100x120"),
      ("lag_seconds", "", UNKNOWN), ("b", "lag_seconds", "", "86300x120")],
     headroom("30m", "RetentionCritical", "critical", "1m 40s"),
     fires("30m", "LagCritical", "critical", "Table orders is 23h 58m 20s behind"))


# Restarts

def restarting(at, times):
    return fires(at, "Restarting", "critical", f"An adapter of adapter has started again {times} times within an hour", table=None)


def starts(values):
    """Of one process."""
    return [("process_start_time_seconds", "", values), ("build_info", "", re.sub(r"\b\d+(?=[x ]|$)", "1", values))]


# Up for a minute, down for five: one start every six minutes.
LOOP = " ".join(f"{1000 + 360 * n} _x5" for n in range(20))
case("a process that starts again and again is reported although it reports now and then",
     [*starts(LOOP), ("lag_seconds", "", " ".join(["0 _x5"] * 20))],
     silent("12m", "Restarting"), restarting("20m", 3), restarting("60m", 10), silent("60m", "Absent"))
case("two restarts within an hour are none of this alert's business", starts("1x20 2x20 3x60"), silent("45m", "Restarting"),
     silent("90m", "Restarting"))
case("other programs may start as often as they like", [("process_start_time_seconds", "", LOOP)], silent("60m", "Restarting"))


# Readiness

def not_ready(at, pod="a"):
    return fires(at, "NotReady", "critical", f"The adapter {pod} is not ready", table=None, instance=pod)


case("a process that is not ready for ten minutes is reported until it is", [("ready", "", "1x10 0x20 1x20")],
     silent("10m", "NotReady"), silent("20m", "NotReady"), not_ready("22m"), not_ready("30m"), silent("32m", "NotReady"))
case("of two processes the one is reported that is not ready", [("a", "ready", "", "1x40"), ("b", "ready", "", "0x40")],
     not_ready("20m", "b"))


# Lag

def behind(at, alert, severity, lag):
    return fires(at, alert, severity, f"Table orders is {lag} behind")


case("a lag is reported long before changes are lost", [("lag_seconds", "", "0x10 900x20 901x20 14400x20 14401x20")],
     silent("29m", "LagHigh"), silent("38m", "LagHigh"), behind("44m", "LagHigh", "warning", "15m 1s"),
     silent("70m", "LagCritical"), behind("86m", "LagCritical", "critical", "4h 0m 1s"))
case("a lag that is caught up with within ten minutes is no alert", [("lag_seconds", "", "0x10 20000x8 0x40")],
     silent("18m", "LagHigh"), silent("18m", "LagCritical"), silent("40m", "LagHigh"))


# A wrong clock

def clock(at, off, pod="a"):
    return fires(at, "ClockWrong", "warning", f"The clock of the adapter {pod} is {off} off", table=None, instance=pod)


for offset in ("3600", "-3600"):
    case(f"a clock that is {offset} seconds from AWS's is reported, and that nothing waits does not hide it",
         [("clock_offset_seconds", 'instance="a"', f"0x10 {offset}x40 -1x20"), ("lag_seconds", "", "0x70")],
         silent("10m", "ClockWrong"), silent("15m", "ClockWrong"), clock("17m", "1h 0m 0s"), clock("45m", "1h 0m 0s"),
         silent("52m", "ClockWrong"), silent("45m", "LagHigh"))
case("a clock that is a minute off is none of this alert's business, nor is one answer that took long",
     [("clock_offset_seconds", 'instance="a"', "0x5 60x20 -60x20 -300x1 0x20")],
     *(silent(at, "ClockWrong") for at in ("15m", "40m", "47m", "60m")))
# The clock makes changes as old as it is ahead: the lag says so too, and nothing stands still.
case("a table that is busy under a clock that is an hour ahead has a lag that is not one, and moves",
     [*table("3600x60", read="0+60x60", events_delivered_total="0+60x60"), ("clock_offset_seconds", 'instance="a"', "-3600x60")],
     behind("30m", "LagHigh", "warning", "1h 0m 0s"), clock("30m", "1h 0m 0s"), silent("50m", "NoProgress"))


# Incidents, each by all the alerts that it fires and that it does not

case("a sink at half the speed of the writers is behind after half an hour, and neither fails nor stands still",
     [*table("0x10 0+30x110", read="0+600x120", events_delivered_total="0+300x120"), attempts_of(202, "0+300x120"),
      ("sink_up", 'sink="sink"', "1x120"), ("sink_refused_seconds", "", "0x120"), ("ready", "", "1x120")],
     silent("45m", "LagHigh"), behind("61m", "LagHigh", "warning", "25m 0s"), silent("61m", "LagCritical"),
     *(silent(at, alert) for alert in ("SinkFailing", "NoProgress", "NotReady") for at in ("60m", "110m")))
case("a key that was rotated away is denied within minutes, long before a lag is known",
     [*table("0x60", "0x10 0+60x50"), ("ready", "", "1x10 0x50"),
      ("aws_calls_total", 'operation="GetRecords",result="UnrecognizedClientException"', "_x10 0+2x50")],
     silent("11m", "AwsDenied"),
     fires("16m", "AwsDenied", "critical", "AWS denies GetRecords for table orders (UnrecognizedClientException)",
           operation="GetRecords", result="UnrecognizedClientException"),
     silent("16m", "NotReady"), fires("25m", "NotReady", "critical", "The adapter a is not ready", table=None, instance="a"))
case("a stream that is disabled makes the process not ready, and no call is denied",
     [*table("0x60"), ("ready", "", "1x10 0x50"), ("aws_calls_total", 'operation="DescribeTable",result="ok"', "0+1x60")],
     silent("18m", "NotReady"), fires("25m", "NotReady", "critical", "The adapter a is not ready", table=None, instance="a"),
     silent("50m", "AwsDenied"), silent("50m", "NoProgress"), silent("50m", "DataLoss"))
case("a pod that a quota or a lost node keeps away is missed after ten minutes",
     [("lag_seconds", "", "0x20 _x40"), ("ready", "", "1x20 _x40")],
     silent("27m", "Absent"), fires("33m", "Absent", "critical", "No adapter reports on table orders any more"))
case("a certificate of the sink that has expired is the sink's failure", [attempts_of(202, "0+60x10 600x40"),
     attempts_of("tls", "_x10 0+1x40")], silent("11m", "SinkFailing"),
     fires("22m", "SinkFailing", "critical", "The sink fails 100% of the deliveries of table orders, or of the time"))


# Dropped events

def dropped(at):
    return fires(at, "EventsDropped", "warning", "Events of table orders were dropped")


case("dropped events are reported for an hour, also where the first sample counts them",
     [("events_dropped_total", "", "0x9 3x100")], silent("9m", "EventsDropped"), dropped("11m"), dropped("60m"),
     silent("80m", "EventsDropped"))
case("events that were dropped before anybody counted are reported", [("events_dropped_total", "", "_x30 2x200")],
     silent("28m", "EventsDropped"), dropped("31m"), silent("100m", "EventsDropped"))

# Parked items

case("an item that stays parked is reported, one that recovers is not",
     [("parked_items", "", "0x10 1x3 0x16 1x30")],
     silent("13m", "ItemParked"), silent("20m", "ItemParked"), silent("35m", "ItemParked"),
     fires("37m", "ItemParked", "warning", "Items of table orders that wait for an event which keeps failing: 1"))


def many_parked(at, count):
    summary = f"Many items of table orders wait for events which keep failing: {count}"
    return fires(at, "ManyItemsParked", "critical", summary)


MANY = "ManyItemsParked"
case("more than a hundred parked items are many", [("parked_items", "", "0x10 100x10 101x20")],
     silent("20m", MANY), silent("24m", MANY), many_parked("28m", 101))
case("eleven are many while more than a fifth of all requests are refused",
     [("parked_items", "", "11x80"), ("delivery_attempts_total", 'code="202"', "0+70x80"),
      ("delivery_attempts_total", 'code="422"', "0x30 0+30x50")],
     silent("30m", MANY), many_parked("60m", 11))
case("ten are not, and requests that the sink fails are not refusals",
     [("parked_items", "", "10x40 50x40"), ("delivery_attempts_total", 'code="202"', "0+10x80"),
      ("delivery_attempts_total", 'code="422"', "0+30x40 1200x40"), ("delivery_attempts_total", 'code="503"', "0+30x80")],
     silent("30m", MANY), silent("75m", MANY))


# The sink

def sink_fails(at, share):
    return fires(at, "SinkFailing", "critical", f"The sink fails {share} of the deliveries of table orders, or of the time")


attempts = attempts_of


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

for longest in ["30s", "5m", "24h"]:
    # One attempt each `longest`; the adapter counts since when the sink has accepted nothing.
    made = {"30s": "0x10 0+2x100", "5m": "0x10 " + " ".join(f"{n}x4" for n in range(20)), "24h": "0x10 9x100"}[longest]
    case(f"a sink that accepts nothing is reported with RETRY_BACKOFF_MAX={longest}",
         [attempts(503, made), ("sink_refused_seconds", "", "0x10 0+60x100"), ("sink_up", 'sink="sink"', "1x120"),
          ("lag_seconds", "", "0x10 0+60x100")],
         silent("11m", "SinkFailing"), sink_fails("20m", "100%"), sink_fails("60m", "100%"), sink_fails("100m", "100%"))
case("a sink that has accepted nothing for two minutes may be restarting",
     [("sink_refused_seconds", "", "0x10 0+60x3 0x40")], silent("12m", "SinkFailing"), silent("14m", "SinkFailing"),
     silent("20m", "SinkFailing"))

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
def lasting(seconds, values, pod="b"):
    return pod, "lease_duration_seconds", "", values.format(seconds)


case("a table that nobody owns for minutes is reported until somebody does",
     [held("1x10 0x20 1x20"), held("0x50", "b"), lasting(15, "{}x50", "a"), lasting(15, "{}x50")],
     silent("10m", "NobodyOwns"), silent("12m", "NobodyOwns"), nobody("14m"), nobody("30m"), silent("32m", "NobodyOwns"))
case("a table that nobody owns from the start on is reported, however long leases are",
     [held("0x50"), held("0x50", "b"), lasting(600, "{}x50")], silent("1m", "NobodyOwns"), nobody("3m"), nobody("50m"))
case("with long leases a table that nobody owns is reported when the longest one is over",
     [held("1x10 0x40"), held("0x50", "b"), lasting(31, "{}x50")],
     silent("12m", "NobodyOwns"), silent("22m", "NobodyOwns"), nobody("25m"), nobody("50m"))
case("a version that does not say how long its leases are is taken for one of the default",
     [held("1x10 0x40"), held("0x50", "b")], silent("12m", "NobodyOwns"), nobody("14m"))
# Until 1.1 times LEASE_DURATION after its end, and the scrape that shows it.
for longest, seconds, minutes in [("15s", 15, 1), ("30s", 30, 1), ("31s", 31, 2), ("1m", 60, 2), ("10m", 600, 11)]:
    case(f"a takeover after a crash is not reported with LEASE_DURATION={longest}",
         [held("1x10 _x40"), held(f"0x{10 + minutes} 1x39", "b"), lasting(seconds, "{}x60")],
         *(silent(at, "NobodyOwns") for at in ("11m", "13m", "16m", "21m", "23m", "30m")))
case("a process that is killed and comes back alone waits for its own lease without an alert",
     [held("1x10 _x1 0x1 1x30"), lasting(15, "{}x10 _x1 15x32", "a")], *(silent(f"{at}m", "NobodyOwns") for at in range(10, 20)))
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


def rollout(before, after):
    """Two pods' series over an hour: the one ends, the other begins and is ready after a minute."""
    everything = {"lag_seconds": "1", "retention_headroom_seconds": "86399", "aws_refused_seconds": "0", "sink_refused_seconds": "0",
                  "parked_items": "0", "checkpoint_age_seconds": "0", "events_dropped_total": "0", "build_info": "1"}
    for metric, value in everything.items():
        yield "a", metric, "", f"{value}x{before} _x60"
        yield "b", metric, "", f"_x{after} {value}x60"
    for pod, gap, start in (("a", "", 1000), ("b", f"_x{after} ", 2000)):
        yield pod, "process_start_time_seconds", "", f"{gap}{start}x{before if pod == 'a' else 60}"
        yield pod, "records_read_total", "", f"{gap}0+60x{before if pod == 'a' else 60}"
        yield pod, "events_delivered_total", "", f"{gap}0+60x{before if pod == 'a' else 60}"
        yield pod, "delivery_attempts_total", 'code="202"', f"{gap}0+60x{before if pod == 'a' else 60}"
        yield pod, "sink_up", 'sink="sink"', f"{gap}1x{before if pod == 'a' else 60}"
        yield pod, "data_loss_total", 'reason="trimmed"', f"{gap}0x{before if pod == 'a' else 60}"
    yield "a", "ready", "", f"1x{before}"
    yield "b", "ready", "", f"_x{after} 0x1 1x60"


TIMES = ("25m", "29m", "31m", "33m", "36m", "41m", "50m", "75m")
case("a rollout in which the old pod ends first fires no alert", [*rollout(29, 31)],
     *(silent(at, alert) for alert in ALL for at in TIMES))
case("a rolling update with a table of positions fires no alert",
     [*rollout(33, 29), held("1x31 0x2 _x60"), held("_x29 0x2 1x60", "b")],
     *(silent(at, alert) for alert in ALL for at in TIMES))


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
