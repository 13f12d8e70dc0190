"""The two patches of objects that others own: they change one value and leave the rest, and they do what the command in
their header does."""

import copy
import os
import shutil
import subprocess
import tempfile

import yaml

import texts
from render import render
from report import Ignored

# The parts of the two objects that matter, as their projects install them.
IMAGES = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "eventing-integrations-images", "namespace": "knative-eventing"},
    "data": {"aws-ddb-streams-source": "theirs", "timer-source": "theirs"},
}
CONTROLLER = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "triggermesh-controller", "namespace": "triggermesh"},
    "spec": {
        "selector": {"matchLabels": {"app": "triggermesh-controller"}},
        "template": {
            "metadata": {"labels": {"app": "triggermesh-controller"}},
            "spec": {"containers": [{
                "name": "controller",
                "image": "theirs",
                "env": [{"name": "METRICS_DOMAIN", "value": "triggermesh.io"},
                        {"name": "AWSDYNAMODBSOURCE_IMAGE", "value": "theirs"}],
            }]},
        },
    },
}


def check(report, root):
    wanted = copy.deepcopy(IMAGES)
    wanted["data"]["aws-ddb-streams-source"] = texts.image(root)
    check_one(report, root, "replace/integration-source/image", IMAGES, wanted)
    wanted = copy.deepcopy(CONTROLLER)
    wanted["spec"]["template"]["spec"]["containers"][0]["env"][1]["value"] = texts.image(root)
    check_one(report, root, "replace/triggermesh/image", CONTROLLER, wanted)


def check_one(report, root, name, before, wanted):
    if not shutil.which("kubectl"):
        report.check(f"manifests/{name}", "patch", Ignored("kubectl is not installed"))
        return
    header = (root / name / "kustomization.yaml").read_text()
    after = patched(before, yaml.safe_dump_all(render(root / name)), "--type merge" in header)
    problems = [] if after == wanted else [f"the patched object is {after}, not {wanted}"]
    report.check(f"manifests/{name}", "patch", problems)


def patched(before, patch, is_merge):
    """What `kubectl patch` would make of the object, without a cluster."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file, tempfile.NamedTemporaryFile("w") as patch_file:
        yaml.safe_dump(before, file)
        file.flush()
        patch_file.write(patch)
        patch_file.flush()
        command = ["kubectl", "patch", "--local", "-f", file.name, "--patch-file", patch_file.name, "-o", "yaml"]
        command += ["--type", "merge"] if is_merge else []
        environment = {"KUBECONFIG": "/dev/null", "PATH": os.environ["PATH"]}
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
        return yaml.safe_load(done.stdout) if done.returncode == 0 else done.stderr
