"""IAM policies: exactly what the program calls, on the resources that the call is about, and nothing else."""

import json
import re

# What each file is for, as the set of its actions. `sts` actions are those of the SDK and of EKS on the program's behalf.
READ_STREAM = {"dynamodb:DescribeStream", "dynamodb:GetShardIterator", "dynamodb:GetRecords"}
KEEP_POSITIONS = {"dynamodb:GetItem", "dynamodb:Query", "dynamodb:PutItem", "dynamodb:DeleteItem"}
EXPECTED = {
    "read-table.json": READ_STREAM | {"dynamodb:DescribeTable"},
    "read-table-by-listing.json": READ_STREAM | {"dynamodb:ListStreams"},
    "read-one-stream.json": READ_STREAM,
    "positions-table.json": KEEP_POSITIONS | {"dynamodb:DescribeTable", "dynamodb:DescribeTimeToLive"},
    "create-positions-table.json": {
        "dynamodb:CreateTable", "dynamodb:DescribeTable", "dynamodb:DescribeTimeToLive", "dynamodb:UpdateTimeToLive",
    },
    "edit-positions.json": KEEP_POSITIONS | {"dynamodb:Scan"},
    "scaler-lease.json": KEEP_POSITIONS - {"dynamodb:DeleteItem"},
    "decrypt-table.json": {"kms:Decrypt"},
    "table-resource-policy.json": {"dynamodb:DescribeTable"},
    "stream-resource-policy.json": READ_STREAM,
    "assume-role.json": {"sts:AssumeRole", "sts:TagSession"},
    "cross-account-trust.json": {"sts:AssumeRole", "sts:TagSession"},
    "irsa-trust.json": {"sts:AssumeRoleWithWebIdentity"},
    "pod-identity-trust.json": {"sts:AssumeRole", "sts:TagSession"},
}
KEY = r"arn:aws:kms:[a-z0-9-]+:\d{12}:key/[0-9a-f-]{36}"
TABLE = r"arn:aws:dynamodb:[a-z0-9-]+:\d{12}:table/[A-Za-z0-9_.-]+"
RESOURCES = {
    "dynamodb:DescribeTable": TABLE,
    "dynamodb:ListStreams": r"\*",
    "kms:Decrypt": KEY,
    **dict.fromkeys(KEEP_POSITIONS | EXPECTED["create-positions-table.json"] | {"dynamodb:Scan"}, TABLE),
    **dict.fromkeys(READ_STREAM, TABLE + r"/stream/(\*|[0-9T:.-]+)"),
    **dict.fromkeys(("sts:AssumeRole", "sts:TagSession"), r"arn:aws:iam::\d{12}:role/[A-Za-z0-9_+=,.@/-]+"),
}
MEMBERS = {"Sid", "Effect", "Action", "Resource", "Principal", "Condition"}


def calls_of_the_program(repository):
    """Actions by the names of the operations that the two files with AWS calls have."""
    source = (repository / "src/streams/client/aws.rs").read_text()
    names = re.findall(r'const OPERATION: &str = "(\w+)"', source)
    # Of the table of positions, by the SDK's functions.
    source = (repository / "src/checkpoint/dynamodb/aws.rs").read_text()
    functions = re.findall(r"\bclient\s*\.(\w+)\(\)", source)
    names += ["".join(word.capitalize() for word in name.split("_")) for name in functions]
    made = {f"dynamodb:{name}" for name in names}
    if "AssumeRoleProvider" in (repository / "src/aws/credentials.rs").read_text():
        made |= {"sts:AssumeRole", "sts:TagSession"}
    # Web identity is part of the SDK's default chain; DynamoDB decrypts on behalf of whoever reads.
    return made | {"sts:AssumeRoleWithWebIdentity", "kms:Decrypt"}


def check(report, root, repository):
    called = calls_of_the_program(repository)
    files = sorted((root / "iam").glob("*.json"))
    for path in files:
        report.check(f"manifests/iam/{path.name}", "policy", list(of_file(path, called)))
    missing = set(EXPECTED) - {path.name for path in files}
    report.check("manifests/iam", "files", [f"{name} is gone" for name in missing])
    granted = {action for actions in EXPECTED.values() for action in actions}
    report.check("manifests/iam", "calls", [
        f"the program calls {action}, and no policy grants it" for action in sorted(called - granted)
    ])


def of_file(path, called):
    try:
        policy = json.loads(path.read_text(), object_pairs_hook=once)
    except ValueError as error:
        yield f"not JSON: {error}"
        return
    if set(policy) != {"Version", "Statement"} or policy["Version"] != "2012-10-17":
        yield "it needs the members Version (2012-10-17) and Statement, and no other"
        return
    actions = set()
    for statement in policy["Statement"]:
        yield from of_statement(statement, path.name, called)
        actions |= set(as_list(statement.get("Action", [])))
    if path.name not in EXPECTED:
        yield "say in tests/manifests/iam.py which actions it is for"
    elif actions != EXPECTED[path.name]:
        yield f"grants {sorted(actions)} where {sorted(EXPECTED[path.name])} are needed"


def of_statement(statement, name, called):
    is_trust, is_of_resource = name.endswith("-trust.json"), name.endswith("-resource-policy.json")
    for member in sorted(set(statement) - MEMBERS):
        yield f"IAM knows no member {member}"
    if statement.get("Effect") != "Allow":
        yield "Effect is not Allow"
    if (is_trust or is_of_resource) != ("Principal" in statement) or is_trust == ("Resource" in statement):
        yield "a trust policy has a Principal and no Resource, that of a resource has both, and any other the reverse"
    if (is_trust or is_of_resource) and "*" in str(statement.get("Principal")):
        yield "everybody may assume the role"
    # Tags alone open nothing, and `sts:ExternalId` is no key of `sts:TagSession`.
    # Source: "Actions, resources, and condition keys for AWS Security Token Service" of the Service Authorization Reference.
    actions = as_list(statement.get("Action", []))
    if "sts:TagSession" in actions and "sts:ExternalId" in str(statement.get("Condition")):
        yield "sts:TagSession under a condition on sts:ExternalId, which is no key of it, is never allowed"
    if is_trust and "Condition" not in statement and actions != ["sts:TagSession"]:
        yield "a trust policy without a condition lets others in than the one that is meant"
    if "kms:Decrypt" in actions and "kms:ViaService" not in str(statement.get("Condition")):
        yield "kms:Decrypt without kms:ViaService decrypts whatever else the key has encrypted"
    if name == "scaler-lease.json" and "dynamodb:LeadingKeys" not in str(statement.get("Condition")):
        yield "who shares the lease could write the positions too"
    for action in as_list(statement.get("Action", [])):
        if action not in called:
            yield f"the program never calls {action}"
        for resource in as_list(statement.get("Resource", [])):
            if not re.fullmatch(RESOURCES.get(action, "(?!)"), resource):
                yield f"{action} on {resource} is not what the call is about"


def as_list(value):
    return value if isinstance(value, list) else [value]


def once(pairs):
    names = [name for name, _ in pairs]
    if len(names) != len(set(names)):
        raise ValueError("a member comes twice")
    return dict(pairs)
