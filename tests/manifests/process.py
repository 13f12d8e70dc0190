"""How the pod ends, what its probes ask, and where its positions go."""

import pathlib

import environment
from objects import adapters, named, port_names


# What leaves a claim alone when the application is deleted or an object leaves its source.
# Sources: Argo CD, "Sync Options"; Flux, "Kustomization", "Controlling the apply behavior of resources"; Helm, "Chart Development Tips and Tricks".
KEPT = {"argocd.argoproj.io/sync-options": "Prune=false,Delete=false", "kustomize.toolkit.fluxcd.io/prune": "disabled",
        "helm.sh/resource-policy": "keep"}


def problems(objects):
    found = [f"the claim {name} is pruned with the application, and the positions with it: {annotation} is not {value}"
             for name, claim in named(objects, "PersistentVolumeClaim").items() for annotation, value in KEPT.items()
             if claim["metadata"].get("annotations", {}).get(annotation) != value]
    for item, template, field, container in adapters(objects):
        variables = environment.of_container(objects, container)
        rules = [ending(template, variables), probes(field, template, container, variables),
                 one_process(item, variables), positions(template, container, variables), sidecar(field, container),
                 memory(container, variables)]
        found += [text for rule in rules for text in rule]
    return found


def ending(template, variables):
    """The pod is killed before positions are stored if its time is shorter than the program's own."""
    grace = template["spec"].get("terminationGracePeriodSeconds", 30)
    needed = environment.seconds(variables.get("SHUTDOWN_TIMEOUT") or environment.default_of("SHUTDOWN_TIMEOUT"))
    if grace <= needed:
        yield f"terminationGracePeriodSeconds {grace} is not more than SHUTDOWN_TIMEOUT {needed:g}s: killed while it drains"


def probes(field, template, container, variables):
    """Which probes there are, and that each asks the port that is served."""
    listens = (variables.get("HTTP_ADDRESS") or environment.default_of("HTTP_ADDRESS")).rpartition(":")[2]
    for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = container.get(kind, {}).get("httpGet")
        if asked:
            port = port_names(template).get(asked["port"], asked["port"])
            if str(port) != listens:
                yield f"{kind} asks port {asked['port']}, and the adapter listens at {listens}"
    if "livenessProbe" not in container:
        yield "no livenessProbe: a process that cannot recover stays"
    elif container["livenessProbe"]["httpGet"]["path"] not in ("/livez", "/healthz"):
        yield "livenessProbe asks more than whether the process lives: it is restarted when AWS or the sink is away"
    if "startupProbe" in container:
        yield "a startupProbe restarts the pod for as long as AWS refuses, which repairs nothing"
    beside = len(template["spec"]["containers"]) + (field == "initContainers") > 1
    if beside and "readinessProbe" in container:
        yield "a readinessProbe of a sidecar takes the application out of its Service when AWS refuses"
    if not beside and "readinessProbe" not in container:
        yield "no readinessProbe: nobody sees that it waits"


def one_process(item, variables):
    """Two processes deliver everything twice, and one file of positions has one owner; a table has leases for several."""
    if variables.get("CHECKPOINT_STORE", "").startswith("dynamodb:"):
        yield from owner_and_waiting(item)
        return
    if item["kind"] != "Deployment":
        if variables.get("CHECKPOINT_STORE", "").startswith("file:"):
            yield f"{item['kind']} starts a new pod before the old one ends, and one file of positions has one owner"
        return
    if item["spec"].get("replicas") != 1:
        yield "replicas is not 1: each replica would deliver everything"
    if not ends_the_old_pod_first(item["spec"].get("strategy", {})):
        yield "strategy does not end the old pod first: the new pod waits for the old one's positions for ever"


def ends_the_old_pod_first(strategy):
    """`Recreate`, or a rolling update that may not have a pod more, and may have one less."""
    rolling = strategy.get("rollingUpdate") or {}
    return strategy.get("type") == "Recreate" or (
        strategy.get("type") == "RollingUpdate" and rolling.get("maxSurge") == 0 and rolling.get("maxUnavailable") == 1)


# docs/performance.md: the most that is resident, beside BUFFER_MEMORY, with the image's allocator.
BESIDE_THE_BUFFER = 64 << 20


def memory(container, variables):
    """The request covers what is measured while it drains, so that no other pod's need evicts it first; the limit has room."""
    needed = environment.size(variables.get("BUFFER_MEMORY") or environment.default_of("BUFFER_MEMORY")) + BESIDE_THE_BUFFER
    resources = container.get("resources", {})
    if environment.size(resources.get("requests", {}).get("memory", "0Mi")) < needed:
        yield f"resources.requests.memory is below BUFFER_MEMORY and 64MiB, {needed >> 20}Mi: it is evicted first, while it drains"
    if "limits" in resources and environment.size(resources["limits"]["memory"]) < needed + BESIDE_THE_BUFFER:
        yield f"resources.limits.memory is below BUFFER_MEMORY and 128MiB: it is killed when pages weigh more than expected"


def owner_and_waiting(item):
    """The next pod is there, waiting, before the one that owns the table ends, and no volume binds either to a node."""
    if item["kind"] != "Deployment":
        return
    strategy = item["spec"].get("strategy", {})
    if strategy.get("type") != "RollingUpdate" or strategy.get("rollingUpdate", {}).get("maxUnavailable") != 0:
        yield "strategy is not RollingUpdate without unavailable pods: nothing is read until the next pod runs"
    for volume in item["spec"]["template"]["spec"].get("volumes", []):
        if "persistentVolumeClaim" in volume:
            yield f"volume {volume['name']} binds the pod to a node, and the positions are in a table"


def positions(template, container, variables):
    """The file of positions must be on a volume that outlives the pod and that the process may write."""
    store = variables.get("CHECKPOINT_STORE", "")
    if not store.startswith("file:"):
        return
    parents = {str(parent) for parent in pathlib.PurePosixPath(store.removeprefix("file:")).parents}
    mounts = [mount for mount in container.get("volumeMounts", []) if mount["mountPath"] in parents]
    volumes = {volume["name"]: volume for volume in template["spec"].get("volumes", [])}
    if not mounts:
        yield f"CHECKPOINT_STORE {store} is on no volume: the root file system is read-only"
    for mount in mounts:
        if mount.get("readOnly"):
            yield f"the volume of CHECKPOINT_STORE {store} is mounted read-only"
        if "persistentVolumeClaim" not in volumes[mount["name"]]:
            yield f"the volume of CHECKPOINT_STORE {store} does not outlive the pod"
    if "fsGroup" not in template["spec"].get("securityContext", {}):
        yield "no fsGroup: most volumes cannot be written by a process that is not root"


def sidecar(field, container):
    if field == "initContainers" and container.get("restartPolicy") != "Always":
        yield "an init container without restartPolicy Always never ends, and the application never starts"
