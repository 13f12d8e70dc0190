"""Would the API server take the object, and would it keep every field of it?"""

import copy
import pathlib

import jsonschema
import kubernetes_validate

from render import parse

# The oldest that has native sidecars, and a recent one.
KUBERNETES = ["1.29", "1.34"]
BUILT_IN_GROUPS = {"", "apps", "networking.k8s.io", "batch", "policy"}
# A patch of an object that somebody else owns has only the fields that it changes.
PARTIAL = {("Deployment", "triggermesh-controller")}
METADATA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"},
        "namespace": {"type": "string"},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
    },
    "required": ["name"],
    "additionalProperties": False,
}


def strict(schema):
    """The same schema, refusing unknown fields and knowing JSON Schema's words only."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {}
    for word, value in schema.items():
        if word in ("properties", "definitions"):
            made[word] = {name: strict(each) for name, each in value.items()}
        elif word not in ("description", "default", "example", "format") and not word.startswith("x-kubernetes"):
            made[word] = strict(value)
    keeps_unknown = schema.get("x-kubernetes-preserve-unknown-fields", False)
    if "properties" in made and "additionalProperties" not in made and not keeps_unknown:
        made["additionalProperties"] = False
    if schema.get("nullable") and isinstance(made.get("type"), str):
        made["type"] = [made["type"], "null"]
    made.pop("nullable", None)
    return made


def read_definitions():
    """Schemas of custom resources by API version and kind."""
    found = {}
    for path in sorted((pathlib.Path(__file__).parent / "crds").glob("*.yaml")):
        for definition in parse(path.read_text()):
            spec = definition["spec"]
            for version in spec["versions"]:
                schema = strict(version["schema"]["openAPIV3Schema"])
                schema["properties"].update(apiVersion={}, kind={}, metadata=METADATA)
                schema["properties"].pop("status", None)
                found[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = schema
    return found


DEFINITIONS = read_definitions()


def problems(item):
    """What is wrong with one object."""
    version, kind = item.get("apiVersion", ""), item.get("kind", "")
    group = version.rpartition("/")[0]
    if (kind, item["metadata"]["name"]) in PARTIAL:
        item = completed(item)
    if (version, kind) in DEFINITIONS:
        return list(of_custom(item, DEFINITIONS[version, kind]))
    if group in BUILT_IN_GROUPS:
        return [text for each in KUBERNETES for text in of_built_in(item, each)]
    return [f"no schema is known for {kind} of {version}; put its definition into tests/manifests/crds"]


def completed(item):
    """The patch with what every Deployment must have."""
    made = copy.deepcopy(item)
    made["spec"]["selector"] = {"matchLabels": {"app": "x"}}
    made["spec"]["template"].setdefault("metadata", {"labels": {"app": "x"}})
    return made


def of_built_in(item, kubernetes):
    try:
        kubernetes_validate.validate(item, kubernetes, strict=True)
    except kubernetes_validate.ValidationError as error:
        where = ".".join(str(each) for each in error.path)
        yield f"{item['kind']} {item['metadata']['name']}, Kubernetes {kubernetes}: {where}: {error.message}"
    except kubernetes_validate.SchemaNotFoundError:
        yield f"Kubernetes {kubernetes} has no {item['kind']} in {item['apiVersion']}"


def of_custom(item, schema):
    for error in jsonschema.Draft4Validator(schema).iter_errors(item):
        where = ".".join(str(each) for each in error.absolute_path)
        yield f"{item['kind']} {item['metadata']['name']}: {where}: {error.message[:300]}"
    template = item.get("spec", {}).get("template") if item["kind"] in ("ContainerSource", "IntegrationSource") else None
    if template:
        # The definition takes anything here; the controller makes a Deployment of it.
        made = copy.deepcopy(template)
        made.setdefault("metadata", {}).setdefault("labels", {"app": "x"})
        yield from (text for each in KUBERNETES for text in of_built_in(deployment_of(item, made), each))


def deployment_of(item, template):
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": item["metadata"]["name"]},
        "spec": {"selector": {"matchLabels": template["metadata"]["labels"]}, "template": template},
    }
