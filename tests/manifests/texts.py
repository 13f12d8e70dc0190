"""What can be seen in the files themselves: headers, the image's one place, and the paths that documents name."""

import re
import textwrap

import yaml

PLACEHOLDER = "adapter-image"
# What is generated or kept beside the alerts and dashboards begins as these do.
HEADERS = ("# For ", "# Adds ")


def kustomizations(root):
    """All directories that can be rendered, relative to the root, with their kind."""
    for path in sorted(root.rglob("kustomization.yaml")):
        yield path.parent.relative_to(root).as_posix(), yaml.safe_load(path.read_text())


def image(root):
    """Name and tag of the image, from its one place."""
    chosen = yaml.safe_load((root / "components/image/kustomization.yaml").read_text())["images"][0]
    return f"{chosen['newName']}:{chosen['newTag']}"


def check(report, root, repository):
    for name, _ in kustomizations(root):
        first = (root / name / "kustomization.yaml").read_text().splitlines()[0]
        report.check(f"manifests/{name}", "header", [] if first.startswith(HEADERS) else ["does not say for whom it is"])
    report.check("manifests", "image in one place", list(other_images(root)))
    version = re.search(r'^version = "(.+)"', (repository / "Cargo.toml").read_text(), re.MULTILINE).group(1)
    tag = image(root).rpartition(":")[2]
    report.check("manifests", "image tag", [] if tag == version else [f"the tag is {tag}, the program's version {version}"])
    for name in ("docs/deploy.md", "docs/security.md"):
        report.check(name, "paths", list(dead_paths(repository / name, repository)))
    report.check("docs/deploy.md", "complete", list(untold(root, (repository / "docs/deploy.md").read_text())))


def other_images(root):
    """Places outside the component that name the image itself."""
    name = image(root).rpartition(":")[0]
    for path in sorted(root.rglob("*.yaml")):
        if path.parent == root / "components/image":
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            found = re.search(r"^\s*-?\s*(?:image|newName|newTag|value|aws-ddb-streams-source):\s*(\S+)", line)
            if found and found.group(1).strip("\"'").rpartition("/")[2].split(":")[0] == name.rpartition("/")[2]:
                yield f"{path.relative_to(root)}:{number} names the image; use {PLACEHOLDER}"


def dead_paths(document, repository):
    for path in sorted(set(re.findall(r"(?:manifests|docs|tests|src)/[\w./-]*\w", document.read_text()))):
        if not (repository / path).exists():
            yield f"{path} is not there"


def untold(root, text):
    for name, kustomization in kustomizations(root):
        if name.startswith(("overlays/", "replace/", "components/")) and name.rpartition("components/")[2] not in text:
            yield f"manifests/{name} is not in it"


def examples(document):
    """Kustomizations in a document: the directory that their first line names, and their text."""
    for block in re.findall(r"^( *)```yaml\n(.*?)```", document, re.MULTILINE | re.DOTALL):
        text = textwrap.dedent(block[1])
        found = re.match(r"# (\S+)/kustomization.yaml\b.*\n", text)
        if found:
            yield found.group(1), text


def all_examples(repository):
    """Those of all pages, each with its page."""
    for path in [repository / "README.md", *sorted((repository / "docs").glob("*.md"))]:
        for directory, text in examples(path.read_text()):
            yield f"{directory} in {path.relative_to(repository)}", text
