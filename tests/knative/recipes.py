"""What docs/migrate-from-*.md tell users to type in order to keep positions, as they stand there."""

import pathlib
import re

DOCS = pathlib.Path(__file__).parents[2] / "docs"
INTEGRATION_SOURCE = DOCS / "migrate-from-integrationsource.md"
TRIGGERMESH = DOCS / "migrate-from-triggermesh.md"


def recipe(page):
    """The section's blocks by their language."""
    _, _, rest = page.read_text().partition("\n## To keep positions\n")
    section = rest.partition("\n## ")[0]
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    assert blocks, f"{page} has no recipe"
    return dict(blocks)


def variables_of_the_image():
    """The `ENV` lines of the image of one's own."""
    lines = re.findall(r"^ENV (\w+)=(\S+)$", recipe(INTEGRATION_SOURCE)["dockerfile"], re.MULTILINE)
    assert len(lines) == 1, f"one ENV line is promised, and there are {lines}"
    return dict(lines)


def variables_of_the_overrides():
    """`spec.adapterOverrides.env` of the source."""
    lines = recipe(TRIGGERMESH)["yaml"].splitlines()
    assert [line.strip() for line in lines[:3]] == ["spec:", "adapterOverrides:", "env:"], lines
    found = [re.fullmatch(r'      - \{ name: (\w+), value: "?([^"]+?)"? \}', line) for line in lines[3:]]
    assert found and all(found), lines
    return {match.group(1): match.group(2) for match in found}


def arguments(page):
    """The one command of the recipe, without the program's name."""
    program, *words = recipe(page)["sh"].split()
    assert program == "dynamodb-streams-adapter", program
    return words
