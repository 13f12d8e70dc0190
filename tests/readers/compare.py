"""Compares what the libraries read with what was sent: compare.py FOLDER.

FOLDER has `expected.json`, and for every reader `events-<reader>.jsonl` or `data-<reader>.jsonl`. Whatever differs is
a failure, unless `known-differences.json` names it as a fault of that library; an entry that does not occur is a
failure too, so that the list stays true.
"""

import fnmatch
import json
import re
import sys
from collections import Counter, defaultdict
from pathlib import Path

from facts import facts, parsed
from known import Known

FOLDER = Path(sys.argv[1])
ATTRIBUTES = ["id", "source", "type", "subject", "time", "datacontenttype", "extensions", "data"]
ABSENT = "absent"


def instant(text):
    """RFC 3339 in UTC, with as many decimals as are needed."""
    found = text and re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d)(:\d\d)?(\.\d+)?(?:Z|[+]00:?00)", text)
    if not found:
        return text
    return f"{found[1]}{found[2] or ':00'}{(found[3] or '').rstrip('0').rstrip('.')}Z"


def matches(want, got):
    if isinstance(want, dict) and set(want) == {"matches"}:
        return isinstance(got, str) and re.search(want["matches"], got) is not None
    return want == got


def events_of(path):
    by_combination = defaultdict(list)
    for line in filter(None, path.read_text().split("\n")):
        event = json.loads(line)
        by_combination[event["combination"]].append(event)
    return by_combination


def data_differs(form, sent, read):
    """Where the data differs, as a path; nothing where it does not."""
    peer = form in ("triggermesh", "integration-source")
    want = parsed(sent)
    try:
        got = facts(form if peer else "", parsed(read))
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        return f" ({type(error).__name__}: {error})"
    return apart(facts("dynamodb-json", want) if peer else want, got)


def apart(want, got):
    """The path to the first place in which two JSON values differ."""
    if isinstance(want, dict) and isinstance(got, dict):
        places = [(name, want.get(name, ABSENT), got.get(name, ABSENT)) for name in {**want, **got}]
    elif isinstance(want, list) and isinstance(got, list) and len(want) == len(got):
        places = [(index, *pair) for index, pair in enumerate(zip(want, got))]
    else:
        return "" if want == got else f": {short(want)} is read as {short(got)}"
    return next((f"[{json.dumps(name)}]{path}" for name, *pair in places if (path := apart(*pair))), "")


def differences(want, got, form):
    """Attribute, what was sent, what was read, and that in words."""
    for attribute in ATTRIBUTES:
        sent, read = want.get(attribute), got.get(attribute)
        if attribute == "time":
            read = instant(read)
        if attribute == "extensions":
            for name in sorted(set(sent) | set(read)):
                if not matches(sent.get(name), read.get(name, ABSENT)):
                    yield f"extensions.{name}", *differing(sent.get(name), read.get(name, ABSENT))
        elif attribute == "data":
            place = data_differs(form, sent, read)
            if place:
                yield attribute, sent, read, f"data{place}"
        elif not matches(sent, read):
            yield attribute, *differing(sent, read)


def differing(sent, read):
    return sent, read, f"{short(sent)} is read as {short(read)}"


class Agreement:
    """What nobody knows beforehand, like the moment of a reading, every reader must read alike."""

    def __init__(self):
        self.first = {}

    def differs(self, reader, about, value):
        """The reader that read something else, and what."""
        first = self.first.setdefault(about, (reader, value))
        return first if first[1] != value else None


def judge_events(reader, combination, expected, read, known, agreement):
    """All that is wrong with what a reader made of one combination's requests."""
    rest = {event.get("id"): event for event in read if "error" not in event}
    for event in read:
        if "error" in event:
            yield f"{reader} could not read request {event['request']}: {event['error']}"
    for want in expected:
        name = next((one for one in rest if matches(want["id"], one)), None)
        if name is None:
            yield f"{reader} did not read event {want['id']}"
            continue
        got = rest.pop(name)
        for attribute, sent, seen, how in differences(want, got, want["form"]):
            if not known.excuses(reader, combination, attribute, sent, seen):
                yield f"{reader} would misread {attribute} of event {name}: {how}"
        for attribute, seen in {"id": got["id"], "time": instant(got["time"]), **got["extensions"]}.items():
            sent = want.get(attribute, want["extensions"].get(attribute))
            other = isinstance(sent, dict) and agreement.differs(reader, (combination, name, attribute), seen)
            if other:
                yield f"{reader} reads {attribute} of event {name} as {short(seen)}, {other[0]} as {short(other[1])}"
    for name in rest:
        yield f"{reader} read an event that was not sent: {name}"
    yield from twice(reader, [event.get("id") for event in read])


def judge_data(reader, combination, expected, read, known, _):
    """The same for the records in the data."""
    rest = {record.get("event_id"): record for record in read}
    for want in (event for event in expected if event["form"] != "gap"):
        record = facts("dynamodb-json", json.loads(want["data"]))
        got = rest.pop(want["id"], None)
        if got is None:
            yield f"{reader} did not read the record of event {want['id']}"
            continue
        for name, sent in record.items():
            place = apart(sent, got.get(name, ABSENT))
            if place and not known.excuses(reader, combination, name, sent, got.get(name)):
                yield f"{reader} would misread {name} of event {want['id']}: {name}{place}"
    for record in rest.values():
        yield f"{reader} could not read a record, or read what was not sent: {short(record.get('error', record))}"
    yield from twice(reader, [record.get("event_id") for record in read])


def twice(reader, names):
    for name, times in Counter(names).items():
        if name and times > 1:
            yield f"{reader} read event {name} {times} times"


def short(value):
    text = json.dumps(value, default=lambda number: f"number {number}")
    return text if len(text) <= 300 else f"{text[:300]}..."


def tell(failed):
    """Every failure, but of those that differ in the event alone the first two."""
    alike = defaultdict(list)
    for combination, text in failed:
        alike[combination, text.split(" of event ")[0]].append(f"{combination}: {text}")
    for texts in alike.values():
        print(*texts[:2], *([f"... and {len(texts) - 2} more of these"] if texts[2:] else []), sep="\n")


def main():
    document = json.loads((FOLDER / "expected.json").read_text())
    expected = defaultdict(list)
    for event in document["events"]:
        expected[event["combination"]].append(event)
    known, agreement, passed, failed = Known(), Agreement(), 0, []
    for path in sorted(FOLDER.glob("*-*.jsonl")):
        kind, reader = path.stem.split("-", 1)
        read = events_of(path)
        judge = judge_events if kind == "events" else judge_data
        of_data = "integration-source/*" if reader == "gson" else "aws/*/dynamodb-json"
        for combination in sorted(fnmatch.filter(expected, "*" if kind == "events" else of_data)):
            wrong = list(judge(reader, combination, expected[combination], read.get(combination, []), known, agreement))
            print(f"{kind} of {combination} read by {reader} ... {'FAILED' if wrong else 'ok'}")
            passed += not wrong
            failed += [(combination, text) for text in wrong]
    failed += [("known differences", text) for text in known.untrue(list(expected))]
    tell(failed)
    for name in document["missing"]:
        print(f"not in this version: {name}")
    print(f"{len(expected)} of {len(expected) + len(document['missing'])} combinations captured, {len(known.entries)} known differences")
    print(f"test result: {'FAILED' if failed else 'ok'}. {passed} passed; {len(failed)} failed")
    sys.exit(1 if failed or not passed else 0)


main()
