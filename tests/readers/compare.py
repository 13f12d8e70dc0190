"""Compares what the libraries read with what was sent: compare.py FOLDER.

FOLDER has `expected.json`, and for every reader `events-<reader>.jsonl` or `data-<reader>.jsonl`. Whatever differs is
a failure, unless `known-differences.json` names it as a fault of that library; an entry that does not occur is a
failure too, so that the list stays true.
"""

import fnmatch
import json
import re
import sys
from collections import defaultdict
from decimal import Decimal
from pathlib import Path

from facts import facts

HERE, FOLDER = Path(__file__).parent, Path(sys.argv[1])
ATTRIBUTES = ["id", "source", "type", "subject", "time", "datacontenttype", "extensions", "data"]
ABSENT = "absent"


def parsed(text, exactly=True):
    number = Decimal if exactly else float
    return json.loads(text, parse_float=number, parse_int=number)


def instant(text):
    """RFC 3339 in UTC, with as many decimals as are needed."""
    found = text and re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d)(:\d\d)?(\.\d+)?(?:Z|[+]00:?00)", text)
    if not found:
        return text
    return f"{found[1]}{found[2] or ':00'}{(found[3] or '').rstrip('0').rstrip('.')}Z"


def encoded(text):
    """As the HTTP binding 1.0.2 writes it into a header (3.1.3.2)."""
    plain = lambda byte: 0x21 <= byte <= 0x7E and byte not in b'"%'
    return "".join(chr(byte) if plain(byte) else f"%{byte:02X}" for byte in text.encode())


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


class Known:
    """The faults of the libraries that are known."""

    def __init__(self):
        self.entries = json.loads((HERE / "known-differences.json").read_text())
        self.seen = set()

    def excuses(self, reader, combination, attribute, want, got):
        for number, entry in enumerate(self.entries):
            about = entry["reader"] == reader and fnmatch.fnmatchcase(combination, entry["combination"])
            about = about and fnmatch.fnmatchcase(attribute, entry["attribute"])
            if about and self.read_as(entry["read_as"], want, got):
                self.seen.add(number)
                return True
        return False

    @staticmethod
    def read_as(how, want, got):
        match how:
            case "percent-encoded":
                return isinstance(want, str) and got == encoded(want)
            case "now":
                return want is None and isinstance(got, str) and got.startswith("20")
            case "1970":
                return want is None and got == 0
            case "doubles":
                return parsed(want, exactly=False) == parsed(got, exactly=False)
        return isinstance(got, str) and how in got

    def untrue(self, captured):
        for number, entry in enumerate(self.entries):
            applies = fnmatch.filter(captured, entry["combination"])
            if applies and number not in self.seen:
                yield f"known-differences.json names what {entry['library']} does not do any more: {entry['reason']}"
            name, version = entry["library"].rsplit(" ", 1)
            pin = re.compile(rf"{re.escape(name)}(\W|artifactId|version)+{re.escape(version)}\b")
            if not any(pin.search(text) for text in self.manifests()):
                yield f"known-differences.json is about {entry['library']}, which is not the version that is pinned"

    @staticmethod
    def manifests():
        for name in ("go/go.mod", "python/requirements.txt", "javascript/package.json", "java/pom.xml", "rust/Cargo.toml"):
            path = HERE / name
            yield path.read_text() if path.exists() else ""


def differences(want, got, form):
    """Attribute, what was sent, what was read."""
    for attribute in ATTRIBUTES:
        sent, read = want.get(attribute), got.get(attribute)
        if attribute == "time":
            read = instant(read)
        if attribute == "extensions":
            for name in sorted(set(sent) | set(read)):
                if not matches(sent.get(name), read.get(name, ABSENT)):
                    yield f"extensions.{name}", sent.get(name), read.get(name, ABSENT)
        elif attribute == "data":
            try:
                same = facts("" if form == "dynamodb-json" else form, parsed(read)) == facts(
                    "" if form in ("dynamodb-json", "json", "gap") else "dynamodb-json", parsed(sent)
                )
            except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
                same = f"{type(error).__name__}: {error}" == ""
            if not same:
                yield attribute, sent, read
        elif not matches(sent, read):
            yield attribute, sent, read


def judge_events(reader, combination, expected, read, known):
    """All that is wrong with what a reader made of one combination's requests."""
    rest = {event.get("id"): event for event in read if "error" not in event}
    for event in read:
        if "error" in event and not known.excuses(reader, combination, "error", "", event["error"]):
            yield f"{reader} could not read request {event['request']}: {event['error']}"
    for want in expected:
        name = next((one for one in rest if matches(want["id"], one)), None)
        if name is None:
            if not known.excuses(reader, combination, "event", want["id"], "missing"):
                yield f"{reader} did not read event {want['id']}"
            continue
        got = rest.pop(name)
        for attribute, sent, seen in differences(want, got, want["form"]):
            if not known.excuses(reader, combination, attribute, sent, seen):
                yield f"{reader} would misread {attribute} of event {name}: sent {short(sent)}, read {short(seen)}"
    for name in rest:
        yield f"{reader} read an event that was not sent, or one twice: {name}"


def judge_data(reader, combination, expected, read, known):
    """The same for the records in the data."""
    rest = {record.get("event_id"): record for record in read}
    for want in (event for event in expected if event["form"] != "gap"):
        record = facts("dynamodb-json", json.loads(want["data"]))
        got = rest.pop(want["id"], None)
        if got is None:
            yield f"{reader} did not read the record of event {want['id']}"
            continue
        for name, sent in record.items():
            if sent != got.get(name, ABSENT) and not known.excuses(reader, combination, name, sent, got.get(name)):
                yield f"{reader} would misread {name} of event {want['id']}: sent {short(sent)}, read {short(got.get(name))}"
    for record in rest.values():
        yield f"{reader} could not read, or read what was not sent: {short(record)}"


def short(value):
    text = json.dumps(value, default=str)
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
    known, passed, failed = Known(), 0, []
    for path in sorted(FOLDER.glob("*-*.jsonl")):
        kind, reader = path.stem.split("-", 1)
        read = events_of(path)
        judge = judge_events if kind == "events" else judge_data
        forms = ["*"] if kind == "events" else {"gson": ["integration-source/*"]}.get(reader, ["aws/*/dynamodb-json"])
        for combination in sorted(name for form in forms for name in fnmatch.filter(expected, form)):
            wrong = list(judge(reader, combination, expected[combination], read.get(combination, []), known))
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
