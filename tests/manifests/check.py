"""Renders every kustomization and everything that a reader may put together of them, and checks what comes out.

`check.py` takes no arguments; `tests/manifests/run` calls it. `breaks.py` proves that each check can fail.
"""

import pathlib
import queue
import re
import sys
import tempfile

import breaks
import combinations
import commands
import environment
import iam
import patches
import process
import references
import restricted
import schemas
import start
import terraform
import texts
from network import Peer, allows
from objects import CONTAINER, SCALER, adapters, containers, labels_of, matches, named, pods, port_names, scalers
from render import RenderError, parse, render, render_together
from report import Ignored, Report

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]

# Components, and the overlays that they are for; what is not here is for the first.
ON = {
    "irsa": ["deployment", "sinkbinding", "containersource", "sidecar", "native-sidecar"],
    "pod-identity": ["deployment", "sinkbinding", "containersource", "sidecar", "native-sidecar"],
    "credentials-secret": ["deployment", "sinkbinding", "containersource", "sidecar", "native-sidecar"],
    "credentials-secret-knative": ["deployment", "sinkbinding", "containersource", "sidecar", "native-sidecar"],
    "assume-role": ["deployment", "sinkbinding", "containersource", "sidecar", "native-sidecar"],
    "dead-letter": ["deployment", "sinkbinding", "containersource", "sidecar", "native-sidecar"],
    "private-ca": ["deployment", "sidecar", "native-sidecar"],
    "private-ca-variable": ["deployment", "sidecar", "native-sidecar"],
    "oidc-token": ["deployment", "sidecar", "native-sidecar"],
    "service-monitor": ["deployment", "sinkbinding"],
    "pod-monitor": ["deployment", "sinkbinding", "containersource"],
    "sidecar-monitor": ["sidecar", "native-sidecar"],
    "network-policy": ["deployment", "sinkbinding", "containersource"],
    "positions-table": ["deployment", "sinkbinding", "containersource", "sidecar", "native-sidecar"],
    "keda-consumer": ["deployment", "sinkbinding", "containersource", "sidecar", "native-sidecar"],
}
# Components that are parts of overlays and rendered there.
PARTS = {"image", "positions-volume", "sidecar", "native-sidecar", "runbook-url"}
# What a controller adds to a container before it starts.
BY_KNATIVE = {"K_SINK": "http://broker-ingress.knative-eventing.svc/default/default", "K_CE_OVERRIDES": ""}
# Starts that a build without the named feature refuses, and the words with which it says that it lacks the feature. Any
# other refusal fails; where the build has the feature, the start counts.
MAY_REFUSE = {
    "dead-letter": ("DEAD_LETTER_SINK.*not in this version", "this build has no dead-letter sink"),
    "private-ca-variable": ("K_CA_CERTS.*not in this version", "this build does not read K_CA_CERTS"),
    "replace/integration-source/source": ("TABLE is not set", "this build does not know IntegrationSource's variables"),
    "replace/triggermesh/source": ("TABLE is not set", "this build does not know AWSDynamoDBSource's variables"),
}


def cases(root):
    """Names and renderers of everything that is checked."""
    for name, kustomization in texts.kustomizations(root):
        if kustomization["kind"] == "Kustomization":
            yield f"manifests/{name}", name, (lambda name=name: render(root / name))
        elif name.removeprefix("components/") not in PARTS:
            component = name.removeprefix("components/")
            for overlay in ON.get(component, ["deployment"]):
                yield (f"manifests/overlays/{overlay} with {name}", component,
                       lambda overlay=overlay, component=component:
                       render_together(root, f"overlays/{overlay}", [component]))
    yield ("manifests/components/prometheus-rule with components/runbook-url", "components/runbook-url",
           lambda: render_together(root, "overlays/monitoring", ["runbook-url"]))
    everything = ["irsa", "assume-role", "private-ca", "oidc-token", "service-monitor", "keda-consumer", "network-policy"]
    yield "everything on one Deployment", "", lambda: render_together(root, "overlays/deployment", everything)
    without_volume = ["positions-table", *everything]
    yield ("everything on one Deployment without a volume", "",
           lambda: render_together(root, "overlays/deployment", without_volume))
    for overlay in ("deployment", "sinkbinding", "containersource", "sidecar", "native-sidecar"):
        yield f"a second manifests/overlays/{overlay}", "", lambda overlay=overlay: render_second(root, overlay)


    for name, text in texts.all_examples(REPOSITORY):
        yield f"the example {name}", "", lambda name=name, text=text: render_example(root, name.split()[0], text)


def render_example(root, directory, text):
    """A kustomization from the documents, in its place beside the manifests; its image is the reader's own."""
    place = root.parent / directory
    place.mkdir(exist_ok=True)
    (place / "kustomization.yaml").write_text(text)
    objects = render(place)
    for image in parse(text)[0].get("images", []):
        for container in [*(container for *_, container in adapters(objects)), *scalers(objects)]:
            own = f"{image['newName']}:{image['newTag']}"
            container["image"] = texts.image(root) if container["image"] == own else f"{container['image']}, not {own}"
    return objects


def render_second(root, overlay):
    """One more adapter in the same namespace: names and labels of its own, another table."""
    return render_together(root, f"overlays/{overlay}", more={
        "namePrefix": "second-",
        "namespace": "shop",
        "labels": combinations.label_of_a_second(overlay),
        "configMapGenerator": [{
            "name": "dynamodb-streams-adapter", "behavior": "merge", "literals": ["TABLE=Customers"],
        }],
    })


class Starts:
    """Each environment is started once."""

    def __init__(self):
        self.known = {}

    def problems(self, variables, paths, arguments=()):
        key = (tuple(sorted(variables.items(), key=str)), tuple(sorted(paths)), tuple(arguments))
        if key not in self.known:
            self.known[key] = self.start(variables, paths, arguments)
        return self.known[key]

    @staticmethod
    def start(variables, paths, arguments):
        try:
            return start.problems(variables, paths, arguments)
        except start.Refused as refused:
            return refused
        except queue.Empty:
            return ["it neither listens nor ends"]


def check_case(report, subject, short, renderer, starts, root):
    """All checks of one rendering."""
    try:
        objects = renderer()
    except RenderError as error:
        report.check(subject, "render", [str(error)])
        return
    report.check(subject, "render", [] if objects else ["nothing comes out"])
    report.check(subject, "schema", [text for item in objects for text in schemas.problems(item)])
    report.check(subject, "references", references.problems(objects))
    report.check(subject, "image", list(images(objects, root, short)))
    report.check(subject, "metrics", list(unknown_metrics(objects)))
    report.check(subject, "pages", list(dead_pages(objects, short)))
    if list(scalers(objects)):
        report.check(subject, "pod security", restricted.problems(objects))
        check_scaler(report, subject, objects, starts)
    if list(adapters(objects)):
        report.check(subject, "pod security", restricted.problems(objects))
        report.check(subject, "process", process.problems(objects))
    for variables, paths in environments(objects, short):
        unknown, coming = environment.unknown(variables)
        report.check(subject, "variables", [f"the program knows no variable {name}" for name in unknown])
        for name in coming:
            report.check(subject, "variables", Ignored(f"this build does not know {name}, {environment.COMING[name]}"))
        if starts:
            check_start(report, subject, short, starts.problems(variables, paths))


def between_replicas(objects):
    """Replicas of the scaler call each other, and nobody else but KEDA calls them."""
    for item, template in pods(objects):
        if item["spec"].get("replicas", 1) < 2 or not any(name["name"] == SCALER for _, name in containers(template)):
            continue
        labels, ports = labels_of(template), port_names(template)
        namespace = item["metadata"].get("namespace", "default")
        other, strange = Peer("another replica", namespace, labels), Peer("another pod", namespace, {"app": "other"})
        for policy in named(objects, "NetworkPolicy").values():
            if not matches(policy["spec"]["podSelector"], labels):
                continue
            for direction in ("Ingress", "Egress"):
                if not allows(policy, direction, other, "TCP", ports["scaler-grpc"], ports):
                    yield f"{direction} between replicas is not allowed by {policy['metadata']['name']}"
                if allows(policy, direction, strange, "TCP", ports["scaler-grpc"], ports):
                    yield f"{direction} of any pod is allowed by {policy['metadata']['name']}"


def check_scaler(report, subject, objects, starts):
    report.check(subject, "replicas", list(between_replicas(objects)))
    for container in scalers(objects):
        variables = environment.of_container(objects, container)
        unknown, _ = environment.unknown(variables)
        report.check(subject, "variables", [f"the program knows no variable {name}" for name in unknown])
        if starts:
            paths = {container[kind]["httpGet"]["path"] for kind in container if kind.endswith("Probe")}
            variables = {**variables, "SCALER_ADDRESS": "127.0.0.1:0"}
            check_start(report, subject, "scaler", starts.problems(variables, paths, container["args"]))


def check_start(report, subject, short, result):
    if isinstance(result, start.Refused):
        words, lacks = MAY_REFUSE.get(short, ("(?!)", ""))
        result = Ignored(lacks) if re.search(words, str(result)) else [f"does not start: {result}"]
    report.check(subject, "start", result)


def images(objects, root, short):
    ours = texts.image(root)
    for item, _, _, container in adapters(objects):
        if container["image"] != ours:
            yield f"{item['kind']} {item['metadata']['name']} runs {container['image']}, and the one place says {ours}"
    for item, template in pods(objects):
        for container in template["spec"].get("initContainers", []) + template["spec"].get("containers", []):
            is_scaler = container["name"] == SCALER and container["image"] == ours and container["args"] == [SCALER]
            allowed = container["name"] == CONTAINER or is_scaler or container.get("image") in ("your-application", None)
            if not allowed:
                yield f"a second image, {container['image']}"
    text = str(objects)
    if texts.PLACEHOLDER in text.replace(ours, ""):
        yield f"the placeholder {texts.PLACEHOLDER} is left"
    if short in ("replace/integration-source/image", "replace/triggermesh/image") and ours not in text:
        yield f"the controller is not told of {ours}"


def unknown_metrics(objects):
    """Queries name metrics that the program has."""
    known = (REPOSITORY / "docs/metrics.md").read_text()
    for name in set(re.findall(r"dynamodb_streams_adapter_(\w+)", str(objects))):
        if f"`{name}`" not in known and f"`{re.sub('_(bucket|sum|count)$', '', name)}`" not in known:
            yield f"there is no metric dynamodb_streams_adapter_{name}"


def dead_pages(objects, short):
    """Each alert names a page that is there, and has an address where one was given, or none."""
    for rule in named(objects, "PrometheusRule").values():
        for alert in (each for group in rule["spec"]["groups"] for each in group["rules"]):
            annotations = alert["annotations"]
            if not (REPOSITORY / annotations["runbook"]).is_file():
                yield f"alert {alert['alert']} names {annotations['runbook']}, which is not there"
            wanted = f"https://git.example.org/dynamodb-streams-adapter/blob/main/{annotations['runbook']}"
            if annotations.get("runbook_url") != (wanted if short == "components/runbook-url" else None):
                yield f"alert {alert['alert']} has the address {annotations.get('runbook_url')}"


def environments(objects, short):
    """Variables of each of our containers as it starts, and the paths that are asked of it."""
    for item, _, _, container in adapters(objects):
        variables = environment.of_container(objects, container)
        bound = {binding["spec"]["subject"]["name"] for binding in named(objects, "SinkBinding").values()}
        if item["kind"] == "ContainerSource" or item["metadata"]["name"] in bound or short == "base":
            variables = {**BY_KNATIVE, **variables}
        paths = {container[kind]["httpGet"]["path"] for kind in container if kind.endswith("Probe")}
        yield variables, paths | {endpoint for endpoint in scraped(objects)}
    for source in named(objects, "IntegrationSource").values():
        yield environment.of_integration_source(source), {"/q/health/ready", "/q/health/live", "/q/health/started"}
    for source in named(objects, "AWSDynamoDBSource").values():
        yield environment.of_dynamodb_source(source), {"/health"}


def scraped(objects):
    for kind, field in (("ServiceMonitor", "endpoints"), ("PodMonitor", "podMetricsEndpoints")):
        for monitor in named(objects, kind).values():
            for endpoint in monitor["spec"][field]:
                yield endpoint["path"]


def rendered_for_readers(root):
    """Overlays and examples by their names, as a reader has them."""
    made = {f"manifests/{name}": render(root / name) for name, _ in texts.kustomizations(root)
            if name.startswith(("overlays/", "scaler"))}
    for name, text in texts.all_examples(REPOSITORY):
        directory = name.split()[0]
        try:
            made.setdefault(directory, []).extend(render_example(root, directory, text))
        except RenderError:
            continue  # reported as a case of its own
    return made


def check_broken(report, root, wanted, with_start):
    """The checks of one case, on manifests that were broken on purpose."""
    whole = {"iam": lambda: iam.check(report, root, REPOSITORY), "patches": lambda: patches.check(report, root),
             "terraform": lambda: terraform.check(report, root),
             "texts": lambda: texts.check(report, root, REPOSITORY),
             "commands": lambda: commands.check(report, root, REPOSITORY, rendered_for_readers(root))}
    if wanted in whole:
        whole[wanted]()
        return
    if wanted == "combinations of the scaler":
        combinations.check_scaler(report, root)
        return
    if wanted.startswith("combinations of "):
        combinations.check(report, root, wanted.rpartition(" ")[2])
        return
    name = wanted.removeprefix("components/")
    subject, short, renderer = next(case for case in cases(root) if case[1] in (name, wanted))
    check_case(report, subject, short, renderer, Starts() if with_start else None, root)


def main():
    report, starts = Report(), Starts()
    # A copy, because a reader's kustomization, which is made beside it, must not lie in the repository.
    with tempfile.TemporaryDirectory() as directory:
        root = breaks.copy(REPOSITORY, pathlib.Path(directory))
        for subject, short, renderer in cases(root):
            check_case(report, subject, short, renderer, starts, root)
        patches.check(report, root)
        iam.check(report, root, REPOSITORY)
        terraform.check(report, root)
        texts.check(report, root, REPOSITORY)
        for_readers = rendered_for_readers(root)
        commands.check(report, root, REPOSITORY, for_readers)
        combinations.check_endpoints(report, for_readers.get("orders-endpoints", []))
        combinations.check(report, root)
        combinations.check_scaler(report, root)
    breaks.check(report, check_broken)
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
