"""Does every name in the manifests lead somewhere?"""

from objects import containers, labels_of, matches, named, pods, port_names

# What the reader makes, as docs/deploy.md says with the command for it.
BY_THE_READER = {
    ("Secret", "dynamodb-streams-adapter-aws"),
    ("Secret", "my-secret"),
    ("ConfigMap", "dynamodb-streams-adapter-ca"),
}


def problems(objects):
    return list(in_pods(objects)) + list(in_selectors(objects)) + list(in_bindings(objects))


def in_pods(objects):
    for item, template in pods(objects):
        for kind, name in wanted(template):
            if name not in named(objects, kind) and (kind, name) not in BY_THE_READER:
                yield f"{item['kind']} {item['metadata']['name']} wants {kind} {name}, which nobody makes"
        declared = {volume["name"] for volume in template["spec"].get("volumes", [])}
        for _, container in containers(template):
            paths = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
            if len(paths) != len(set(paths)):
                yield f"container {container['name']} mounts two volumes at one path"
            for mount in container.get("volumeMounts", []):
                if mount["name"] not in declared:
                    yield f"container {container['name']} mounts volume {mount['name']}, which the pod does not have"


def wanted(template):
    """Kind and name of all that a pod refers to."""
    spec = template["spec"]
    if "serviceAccountName" in spec:
        yield "ServiceAccount", spec["serviceAccountName"]
    for volume in spec.get("volumes", []):
        if "persistentVolumeClaim" in volume:
            yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"]
        if "secret" in volume:
            yield "Secret", volume["secret"]["secretName"]
    for _, container in containers(template):
        for source in container.get("envFrom", []):
            for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
                if field in source:
                    yield kind, source[field]["name"]
        for variable in container.get("env", []):
            source = variable.get("valueFrom", {})
            for field, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
                if field in source:
                    yield kind, source[field]["name"]


def in_selectors(objects):
    templates = [template for _, template in pods(objects)]
    for name, service in named(objects, "Service").items():
        chosen = [each for each in templates if matches({"matchLabels": service["spec"]["selector"]}, labels_of(each))]
        if not chosen:
            yield f"Service {name} selects no pod"
        for port in service["spec"]["ports"]:
            if any(port["targetPort"] not in port_names(each) for each in chosen):
                yield f"Service {name} leads to port {port['targetPort']}, which the pod does not have"
    for name, policy in named(objects, "NetworkPolicy").items():
        chosen = [each for each in templates if matches(policy["spec"]["podSelector"], labels_of(each))]
        if not chosen:
            yield f"NetworkPolicy {name} protects no pod"
        for rule in policy["spec"].get("ingress", []):
            for port in rule.get("ports", []):
                if any(port["port"] not in port_names(each) for each in chosen):
                    yield f"NetworkPolicy {name} lets port {port['port']} in, which the pod does not have"
    for name, monitor in named(objects, "ServiceMonitor").items():
        services = [each for each in named(objects, "Service").values()
                    if matches(monitor["spec"]["selector"], each["metadata"].get("labels", {}))]
        for endpoint in monitor["spec"]["endpoints"]:
            if not any(endpoint["port"] == port["name"] for each in services for port in each["spec"]["ports"]):
                yield f"ServiceMonitor {name} finds no Service with a port {endpoint['port']}: nothing is scraped"
    for name, monitor in named(objects, "PodMonitor").items():
        for endpoint in monitor["spec"]["podMetricsEndpoints"]:
            if not any(matches(monitor["spec"]["selector"], labels_of(each)) and endpoint["port"] in port_names(each)
                       for each in templates):
                yield f"PodMonitor {name} finds no pod with a port {endpoint['port']}: nothing is scraped"


def in_bindings(objects):
    for name, binding in named(objects, "SinkBinding").items():
        subject = binding["spec"]["subject"]
        if subject["name"] not in named(objects, subject["kind"]):
            yield f"SinkBinding {name} binds {subject['kind']} {subject['name']}, which is not there: K_SINK is never set"
    for name, scaled in named(objects, "ScaledObject").items():
        target = scaled["spec"]["scaleTargetRef"]["name"]
        if target in named(objects, "Deployment"):
            yield f"ScaledObject {name} scales {target}, which has the adapter in it: each replica would deliver everything"
