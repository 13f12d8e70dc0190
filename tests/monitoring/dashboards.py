"""The dashboards' panels and queries, as Grafana would ask them."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = ["overview.json", "shards.json"]
PREFIX = "dynamodb_streams_adapter_"


class Query:
    """One query of one panel."""

    def __init__(self, file, panel, target):
        self.name = f"{file}, {panel['title']!r}, {target['refId']}"
        self.file, self.panel, self.target = file, panel, target
        self.expression = target["expr"]

    def substituted(self, namespace, rate_interval, time_range, table=".*"):
        """The expression with its variables replaced; fails where one is unknown."""
        text = self.expression
        values = {"cluster": ".*", "namespace": namespace, "job": ".*", "table": table, "__rate_interval": rate_interval,
                  "__range": time_range}
        for name, value in values.items():
            text = text.replace("$" + name, value)
        assert "$" not in text, f"{self.name}: an unknown variable in {text}"
        return text


def dashboards():
    """Each dashboard by its file's name."""
    return {file: json.loads((ROOT / "dashboards" / file).read_text()) for file in FILES}


def panels(dashboard):
    """All panels that show something."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def queries():
    """All queries of all dashboards."""
    return [
        Query(file, panel, target)
        for file, dashboard in dashboards().items() for panel in panels(dashboard) for target in panel["targets"]
    ]


def known_series():
    """What the adapter can export, by docs/metrics.md."""
    names = set()
    for name, kind in re.findall(r"^\| `(\w+)` \| (\w+) \|", (ROOT / "docs/metrics.md").read_text(), re.M):
        endings = ["_bucket", "_sum", "_count"] if kind == "histogram" else [""]
        names |= {PREFIX + name + ending for ending in endings}
    return names


def series_of_the_process():
    """What has no label `table`, because it concerns the whole process."""
    rows = re.findall(r"^\| `(\w+)` \| \w+ \| ([^|]*) \|", (ROOT / "docs/metrics.md").read_text(), re.M)
    return {PREFIX + name for name, labels in rows if "`table`" not in labels}


def used_series(text):
    """What a text of queries refers to."""
    return set(re.findall(PREFIX + r"\w+", text))
