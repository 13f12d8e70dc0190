"""Finding one's way in rendered objects."""

# The name that every container of the adapter has.
CONTAINER = "adapter"
# And that of the scaler for KEDA, which is the same image with an argument.
SCALER = "scaler"


def named(objects, kind):
    """Objects of a kind by their names."""
    return {item["metadata"]["name"]: item for item in objects if item["kind"] == kind}


def pods(objects):
    """Pod templates: the object that has it, and the template."""
    for item in objects:
        template = item.get("spec", {}).get("template") if isinstance(item.get("spec"), dict) else None
        if isinstance(template, dict) and "spec" in template:
            yield item, template


def containers(template):
    """All containers of a pod, with the field that each is in."""
    for field in ("initContainers", "containers"):
        for container in template["spec"].get(field, []):
            yield field, container


def adapters(objects):
    """Every container of ours: the object, the pod template, the field and the container."""
    for item, template in pods(objects):
        for field, container in containers(template):
            if container["name"] == CONTAINER:
                yield item, template, field, container


def scalers(objects):
    """Every container of the scaler."""
    for _, template in pods(objects):
        for _, container in containers(template):
            if container["name"] == SCALER:
                yield container


def matches(selector, labels):
    """Whether a label selector chooses these labels."""
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for wanted in selector.get("matchExpressions") or []:
        found = labels.get(wanted["key"])
        held = {
            "In": found in wanted.get("values", []),
            "NotIn": found not in wanted.get("values", []),
            "Exists": found is not None,
            "DoesNotExist": found is None,
        }
        if not held[wanted["operator"]]:
            return False
    return True


def labels_of(template):
    """The labels of a pod."""
    return template.get("metadata", {}).get("labels") or {}


def port_names(template):
    """Names of all container ports of a pod, with their numbers."""
    found = {}
    for _, container in containers(template):
        for port in container.get("ports", []):
            found[port.get("name")] = port["containerPort"]
    return found
