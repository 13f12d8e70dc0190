"""Reads requests.jsonl with the CloudEvents SDK for Python and prints one JSON line for each event.

The SDK has no reader of batches: their elements are read one by one, each from its own text.
"""

import base64
import json
import sys

from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from cloudevents.core.formats.json import JSONFormat

KNOWN = ["id", "source", "type", "subject", "time", "datacontenttype", "specversion"]


def elements(text):
    """The texts of a JSON array's elements."""
    decoder, position = json.JSONDecoder(), text.index("[") + 1
    while True:
        while position < len(text) and text[position] in " \n\r\t,":
            position += 1
        if text[position] == "]":
            return
        _, end = decoder.raw_decode(text, position)
        yield text[position:end]
        position = end


def read(request):
    body = base64.b64decode(request["body_base64"])
    if request["mode"] == "batch":
        return [JSONFormat().read(None, element) for element in elements(body.decode())]
    return [from_http_event(HTTPMessage(dict(request["headers"]), body))]


def normalized(event):
    extensions = {name: value for name, value in event.get_attributes().items() if name not in KNOWN}
    time, data = event.get_time(), event.get_data()
    return {
        "id": event.get_id(),
        "source": event.get_source(),
        "type": event.get_type(),
        "subject": event.get_subject(),
        "time": time and time.isoformat(),
        "datacontenttype": event.get_datacontenttype(),
        "extensions": extensions,
        "data": json.dumps(data),
    }


for number, line in enumerate(sys.stdin):
    request = json.loads(line)
    about = {"combination": request["combination"], "request": number}
    try:
        for event in read(request):
            print(json.dumps(about | normalized(event)))
    except Exception as error:  # whatever the SDK throws is what its users meet
        print(json.dumps(about | {"error": f"{type(error).__name__}: {error}"}))
