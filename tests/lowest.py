"""The lowest version of every dependency that pyproject.toml allows, as constraints for pip: ``python tests/lowest.py``.

Of what users install: the tools of the tests and of the pages may be as new as they like. A bound of two numbers stands for its last patch.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

TOOLS = ("test", "docs")
PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def lowest() -> dict[str, str]:
    """The lower bound of each dependency, those of the extras included, by its name."""
    project = tomllib.loads(PROJECT.read_text("utf-8"))["project"]
    extras = {name: lines for name, lines in project["optional-dependencies"].items() if name not in TOOLS}
    wanted = [*project["dependencies"], *(line for lines in extras.values() for line in lines)]
    found = {}
    for line in wanted:
        name, bound = re.fullmatch(r"([\w.-]+)(?:\[[\w,-]+\])?(?:>=([\w.]+))?.*", line).groups()  # type: ignore[union-attr]
        if bound:
            found[name] = bound
        elif name != project["name"]:
            raise SystemExit(f"{line} has no lower bound")
    return found


if __name__ == "__main__":
    print("\n".join(f"{name}=={version}.*" for name, version in lowest().items()))
