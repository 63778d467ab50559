"""Measures on a GPU what this project promises of one, part by part, and prints a table ready for benchmarks/README.md.

    python -m benchmarks.gpu --out gpu                    # or: make gpu
    python -m benchmarks.gpu --out gpu --parts op profile --again

Each part runs in a process of its own for at most nine minutes and writes DIR/PART.json; the same call again runs only what is missing or
failed, `--again` runs all. What cannot run stands in the table with its reason. Without a GPU each part goes as far as it can without
one: kernels are compiled for four generations of GPUs, arguments are checked, networks run on tensors without contents.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from .parts import PARTS, machine

MINUTES = 9


def run(name: str, folder: Path) -> dict[str, Any]:
    """What a part found; where it failed, ran out of time, or was killed, the reason."""
    start = time.monotonic()
    command = [sys.executable, "-m", "benchmarks.gpu", "--out", str(folder), "--inside", name]
    with (folder / f"{name}.log").open("w") as log:
        try:
            code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, timeout=60 * MINUTES).returncode
            failure = f"ended with exit code {code}" if code else ""
        except subprocess.TimeoutExpired:
            failure = f"took longer than {MINUTES} minutes"
    part = folder / f"{name}.part"  # what the part itself wrote
    found: dict[str, Any] = json.loads(part.read_text()) if part.exists() else {"columns": [], "rows": [], "without": []}
    part.unlink(missing_ok=True)
    if failure:
        last = (folder / f"{name}.log").read_text().strip().splitlines()[-1:] or [""]
        found["without"].append([PARTS[name].title, f"{failure}: {last[0][:200]} ({name}.log has all)"])
    return {"part": name, "machine": machine(), "complete": not failure, "seconds": round(time.monotonic() - start, 1), **found}


def table(found: dict[str, Any]) -> str:
    """One part as Markdown, and below it what is not in it and why."""
    lines = [f"### {PARTS[found['part']].title}", "", f"{found['machine']}; {found['seconds']:.0f} s.", ""]
    if found["rows"]:
        lines += ["| " + " | ".join(found["columns"]) + " |", "|---" + "|---:" * (len(found["columns"]) - 1) + "|"]
        lines += ["| " + " | ".join(map(str, row)) + " |" for row in found["rows"]]
        lines.append("")
    lines += [f"- **Not measured**: {what}. {why}" for what, why in found["without"]]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where results are kept")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="all, unless some are named")
    parser.add_argument("--again", action="store_true", help="measure what was measured before too")
    parser.add_argument("--inside", choices=PARTS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.inside:
        PARTS[given.inside].measure(given.out / f"{given.inside}.part")
        return
    failed = False
    for name in given.parts:
        kept = given.out / f"{name}.json"
        found = json.loads(kept.read_text()) if kept.exists() and not given.again else {}
        if not found.get("complete") or found["machine"] != machine():
            print(f"{name}: {PARTS[name].title} ...", file=sys.stderr, flush=True)
            found = run(name, given.out)
            fresh = kept.with_suffix(".new")
            fresh.write_text(json.dumps(found, indent=1))
            fresh.replace(kept)
        failed |= not found["complete"]
        print(table(found), flush=True)
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
