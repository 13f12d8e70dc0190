"""The Terraform file: it can be parsed, and its policies are those of manifests/iam. It is not applied."""

import json
import re

import hcl2

# The documents of the file, and the policies that they repeat.
SAME = {"irsa_trust": "irsa-trust.json", "pod_identity_trust": "pod-identity-trust.json", "read_table": "read-table.json",
        "positions_table": "positions-table.json"}


def check(report, root):
    path = root / "iam/terraform/role.tf"
    try:
        parsed = plain(hcl2.loads(path.read_text()))
    except Exception as error:  # the parser has many
        report.check("manifests/iam/terraform", "syntax", [f"{type(error).__name__}: {str(error).splitlines()[0]}"])
        return
    report.check("manifests/iam/terraform", "syntax", [])
    documents = {name: body for block in parsed["data"] for name, body in block["aws_iam_policy_document"].items()}
    values = values_of(parsed)
    for name, file in SAME.items():
        wanted = normal(json.loads((root / "iam" / file).read_text())["Statement"])
        made = normal([statement(each) for each in substituted(documents.get(name, {}), values).get("statement", [])])
        report.check("manifests/iam/terraform", name, [] if made == wanted else [f"grants {made}, and {file} {wanted}"])
    report.check("manifests/iam/terraform", "references", list(dangling(path.read_text(), parsed)))


def plain(value):
    """Without the quotes that the parser leaves around texts and names, and without its own marks."""
    if isinstance(value, dict):
        return {unquoted(key): plain(each) for key, each in value.items() if not key.startswith("__")}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return unquoted(value)


def unquoted(text):
    return text[1:-1] if isinstance(text, str) and len(text) > 1 and text[0] == text[-1] == '"' else text


def values_of(parsed):
    """What each reference stands for, by the variables' defaults."""
    values = {f"var.{name}": body["default"] for block in parsed["variable"] for name, body in block.items()}
    values |= {f"local.{name}": text for block in parsed["locals"] for name, text in block.items()}
    return values


def substituted(value, values):
    if isinstance(value, dict):
        return {substituted(key, values): substituted(each, values) for key, each in value.items()}
    if isinstance(value, list):
        return [substituted(each, values) for each in value]
    while isinstance(value, str) and "${" in value:
        value = re.sub(r"\$\{([\w.]+)\}", lambda found: values[found.group(1)], value)
    return value


def statement(block):
    """A statement in IAM's own form."""
    made = {"Sid": block["sid"], "Effect": block["effect"], "Action": block["actions"]}
    if "resources" in block:
        made["Resource"] = block["resources"]
    for principal in block.get("principals", []):
        made.setdefault("Principal", {})[principal["type"]] = principal["identifiers"]
    for condition in block.get("condition", []):
        made.setdefault("Condition", {}).setdefault(condition["test"], {})[condition["variable"]] = condition["values"]
    return made


def normal(value):
    """One text is a list of one, and no order counts."""
    if isinstance(value, dict):
        return {key: normal(each) for key, each in sorted(value.items())}
    if isinstance(value, list):
        one = [normal(each) for each in value]
        return one[0] if len(one) == 1 and isinstance(one[0], str) else sorted(one, key=str)
    return value


def dangling(text, parsed):
    """References to variables, locals and documents that are not there."""
    known = set(values_of(parsed))
    for kind in ("data", "resource"):
        for block in parsed[kind]:
            for sort, named in block.items():
                known |= {f"{'data.' if kind == 'data' else ''}{sort}.{name}" for name in named}
    for reference in sorted(set(re.findall(r"\b(var\.\w+|local\.\w+|data\.aws_\w+\.\w+|(?<!data\.)aws_\w+\.\w+)", text))):
        if reference not in known:
            yield f"{reference} is not there"
