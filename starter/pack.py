"""Pack trained runs as the starter's files, with the figures that `focus evaluate --json` gave.

    python starter/pack.py --run salient=runs/salient --run shadow=runs/shadow --figures salient=ECSSD=ecssd.json [...]

Run `focus evaluate` on the packed files, then this again with the figures and without runs: the files stay as they are.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

from focus_framework.checkpoint.packing import pack
from focus_framework.files.atomic import replacing
from focus_framework.plugin.registry import registry

WEIGHTS = Path(__file__).parent / "focus_framework_starter" / "weights"
LIMIT = 10_000_000
"""Bytes that one file may have."""
ALSO = ("mae", "ber", "f1", "auc")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--run", action="append", default=[], metavar="TASK=FOLDER")
    parser.add_argument("--figures", action="append", default=[], metavar="TASK=NAME=FILE")
    options = parser.parse_args()
    runs = {task: Path(folder) / "best.safetensors" for task, _, folder in (text.partition("=") for text in options.run)}
    if runs:
        pack(runs, WEIGHTS)
    files = {file.stem: file for file in sorted(WEIGHTS.glob("*.safetensors")) if file.name != "encoder.safetensors"}
    facts = {task: {"sha256": hashlib.sha256(file.read_bytes()).hexdigest(), "figures": []} for task, file in files.items()}
    for text in options.figures:
        task, name, file = text.split("=", 2)
        (result,) = json.loads(Path(file).read_text())["results"]
        shown = dict.fromkeys((*registry().get("task", task).metrics, *ALSO))
        metrics = {metric: round(result["metrics"][metric], 4) for metric in shown if result["metrics"][metric] is not None}
        facts[task]["figures"].append({"data": f"{name}, {result['count']} images", "metrics": metrics})
    with replacing(WEIGHTS / "facts.json") as beside:
        beside.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    for file in sorted(WEIGHTS.glob("*.safetensors")):
        size = file.stat().st_size
        print(f"{file.name}: {size / 1e6:.2f} MB{'' if size <= LIMIT else ', TOO LARGE'}")


if __name__ == "__main__":
    main()
