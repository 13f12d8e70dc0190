"""What a record says, told from each form of an event's data in one shape, so that forms can be compared.

The decoders follow what the originals of two profiles send; they share nothing with the adapter's encoders.
"""

import base64
import calendar
import json
import re
import time
from decimal import Decimal

TRIGGERMESH_MEMBERS = {"B", "BOOL", "BS", "L", "M", "N", "NS", "NULL", "S", "SS"}


def parsed(text, exactly=True):
    """JSON with all digits of its numbers, or with those that a double keeps."""
    number = Decimal if exactly else float
    return json.loads(text, parse_float=number, parse_int=number)


def facts(form, data):
    """The facts of one record, or of whatever else the form holds."""
    return {"triggermesh": triggermesh, "integration-source": integration_source, "dynamodb-json": lambda_record}.get(
        form, lambda data: data
    )(data)


def told(event_id, operation, region, sequence, size, view, keys, new, old, seconds, identity):
    return dict(locals())


def lambda_record(data):
    change, identity = data["dynamodb"], data.get("userIdentity")
    return told(
        data["eventID"], data["eventName"], data["awsRegion"], change["SequenceNumber"], change["SizeBytes"],
        change["StreamViewType"], change["Keys"], change.get("NewImage"), change.get("OldImage"),
        change.get("ApproximateCreationDateTime"), identity and [identity["principalId"], identity["type"]],
    )  # fmt: skip


def triggermesh(data):
    def value(typed):
        assert set(typed) == TRIGGERMESH_MEMBERS, f"members {sorted(typed)}"
        (kind, inner), = ((kind, inner) for kind, inner in typed.items() if inner is not None)
        return {kind: [value(one) for one in inner] if kind == "L" else image(inner) if kind == "M" else inner}

    def image(attributes):
        return None if attributes is None else {name: value(typed) for name, typed in attributes.items()}

    change, identity = data["Dynamodb"], data["UserIdentity"]
    moment = change["ApproximateCreationDateTime"]
    return told(
        data["EventID"], data["EventName"], data["AwsRegion"], change["SequenceNumber"], change["SizeBytes"],
        change["StreamViewType"], image(change["Keys"]), image(change["NewImage"]), image(change["OldImage"]),
        moment and Decimal(calendar.timegm(time.strptime(re.sub(r"\.\d+", "", moment), "%Y-%m-%dT%H:%M:%SZ"))),
        identity and [identity["PrincipalId"], identity["Type"]],
    )  # fmt: skip


def integration_source(data):
    def octets(inner):
        assert all(-128 <= one <= 127 for one in inner["bytes"]), "a byte that is not a signed one"
        return base64.b64encode(bytes(int(one) % 256 for one in inner["bytes"])).decode()

    def value(typed):
        kind = typed["type"]
        for name, empty in (("ss", []), ("ns", []), ("bs", []), ("m", {}), ("l", [])):
            assert kind == name.upper() or typed[name] == empty, f"{name} beside {kind}"
        inner = typed[kind.lower()]
        if kind == "L":
            inner = [value(one) for one in inner]
        elif kind == "M":
            inner = {name: value(one) for name, one in inner.items()}
        elif kind == "B":
            inner = octets(inner)
        elif kind == "BS":
            inner = [octets(one) for one in inner]
        return {"NULL" if kind == "NUL" else kind: inner}

    def image(attributes):
        return {name: value(typed) for name, typed in attributes.items()} or None

    change, identity = data["dynamodb"], data.get("userIdentity")
    millis = change.get("approximateCreationDateTime")
    return told(
        data["eventID"], data["eventName"], data["awsRegion"], change["sequenceNumber"], change["sizeBytes"],
        change["streamViewType"], image(change["keys"]), image(change["newImage"]), image(change["oldImage"]),
        millis and millis / 1000, identity and [identity["principalId"], identity["type"]],
    )  # fmt: skip
