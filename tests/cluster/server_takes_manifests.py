"""A real API server takes what tests/manifests renders, checked as strictly as it can and without keeping it: every combination of
components on every overlay, the scaler, and a sidecar on a Deployment that somebody else has applied."""

import pathlib
import subprocess
import sys

import yaml

import combinations
from objects import named
from render import render
from report import Report

ROOT = pathlib.Path("manifests").resolve()
# An application's own Deployment, in the update strategy that the server gives it.
APPLICATION = {
    "apiVersion": "apps/v1", "kind": "Deployment",
    "metadata": {"name": "orders", "namespace": combinations.NAMESPACE, "labels": {"app.kubernetes.io/name": "orders"}},
    "spec": {
        "selector": {"matchLabels": {"app.kubernetes.io/name": "orders"}},
        "template": {
            "metadata": {"labels": {"app.kubernetes.io/name": "orders"}},
            "spec": {"terminationGracePeriodSeconds": 300, "containers": [{"name": "orders", "image": "theirs"}]},
        },
    },
}


def apply(objects, *flags):
    """What the server says against it; nothing if it takes it."""
    command = ["kubectl", "apply", "--server-side", "--validate=strict", *flags, "-f", "-"]
    done = subprocess.run(command, input=yaml.safe_dump_all(objects), capture_output=True, text=True, timeout=120)
    return [] if done.returncode == 0 else done.stderr.strip().splitlines()


def check_combinations(report):
    for overlay in combinations.OVERLAYS:
        found = list(combinations.combinations(overlay))
        for part in combinations.parts(found):
            for components, first, second in combinations.rendered(ROOT, overlay, part):
                subject = f"manifests/overlays/{overlay} with {', '.join(components) or 'nothing'}, and a second one"
                report.check(subject, "the API server", apply(first + second, "--dry-run=server"))


def check_sidecars(report):
    """As Flux, Argo CD and Helm 4 do it: one field manager, first without and then with the adapter."""
    for overlay in combinations.SIDECARS:
        manager = f"--field-manager=owner-of-{overlay}"
        problems = apply([APPLICATION], manager)
        added = render(ROOT / "overlays" / overlay)
        ours = named(added, "Deployment")["orders"]["spec"]["template"]["spec"]
        ours["terminationGracePeriodSeconds"] = APPLICATION["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        problems += apply(added, manager, "--namespace", combinations.NAMESPACE)
        report.check(f"manifests/overlays/{overlay} onto an existing Deployment", "the API server", problems)
        subprocess.run(["kubectl", "delete", "deployment", "orders", "--namespace", combinations.NAMESPACE], check=True, capture_output=True)


def main():
    report = Report()
    check_combinations(report)
    check_sidecars(report)
    for scaler in ("scaler", "overlays/scaler-replicas"):
        report.check(f"manifests/{scaler}", "the API server", apply(render(ROOT / scaler), "--dry-run=server"))
    # A server that takes everything would prove nothing.
    broken = {**APPLICATION, "spec": {**APPLICATION["spec"], "strategy": {"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}}}
    report.check("Recreate with rollingUpdate", "is refused", [] if apply([broken], "--dry-run=server") else ["the server took it"])
    unknown = {**APPLICATION, "spec": {**APPLICATION["spec"], "replica": 1}}
    report.check("an unknown field", "is refused", [] if apply([unknown], "--dry-run=server") else ["the server took it"])
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
