"""The faults of the libraries that are known: `known-differences.json`."""

import fnmatch
import json
import re
from pathlib import Path

from facts import parsed

HERE = Path(__file__).parent


def encoded(text):
    """As the HTTP binding 1.0.2 writes it into a header (3.1.3.2)."""
    return "".join(f"%{byte:02X}" if byte in b' "%' or not 0x21 <= byte <= 0x7E else chr(byte) for byte in text.encode())


class Known:
    """The faults of the libraries that are known."""

    def __init__(self):
        self.entries = json.loads((HERE / "known-differences.json").read_text())
        self.seen = set()

    def excuses(self, reader, combination, attribute, want, got):
        """Whether this difference is known; it is then seen."""
        for number, entry in enumerate(self.entries):
            about = entry["reader"] == reader and self.applies(entry, combination)
            about = about and fnmatch.fnmatchcase(attribute, entry["attribute"])
            if about and self.read_as(entry["read_as"], want, got):
                self.seen.add(number)
                return True
        return False

    @staticmethod
    def applies(entry, combination):
        return any(fnmatch.fnmatchcase(combination, pattern) for pattern in entry["combinations"])

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
        raise ValueError(f"known-differences.json: read_as is {how}")

    def untrue(self, captured):
        """Entries that did not occur in what was captured, or are about other versions."""
        for number, entry in enumerate(self.entries):
            if number not in self.seen and any(self.applies(entry, combination) for combination in captured):
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
