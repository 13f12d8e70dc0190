"""From a kustomization to objects."""

import os
import pathlib
import shlex
import subprocess
import tempfile

import yaml


class RenderError(Exception):
    """Kustomize, or the YAML reader, refuses it."""


class StrictLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """Refuses a key that comes twice in one mapping: kubectl would too, and YAML readers take the last in silence."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise RenderError(f"the key {key.value!r} comes twice, line {key.start_mark.line + 1}")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def parse(text):
    """The objects of a YAML text."""
    try:
        return [document for document in yaml.load_all(text, Loader=StrictLoader) if document is not None]
    except yaml.YAMLError as error:
        raise RenderError(str(error)) from error


def render(directory):
    """The objects that `kubectl apply -k` would send."""
    command = shlex.split(os.environ["KUSTOMIZE"]) + [str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise RenderError(done.stderr.strip())
    if "deprecated" in done.stderr:
        raise RenderError(done.stderr.strip())
    return parse(done.stdout)


def render_together(root, resource, components=(), more=None):
    """Renders what a reader's own kustomization would: an overlay, components on it, and further fields."""
    with tempfile.TemporaryDirectory(dir=root.parent, prefix=".manifests-test-") as directory:
        here = pathlib.Path(directory)
        up = os.path.relpath(root, here)
        kustomization = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [f"{up}/{resource}"],
            "components": [f"{up}/components/{name}" for name in components],
            **(more or {}),
        }
        (here / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        return render(here)
