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
