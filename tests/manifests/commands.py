"""Commands in the documents: each object that one names is rendered by the documents' own examples or overlays, each folder that one
applies is there, and each trust policy names a ServiceAccount that an example makes."""

import json
import re

import texts
from objects import named

PAGES = ("README.md", "docs/*.md", "docs/runbook/*.md", "dashboards/README.md")
# What other projects install, and what the reader has.
OF_OTHERS = {
    ("deployment", "eventing-controller"), ("deployment", "triggermesh-controller"), ("configmap", "eventing-integrations-images"),
}
KINDS = {
    "deploy": "deployment", "deployment": "deployment", "service": "service", "svc": "service", "sinkbinding": "sinkbinding",
    "containersource": "containersource", "pvc": "persistentvolumeclaim", "persistentvolumeclaim": "persistentvolumeclaim",
    "serviceaccount": "serviceaccount", "configmap": "configmap",
}
NAME = r"[a-z0-9][\w.-]*"


def check(report, root, repository, rendered):
    """`rendered`: for each overlay and example by its name, its objects."""
    pages = [path for pattern in PAGES for path in sorted(repository.glob(pattern))]
    made = {}
    for objects in rendered.values():
        for item in objects:
            place = made.setdefault((item["kind"].lower(), item["metadata"]["name"]), set())
            place.add(item["metadata"].get("namespace"))
    seen = 0
    for path in pages:
        commands = list(commands_of(path.read_text()))
        seen += len(commands)
        report.check(path.relative_to(repository).as_posix(), "commands",
                     [text for command in commands for text in objections(command, made, rendered, root)])
    report.check("the documents", "commands are understood", [] if seen > 30 else [f"only {seen} were found"])
    for path in sorted((root / "iam").glob("*-trust.json")):
        report.check(f"manifests/iam/{path.name}", "who may take the role", list(strangers(path, made)))
    for name, text in texts.all_examples(repository):
        report.check(f"the example {name}", "role", list(borrowed_roles(text)))
        report.check(f"the example {name}", "monitoring once", list(repeated_monitoring(text)))


def commands_of(page):
    """Shell examples and what stands between backticks, one command each, as one line."""
    for block in re.findall(r"^ *```sh\n(.*?)^ *```", page, re.MULTILINE | re.DOTALL):
        yield from (line.strip() for line in block.replace("\\\n", " ").splitlines() if line.strip())
    yield from re.findall(r"`(kubectl [^`]*)`", page)


def objections(command, made, rendered, root):
    for part in re.split(r"\s*\|\s*|\s*&&\s*", command):
        if part.startswith("kubectl "):
            yield from of_kubectl(part, made, rendered, root)
        if part.startswith("aws eks create-pod-identity-association"):
            account, namespace = (re.search(rf"--{name} (\S+)", part).group(1) for name in ("service-account", "namespace"))
            yield from missing(part, "serviceaccount", account, namespace, made)


def of_kubectl(command, made, rendered, root):
    namespace = re.search(r" -n (\S+)", command)
    applied = re.search(r" (?:apply -k|kustomize) (\S+)", command)
    if applied:
        folder = applied.group(1).rstrip("/")
        if folder not in rendered and not (root.parent / folder / "kustomization.yaml").exists():
            yield f"{command}: no example makes {folder}"
    for kind, name in re.findall(rf" ({'|'.join(KINDS)})[/ ]({NAME})(?=\s|$)", command):
        if (KINDS[kind], name) not in OF_OTHERS and " create " not in command:
            yield from missing(command, KINDS[kind], name, namespace and namespace.group(1), made)


def missing(command, kind, name, namespace, made):
    places = made.get((kind, name))
    if places is None:
        yield f"{command}: nothing in manifests/ or in the examples makes {kind} {name}"
    elif namespace and places and None not in places and namespace not in places:
        yield f"{command}: {kind} {name} is made in {sorted(places)}, not in {namespace}"


def strangers(path, made):
    """Trust policies whose ServiceAccount no example makes, in that namespace."""
    text = path.read_text()
    subjects = re.findall(rf"system:serviceaccount:({NAME}):({NAME})", text)
    condition = json.loads(text)["Statement"][0].get("Condition", {}).get("StringEquals", {})
    if "aws:RequestTag/kubernetes-namespace" in condition:
        subjects.append((condition["aws:RequestTag/kubernetes-namespace"], condition["aws:RequestTag/kubernetes-service-account"]))
    for namespace, account in subjects:
        if namespace not in made.get(("serviceaccount", account), ()):
            yield f"it lets in ServiceAccount {account} of namespace {namespace}, which no example makes"


def repeated_monitoring(text):
    """Dashboards have one uid however often they are there, and alerts of one name are sent twice."""
    if "namePrefix" in text and re.search("components/(dashboards|prometheus-rule)|overlays/monitoring", text):
        yield "it has alerts or dashboards of its own: with a prefix they are there twice"


def borrowed_roles(text):
    """An example with IRSA sets its own role: the component's is nobody's."""
    if "components/irsa" in text and "eks.amazonaws.com/role-arn" not in text and not re.search("# .*role.* as in the first example", text):
        yield "it has component irsa and sets no role"
