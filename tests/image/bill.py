"""What the image's list of its contents must say: CycloneDX by its schema, and of what was built the crates, the libraries and the
certificates, each once, and nothing else."""

import collections
import json
import os
import pathlib
import re
import subprocess

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

REPOSITORY = pathlib.Path(__file__).parents[2]
PATH = "/usr/share/sbom/dynamodb-streams-adapter.cdx.json"
FEATURES = "jemalloc,scaler"
# Beside the crates: the standard library, Debian's packages of the files that are copied, and where those come from.
BESIDE = {"pkg:generic/rust", "pkg:deb/debian/ca-certificates", "pkg:deb/debian/libc6", "pkg:deb/debian/libgcc-s1"}
OPERATING_SYSTEM = "debian"


def read(tree):
    return json.loads((tree / PATH[1:]).read_text())


def check(tree, package):
    text = (tree / PATH[1:]).read_text()
    assert not (error := JsonStrictValidator(SchemaVersion.V1_5).validate_str(text)), error
    bill = json.loads(text)
    check_that_two_builds_agree(bill)
    components = bill["components"]
    check_crates([it for it in components if it.get("purl", "").startswith("pkg:cargo/")])
    check_others([it for it in components if not it.get("purl", "").startswith("pkg:cargo/")], tree)
    check_graph(bill)
    root = bill["metadata"]["component"]
    assert (root["name"], root["version"], root["type"]) == (package["name"], package["version"], "application"), root
    print(f"   {len(components)} components")


def check_that_two_builds_agree(bill):
    assert "serialNumber" not in bill and "timestamp" not in bill["metadata"], bill["metadata"]
    references = [component["bom-ref"] for component in bill["components"]]
    assert references == sorted(set(references)), "in order, each once"


def check_crates(crates):
    listed = subprocess.run(["cargo", "tree", "--offline", "--locked", "--package", "dynamodb-streams-adapter", "--edges", "normal", "--features",
                             FEATURES, "--prefix", "none", "--format", "{p}"], cwd=REPOSITORY, check=True, capture_output=True, text=True)
    expected = {tuple(line.split(" ")[:2]) for line in listed.stdout.splitlines()}
    expected = {(name, version[1:]) for name, version in expected if name != "dynamodb-streams-adapter"}
    found = collections.Counter((it["name"], it["version"]) for it in crates)
    assert set(found) == expected, (sorted(set(found) - expected), sorted(expected - set(found)))
    assert set(found.values()) == {1}, found.most_common(3)
    for it in crates:
        assert it["purl"] == f"pkg:cargo/{it['name']}@{it['version']}", it
        assert it["hashes"][0]["alg"] == "SHA-256", it
        assert_licence(it)


def assert_licence(it):
    assert [list(licence) for licence in it["licenses"]] == [["expression"]], it["licenses"]


def check_others(others, tree):
    systems = [it for it in others if it["type"] == "operating-system"]
    packages = [it for it in others if it["type"] != "operating-system"]
    assert [it["name"] for it in systems] == [OPERATING_SYSTEM], systems
    assert {it["purl"].split("@")[0] for it in packages} == BESIDE, packages
    for it in packages:
        assert it["version"] and it["purl"].split("@")[1].startswith(it["version"].split("+")[0].split(":")[-1]), it
        assert_licence(it)
    named = {place["location"] for it in packages for place in it.get("evidence", {}).get("occurrences", [])}
    copied = {f"/{path.relative_to(tree)}" for path in tree.rglob("*") if path.is_file() and re.search(r"/(lib(64)?|certs)/", str(path))}
    assert named == copied, (named, copied)


def check_graph(bill):
    known = {bill["metadata"]["component"]["bom-ref"], *(it["bom-ref"] for it in bill["components"])}
    graph = {node["ref"]: set(node.get("dependsOn", [])) for node in bill["dependencies"]}
    assert set(graph) == known and set().union(*graph.values()) <= known, "who depends on what"
    reached, ahead = set(), [bill["metadata"]["component"]["bom-ref"]]
    while ahead:
        reference = ahead.pop()
        if reference not in reached:
            reached.add(reference)
            ahead.extend(graph[reference])
    systems = {it["bom-ref"] for it in bill["components"] if it["type"] == "operating-system"}
    assert reached == known - systems, known - reached


if __name__ == "__main__":
    check(pathlib.Path(os.environ["IMAGE_ROOT"]), {"name": "dynamodb-streams-adapter", "version": "0.1.0"})
