"""The smallest member of each of timm's families, tried: built with random weights for 128 x 128 pixels, one training step of the
whole network, one forward pass at another size. Writes the table of docs/encoders.md.

    python benchmarks/encoders.py [--families beit,swin_transformer] [--names resnet50,...] [--log FILE] [--write docs/encoders.md]
"""

from __future__ import annotations

import argparse
import gc
import json
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import timm
import torch

from focus_framework.config.schema import RunConfig
from focus_framework.files.atomic import replacing
from focus_framework.model.build import build_network

MEMBERS = Path(__file__).parents[1] / "tests" / "data" / "encoders.txt"
"""A family and its smallest member that is no test of timm's own, one pair a line."""
MARK = "<!-- table: benchmarks/encoders.py -->"
SIZE, OTHER_SIZE = 128, (96, 160)
SMALL = {
    "enhancer": {"name": "none"},
    "pixel_decoder": {"width": 32, "layers": 1, "heads": 4, "feedforward": 64},
    "decoder": {"layers": 1, "heads": 4, "feedforward": 64},
}


class Outcome(NamedTuple):
    """What became of one network."""

    name: str
    error: str
    widths: tuple[int, ...] = ()
    staged: bool = False
    """Whether it is run block by block, so that a prior can act between its stages."""
    notes: tuple[str, ...] = ()
    idle: int = 0
    """Parameters of the backbone that no gradient reached."""
    seconds: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--families", help="names of timm's modules, with commas between them; default: all")
    parser.add_argument("--names", help="networks to try instead, with commas between them")
    parser.add_argument("--log", type=Path, help="outcomes are added to this file, and those that it has are not tried again")
    parser.add_argument("--write", type=Path, help="the page whose table is replaced")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    pairs = members()
    if options.families:
        pairs = {family: pairs[family] for family in options.families.split(",")}
    if options.names:
        pairs = {name: name for name in options.names.split(",")}
    outcomes = read(options.log) if options.log and options.log.exists() else {}
    for family, name in pairs.items():
        if family in outcomes:
            continue
        outcomes[family] = tried(name)
        gc.collect()  # networks and their hooks hold each other
        print(family, *outcomes[family], sep=" | ", flush=True)
        if options.log:
            with options.log.open("a") as log:
                log.write(json.dumps([family, outcomes[family]]) + "\n")
    outcomes = {family: outcomes[family] for family in pairs}
    failed = [family for family, outcome in outcomes.items() if outcome.error]
    print(f"{len(outcomes) - len(failed)} of {len(outcomes)} train; not: {', '.join(failed) or 'none'}")
    if options.write:
        write_table(options.write, outcomes)


def read(log: Path) -> dict[str, Outcome]:
    """The outcomes that a log has."""
    rows = map(json.loads, log.read_text().splitlines())
    return {family: Outcome(*outcome) for family, outcome in rows}


def members() -> dict[str, str]:
    """The smallest member of each family."""
    return dict(line.split() for line in MEMBERS.read_text().splitlines())


def tried(name: str) -> Outcome:
    """Build it, train it one step, run it at another size."""
    start = time.process_time()
    torch.manual_seed(0)
    settings = {"task": "shadow", "backbone": {"name": name, "weights": "none"}, "preprocessing": {"size": SIZE}}
    try:
        network = build_network(RunConfig.model_validate({**settings, **SMALL}))
        step(network)
        with torch.no_grad():
            network.eval()(torch.randn(1, 3, *OTHER_SIZE))
    except Exception as error:  # it is what the table is about
        return Outcome(name, f"{type(error).__name__}: {error}", seconds=time.process_time() - start)
    backbone = network.encoder.backbone
    idle = sum(p.numel() for p in backbone.parameters() if p.requires_grad and p.grad is None)
    notes = tuple(getattr(backbone, "notes", ()))
    return Outcome(name, "", backbone.widths, not backbone.pyramid, notes, idle, time.process_time() - start)  # type: ignore[arg-type]


def step(network: torch.nn.Module) -> None:
    """Forward and backward of every output, on two images of noise. Raises `ValueError` where it is not finite."""
    heads = network.train()(torch.randn(2, 3, SIZE, SIZE))
    loss = sum(output.square().mean() for output in heads)
    if not torch.isfinite(loss):
        raise ValueError("the outputs are not finite")
    loss.backward()


def write_table(page: Path, outcomes: dict[str, Outcome]) -> None:
    """Put the table between the marks of a page."""
    before, _, rest = page.read_text().partition(MARK)
    after = rest.partition(MARK)[2]
    count = sum(not outcome.error for outcome in outcomes.values())
    rows = [f"{count} of {len(outcomes)} families, timm {timm.__version__}, torch {torch.__version__.partition('+')[0]}.", ""]
    rows += ["| family | tried | widths | what is made up for |", "|---|---|---|---|"]
    rows += [f"| {family} | `{o.name}` | {widths(o)} | {o.error or short(o.notes)} |" for family, o in outcomes.items()]
    with replacing(page) as new:
        new.write_text(f"{before}{MARK}\n{chr(10).join(rows)}\n{MARK}{after}")


def widths(outcome: Outcome) -> str:
    return f"{outcome.widths[0]}, in four stages" if outcome.staged else ", ".join(map(str, outcome.widths))


def short(notes: tuple[str, ...]) -> str:
    """The notes as few words."""
    made = [note.split()[3] for note in notes if note.startswith("the map")]
    sizes = [note for note in notes if not note.startswith("the map")]
    words = [f"made: {', '.join(made)}"] if made else []
    return "; ".join([*words, *("one size" if "no other" in note else f"sizes: multiples of {note.split()[6]}" for note in sizes)])


if __name__ == "__main__":
    main()
