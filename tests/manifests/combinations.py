"""Every combination of components on every overlay, twice in one namespace: as it is, and as a second adapter with a name prefix and
a label of its own. What is rendered is evaluated: each selector chooses what it means and only that, each pod is scraped once.

Components that add objects or change labels are combined in full; of those that only add variables, volumes and annotations each
combination has the next in turn. `COMBINATIONS=all` combines those in full as well: seventeen times as many.
"""

import itertools
import os
import pathlib
import re
import shutil
import tempfile

import yaml

from network import Peer, allows
from objects import adapters, labels_of, matches, named, pods, port_names
from render import render

OVERLAYS = ("deployment", "sinkbinding", "containersource", "sidecar", "native-sidecar")
SIDECARS = ("sidecar", "native-sidecar")
NAMESPACE = "shop"
ALL = os.environ.get("COMBINATIONS") == "all"
# Components of which a kustomization has one of a line, and whether the overlay's kind can have them.
OBJECTS = {
    "deployment": [[None, "service-monitor", "pod-monitor"], [None, "network-policy"], [None, "positions-table"],
                   [None, "keda-consumer"], [None, "prometheus-rule"]],
    "containersource": [[None, "pod-monitor"], [None, "network-policy"], [None, "positions-table"],
                        [None, "keda-consumer"], [None, "prometheus-rule"]],
    "sidecar": [[None, "sidecar-monitor"], [None, "positions-table"], [None, "keda-consumer"], [None, "prometheus-rule"]],
}
OBJECTS |= {"sinkbinding": OBJECTS["deployment"], "native-sidecar": OBJECTS["sidecar"]}
IDENTITIES = [[], ["irsa"], ["pod-identity"], ["credentials-secret"], ["irsa", "assume-role"]]
# Variables and volumes: Knative brings the second and third itself.
OTHERS = [[], ["dead-letter"], ["private-ca"], ["private-ca-variable", "oidc-token"], ["private-ca", "oidc-token", "dead-letter"]]
OTHERS_UNDER_KNATIVE = [[], ["dead-letter"]]

DNS = Peer("DNS", "kube-system", {"k8s-app": "kube-dns"})
BROKER = Peer("a broker", "knative-eventing", {"app": "mt-broker-ingress"})
SINK = Peer("a sink beside it", NAMESPACE, {"app": "orders-service"})
ELSEWHERE = Peer("a pod elsewhere", "other", {"app": "other"})
PROMETHEUS = Peer("Prometheus", "monitoring", {"app.kubernetes.io/name": "prometheus"})
# Peer, protocol, port, whether an adapter may talk to it.
WAYS_OUT = [
    (DNS, "UDP", 53, True), (DNS, "TCP", 53, True), (DNS._replace(namespace="other"), "UDP", 53, False),
    (Peer("another pod of kube-system", "kube-system", {"k8s-app": "other"}), "UDP", 53, False),
    (Peer("AWS", address="52.94.24.1"), "TCP", 443, True), (Peer("AWS", address="2600:1f18::1"), "TCP", 443, True),
    (Peer("a VPC endpoint", address="10.0.3.17"), "TCP", 443, True),
    (Peer("the node's credentials", address="169.254.169.254"), "TCP", 80, False),
    (Peer("the node's credentials", address="169.254.169.254"), "TCP", 443, False),
    (Peer("the node's credentials", address="fd00:ec2::254"), "TCP", 80, False),
    (Peer("Pod Identity", address="169.254.170.23"), "TCP", 80, True),
    (Peer("Pod Identity", address="fd00:ec2::23"), "TCP", 80, True),
    (SINK, "TCP", 8080, True), (ELSEWHERE, "TCP", 8080, False), (BROKER, "TCP", 8080, True), (BROKER, "TCP", 8443, True),
]
# The same of the scaler, which calls nobody's sink.
SCALERS_WAYS_OUT = [way for way in WAYS_OUT if way[0] not in (SINK, BROKER)]
KEDA = Peer("KEDA's operator", "keda", {"app": "keda-operator"})
WAYS_IN = [(PROMETHEUS, True), (ELSEWHERE, False), (SINK, False)]


def combinations(overlay):
    """Lists of components."""
    others = OTHERS_UNDER_KNATIVE if overlay in ("sinkbinding", "containersource") else OTHERS
    rest = list(itertools.product(IDENTITIES, others))
    turn = itertools.cycle(rest)
    for objects in itertools.product(*OBJECTS[overlay]):
        for identity, other in rest if ALL else [next(turn)]:
            yield [name for name in objects if name] + identity + other


def as_it_is(up, overlay, components):
    return {"namespace": NAMESPACE, "resources": [f"{up}/overlays/{overlay}"],
            "components": [f"{up}/components/{name}" for name in components]}


def as_a_second(up, overlay, components):
    """What docs/deploy.md says for a second one; a second sidecar is that of another application, in a copy of the overlay."""
    made = as_it_is(up, overlay, components)
    if overlay in SIDECARS:
        return {**made, "resources": ["../application"], "labels": label_of_a_second(overlay)}
    return {**made, "namePrefix": "second-", "labels": label_of_a_second(overlay)}


def label_of_a_second(overlay):
    if overlay not in SIDECARS:
        return [{"pairs": {"app.kubernetes.io/instance": "second"}, "includeSelectors": True}]
    return [{"pairs": {"dynamodb-streams-adapter-instance": "second"}, "includeTemplates": True}]


def copy_for_another_application(overlay, folder):
    """The overlay of a reader's own, who has put another Deployment into it."""
    shutil.copytree(overlay, folder)
    kustomization = folder / "kustomization.yaml"
    kustomization.write_text(kustomization.read_text().replace("../../", "../../manifests/"))
    application = folder / "application.yaml"
    text = re.sub(r"\borders\b", "customers", application.read_text())
    # It has volumes of its own.
    application.write_text(text.replace("        runAsNonRoot: true\n", "        runAsNonRoot: true\n        fsGroup: 2000\n", 1))


def check(report, root, only=None):
    """Of all overlays, or of the one named; returns how many combinations were evaluated."""
    evaluated = 0
    for overlay in OVERLAYS:
        if only and overlay != only:
            continue
        found = list(combinations(overlay))
        evaluated += 2 * len(found)
        for components, first, second in itertools.chain.from_iterable(rendered(root, overlay, part) for part in parts(found)):
            subject = f"manifests/overlays/{overlay} with {', '.join(components) or 'nothing'}, and a second one"
            report.check(subject, "selectors", list(problems(first, second)))
    if not only:
        print(f"{evaluated} combinations of components were rendered and evaluated")
    return evaluated


def parts(found):
    """Kustomize takes more than twice the time for twice the objects."""
    return [found[at:at + 8] for at in range(0, len(found), 8)]


def rendered(root, overlay, found):
    """Several combinations by one call of kustomize, each adapter in a namespace of its own for that."""
    with tempfile.TemporaryDirectory(dir=root.parent, prefix=".manifests-test-") as directory:
        here = pathlib.Path(directory)
        if overlay in SIDECARS:
            copy_for_another_application(root / "overlays" / overlay, here / "application")
        folders = []
        for number, components in enumerate(found):
            for kind, make in (("first", as_it_is), ("second", as_a_second)):
                folder = here / f"{kind}-{number}"
                folder.mkdir()
                made = {**make("../../manifests", overlay, components), "namespace": folder.name}
                (folder / "kustomization.yaml").write_text(yaml.safe_dump(made))
                folders.append(f"./{folder.name}")
        (here / "kustomization.yaml").write_text(yaml.safe_dump({"resources": folders}))
        everything = {}
        for item in render(here):
            everything.setdefault(item["metadata"].get("namespace"), []).append(item)
        for number, components in enumerate(found):
            yield components, *(in_namespace(everything[f"{kind}-{number}"]) for kind in ("first", "second"))


def in_namespace(objects):
    """The two adapters of a pair, in one namespace after all."""
    for item in objects:
        item["metadata"]["namespace"] = NAMESPACE
    return objects


def problems(first, second):
    """What is wrong with two adapters side by side."""
    both = {"the first": pods_of(first), "the second": pods_of(second)}
    for who, objects, others in (("the first", first, both["the second"]), ("the second", second, both["the first"])):
        for text in of_one(objects, both[who], others):
            yield f"{who}: {text}"
    yield from scraped_once(first + second, both)
    claims = [set(named(objects, "PersistentVolumeClaim")) for objects in (first, second)]
    for shared in claims[0] & claims[1]:
        yield f"both keep positions on the claim {shared}"


def pods_of(objects):
    """Pod templates of the adapter, by the names of what has them."""
    return {item["metadata"]["name"]: template for item, template, _, _ in adapters(objects)}


def of_one(objects, own, others):
    yield from meant(objects, own, others)
    yield from network(objects, own, others)
    yield from named_objects(objects)
    yield from merges(objects)


def meant(objects, own, others):
    """Services, Deployments and spread constraints choose their own pods and no other's."""
    def chosen(selector):
        return {name for name, each in own.items() if matches(selector, labels_of(each))}

    def strangers(selector):
        return [name for name, each in others.items() if matches(selector, labels_of(each))]

    selectors = [(f"Service {name}", {"matchLabels": each["spec"]["selector"]}) for name, each in named(objects, "Service").items()]
    for item, template in pods(objects):
        if "selector" in item["spec"]:
            selectors.append((f"{item['kind']} {item['metadata']['name']}", item["spec"]["selector"]))
        for spread in template["spec"].get("topologySpreadConstraints", []):
            selectors.append((f"topologySpreadConstraints of {item['metadata']['name']}", spread["labelSelector"]))
    for what, selector in selectors:
        if chosen(selector) != set(own):
            yield f"{what} chooses {chosen(selector) or 'no pod'}, not {set(own)}"
        if strangers(selector):
            yield f"{what} chooses the other adapter's pod too"


def scraped_once(objects, both):
    """Prometheus has one target for each pod, whoever's monitor leads to it."""
    services = named(objects, "Service").values()
    monitors = [item for item in objects if item["kind"] in ("ServiceMonitor", "PodMonitor")]
    if not monitors:
        return
    for who, own in both.items():
        for name, template in own.items():
            labels, targets = labels_of(template), []
            for monitor in monitors:
                selector = monitor["spec"]["selector"]
                if monitor["kind"] == "PodMonitor":
                    targets += [monitor["metadata"]["name"]] * matches(selector, labels)
                    continue
                for service in services:
                    leads = matches({"matchLabels": service["spec"]["selector"]}, labels)
                    if leads and matches(selector, service["metadata"].get("labels", {})):
                        targets.append(f"{monitor['metadata']['name']} by Service {service['metadata']['name']}")
            if len(targets) != 1:
                yield f"the pod {name} of {who} is scraped {len(targets)} times: {targets}"


def network(objects, own, others):
    for name, policy in named(objects, "NetworkPolicy").items():
        selector = policy["spec"]["podSelector"]
        if not all(matches(selector, labels_of(each)) for each in own.values()):
            yield f"NetworkPolicy {name} does not protect its adapter"
        if any(matches(selector, labels_of(each)) for each in others.values()):
            yield f"NetworkPolicy {name} binds the other adapter's pod"
        if matches(selector, SINK.labels):
            yield f"NetworkPolicy {name} binds other pods of the namespace"
        yield from wrong_ways(name, policy, WAYS_OUT)
        for template in own.values():
            ports = port_names(template)
            for peer, wanted in WAYS_IN:
                if allows(policy, "Ingress", peer, "TCP", ports["adapter-http"], ports) != wanted:
                    yield f"NetworkPolicy {name} {'keeps' if wanted else 'lets'} {peer.name} {'from' if wanted else 'to'} the metrics"


def check_scaler(report, root):
    """The scaler with a label and a prefix of the reader's: KEDA and Prometheus still reach it, and it reaches AWS."""
    for place in ("scaler", "overlays/scaler-replicas"):
        with tempfile.TemporaryDirectory(dir=root.parent, prefix=".manifests-test-") as directory:
            made = {"resources": [f"../manifests/{place}"], "namePrefix": "second-",
                    "labels": [{"pairs": {"team": "shop"}, "includeSelectors": True}]}
            (pathlib.Path(directory) / "kustomization.yaml").write_text(yaml.safe_dump(made))
            objects = list(render(pathlib.Path(directory)))
        report.check(f"manifests/{place} with a label", "selectors", list(of_scaler(objects)))


def of_scaler(objects):
    yield from named_objects(objects)
    own = [(item, template) for item, template in pods(objects)]
    for name, service in named(objects, "Service").items():
        if not all(matches({"matchLabels": service["spec"]["selector"]}, labels_of(template)) for _, template in own):
            yield f"Service {name} does not choose the scaler"
    for name, policy in named(objects, "NetworkPolicy").items():
        yield from wrong_ways(name, policy, SCALERS_WAYS_OUT)
        for _, template in own:
            ports = port_names(template)
            if not matches(policy["spec"]["podSelector"], labels_of(template)):
                yield f"NetworkPolicy {name} does not protect the scaler"
            ways = [(KEDA, "scaler-grpc", True), (KEDA._replace(namespace="other"), "scaler-grpc", False),
                    (PROMETHEUS, "scaler-http", True), (PROMETHEUS, "scaler-grpc", False), (ELSEWHERE, "scaler-grpc", False)]
            for peer, port, wanted in ways:
                if allows(policy, "Ingress", peer, "TCP", ports[port], ports) != wanted:
                    yield f"NetworkPolicy {name} {'keeps' if wanted else 'lets'} {peer.name} {'from' if wanted else 'to'} {port}"


# What the example of docs/deploy.md with VPC endpoints lets through: interface endpoints in two subnets, and the gateway's ranges.
ENDPOINTS = [
    (Peer("the endpoint of Streams", address="10.0.1.17"), "TCP", 443, True),
    (Peer("the endpoint of STS", address="10.0.2.17"), "TCP", 443, True),
    (Peer("DynamoDB by the gateway", address="52.94.25.1"), "TCP", 443, True),
    (Peer("another subnet", address="10.0.3.17"), "TCP", 443, False), (Peer("the internet", address="203.0.113.1"), "TCP", 443, False),
    (DNS, "UDP", 53, True), (Peer("Pod Identity", address="169.254.170.23"), "TCP", 80, True),
]


def check_endpoints(report, objects):
    """The example of docs/deploy.md with VPC endpoints."""
    policies = named(objects, "NetworkPolicy")
    report.check("the example orders-endpoints", "network", [] if policies else ["it has no policy"])
    for name, policy in policies.items():
        report.check("the example orders-endpoints", "network", list(wrong_ways(name, policy, ENDPOINTS)))


def wrong_ways(name, policy, ways):
    for peer, protocol, port, wanted in ways:
        if allows(policy, "Egress", peer, protocol, port) != wanted:
            yield f"NetworkPolicy {name} {'keeps' if wanted else 'lets'} the adapter {'from' if wanted else 'to'} {peer.name}"


def named_objects(objects):
    """Each object of ours can be found by the recommended label."""
    for item in objects:
        labels = item["metadata"].get("labels", {})
        if "app.kubernetes.io/name" not in labels:
            yield f"{item['kind']} {item['metadata']['name']} has no label app.kubernetes.io/name"


# An existing Deployment, as the server completes and keeps it.
LIVE = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}


def merges(objects):
    """Server-side apply onto a Deployment of somebody else's: what is not said stays, and the server checks the whole.

    Source: `ValidateDeploymentStrategy` in pkg/apis/apps/validation of Kubernetes.
    """
    for name, item in named(objects, "Deployment").items():
        if item["metadata"].get("labels", {}).get("dynamodb-streams-adapter") not in SIDECARS:
            continue
        asked = item["spec"].get("strategy", {})
        merged = {**LIVE, **asked, "rollingUpdate": {**LIVE["rollingUpdate"], **(asked.get("rollingUpdate") or {})}}
        if merged["type"] == "Recreate":
            yield f"Deployment {name}: the server refuses strategy.rollingUpdate beside Recreate, which the live object has"
        pod = item["spec"]["template"]["spec"]
        if "terminationGracePeriodSeconds" in pod:
            yield f"Deployment {name}: terminationGracePeriodSeconds is the application's to set"
        if "fsGroup" not in pod.get("securityContext", {}):
            yield f"Deployment {name}: fsGroup is taken out, and an application that has one cannot write its volumes any more"
