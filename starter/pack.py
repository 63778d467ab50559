"""Pack trained runs as the starter's files, with the figures that `focus evaluate --json` gave.

    python starter/pack.py --run salient=runs/salient --run shadow=runs/shadow --figures salient=ECSSD=ecssd.json [...]

`--whole` packs a run whose encoder was trained too and is its own. Run `focus evaluate` on the packed files, then this again with the
figures and without runs: the files stay as they are. Tasks that are not named keep their file, and a file keeps the figures that it has, by
the name of the data.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

from focus_framework.checkpoint.packing import pack, pack_whole
from focus_framework.files.atomic import replacing
from focus_framework.plugin.registry import registry

WEIGHTS = Path(__file__).parent / "focus_framework_starter" / "weights"
LIMIT = 10_000_000
"""Bytes that one file may have."""
ALSO = ("mae", "ber", "f1", "auc")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--run", action="append", default=[], metavar="TASK=FOLDER")
    parser.add_argument("--whole", action="append", default=[], metavar="TASK=FOLDER")
    parser.add_argument("--figures", action="append", default=[], metavar="TASK=NAME=FILE")
    options = parser.parse_args()
    if runs := trained(options.run):
        pack(runs, WEIGHTS)
    for task, checkpoint in trained(options.whole).items():
        pack_whole(checkpoint, WEIGHTS / f"{task}.safetensors")
    files = {file.stem: file for file in sorted(WEIGHTS.glob("*.safetensors")) if file.name != "encoder.safetensors"}
    known = json.loads((WEIGHTS / "facts.json").read_text("utf-8")) if (WEIGHTS / "facts.json").exists() else {}
    facts: dict[str, dict[str, Any]] = {}
    for task, file in files.items():
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        before = known.get(task, {})
        facts[task] = {"sha256": digest, "figures": before["figures"] if before.get("sha256") == digest else []}
    for text in options.figures:
        task, name, path = text.split("=", 2)
        (result,) = json.loads(Path(path).read_text())["results"]
        shown = dict.fromkeys((*registry().get("task", task).metrics, *ALSO))
        metrics = {metric: round(result["metrics"][metric], 4) for metric in shown if result["metrics"][metric] is not None}
        data = f"{name}, {result['count']} images"
        others = [row for row in facts[task]["figures"] if row["data"] != data]
        facts[task]["figures"] = [*others, {"data": data, "metrics": metrics}]
    with replacing(WEIGHTS / "facts.json") as beside:
        beside.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    for file in sorted(WEIGHTS.glob("*.safetensors")):
        size = file.stat().st_size
        print(f"{file.name}: {size / 1e6:.2f} MB{'' if size <= LIMIT else ', TOO LARGE'}")


def trained(texts: list[str]) -> dict[str, Path]:
    """The best checkpoint of each task's run."""
    return {task: Path(folder) / "best.safetensors" for task, _, folder in (text.partition("=") for text in texts)}


if __name__ == "__main__":
    main()
