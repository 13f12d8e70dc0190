"""Kubernetes' pod security standard `restricted`, and what this project asks beyond it.

Source: https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from objects import adapters, containers

VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}


def problems(objects):
    """What is wrong with pods that have the adapter in them."""
    found = []
    for _, template, _, container in adapters(objects):
        found += of_pod(template)
        for _, each in containers(template):
            found += [f"container {each['name']}: {text}" for text in of_container(template, each)]
        found += [f"container {container['name']}: {text}" for text in of_adapter(template, container)]
    return found


def of_pod(template):
    spec = template["spec"]
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            yield f"{field} is not allowed"
    for volume in spec.get("volumes", []):
        for kind in set(volume) - {"name"} - VOLUMES:
            yield f"volume {volume['name']}: {kind} is not allowed"
    if spec.get("securityContext", {}).get("runAsUser") == 0:
        yield "runs as root"
    if spec.get("securityContext", {}).get("sysctls"):
        yield "sysctls are not allowed"


def of_container(template, container):
    pod = template["spec"].get("securityContext", {})
    own = container.get("securityContext", {})
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    if "ALL" not in own.get("capabilities", {}).get("drop", []):
        yield "capabilities.drop lacks ALL"
    if set(own.get("capabilities", {}).get("add", [])) - {"NET_BIND_SERVICE"}:
        yield "capabilities.add is not allowed"
    if own.get("runAsNonRoot", pod.get("runAsNonRoot")) is not True:
        yield "runAsNonRoot is not true"
    if own.get("runAsUser", pod.get("runAsUser")) == 0:
        yield "runs as root"
    if own.get("seccompProfile", pod.get("seccompProfile", {})).get("type") not in ("RuntimeDefault", "Localhost"):
        yield "seccompProfile is not RuntimeDefault"
    if own.get("privileged"):
        yield "privileged is not allowed"
    if own.get("procMount", "Default") != "Default":
        yield "procMount is not allowed"
    if any(port.get("hostPort") for port in container.get("ports", [])):
        yield "hostPort is not allowed"


# What the process takes beyond BUFFER_MEMORY at most: see "Memory" in docs/performance.md.
BEYOND_BUFFER = 64


def mebibytes(quantity):
    """A quantity of Kubernetes, or a size of the adapter's."""
    units = {"Mi": 1, "MiB": 1, "Gi": 1024, "GiB": 1024}
    unit = next(unit for unit in ("MiB", "GiB", "Mi", "Gi") if quantity.endswith(unit))
    return int(quantity.removesuffix(unit)) * units[unit]


def buffer_mebibytes(container):
    values = {one["name"]: one.get("value") for one in container.get("env", [])}
    return mebibytes(values.get("BUFFER_MEMORY") or "64MiB")


def of_adapter(template, container):
    """Beyond the standard."""
    own = container.get("securityContext", {})
    if own.get("readOnlyRootFilesystem") is not True:
        yield "readOnlyRootFilesystem is not true"
    if template["spec"].get("automountServiceAccountToken") is not False:
        yield "automountServiceAccountToken is not false, and it needs nothing of the Kubernetes API"
    resources = container.get("resources", {})
    if not {"cpu", "memory"} <= set(resources.get("requests", {})):
        yield "resources.requests lacks cpu or memory"
    if "memory" not in resources.get("limits", {}):
        yield "resources.limits lacks memory"
    elif mebibytes(resources["limits"]["memory"]) < buffer_mebibytes(container) + BEYOND_BUFFER:
        yield f"resources.limits.memory is less than BUFFER_MEMORY and {BEYOND_BUFFER}Mi"
