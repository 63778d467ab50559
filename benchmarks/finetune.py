"""What it costs and gives to fine-tune everything, all but the backbone, or the decoders alone.

    python benchmarks/finetune.py --task shadow --data DIR --init starter-shadow
    python benchmarks/finetune.py --task shadow --data DIR --init runs/a/best.safetensors --size 128 --steps 80 --seeds 0 1
    python benchmarks/finetune.py --task salient --data ECSSD --init starter-salient --learn 20 --test 5

DIR has `images` and `masks`, or what `focus data check` reads. Every `--learn`th image teaches, every `--test`th of the others measures.
All rows make the same number of steps. Printed: processor minutes of a training (reading, validation,
samples and report included, no loader process) and scores of the best checkpoint by the protocol `standard`. `nothing` is the parent as it
comes, at its own size.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

WAYS: dict[str, dict[str, Any]] = {
    "all": {},
    "backbone frozen": {"backbone__frozen": True},
    "decoders alone": {"backbone__frozen": True, "training__enhancer_rate": 0.0},
}


def linked(pairs: list[tuple[Path, Path]], folder: Path) -> Path:
    """A folder of those pairs, without copies."""
    for image, mask in pairs:
        for kind, file in (("images", image), ("masks", mask)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            (folder / kind / f"{image.stem}{file.suffix}").symlink_to(file.absolute())
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="shadow")
    parser.add_argument("--data", required=True)
    parser.add_argument("--init", required=True)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--learn", type=int, default=2)
    parser.add_argument("--test", type=int, default=1)
    parser.add_argument("--metrics", nargs="+", default=["ber", "mae", "f1", "auc"])
    given = parser.parse_args()
    from focus_framework import runtime

    runtime.prepare()
    import focus_framework as focus
    from focus_framework.data.pairs import find_pairs
    from focus_framework.evaluation.measure import measure_model
    from focus_framework.plugin.registry import registry

    task = registry().find_task(given.task).get()
    pairs = [(Path(pair.image), Path(pair.mask)) for pair in find_pairs(given.data, task=task)]
    learn = pairs[:: given.learn]
    test = [pair for pair in pairs if pair not in learn][:: given.test]
    with tempfile.TemporaryDirectory() as place:
        here = Path(place)
        learned, measured = linked(learn, here / "learn"), linked(test, here / "test")
        print(f"{len(learn)} images to learn from, {len(test)} to measure on, {given.size} px, {given.steps} steps")
        print("  ".join(["seed", "what learns", "processor min", *given.metrics]))

        def tell(seed: str, way: str, minutes: float, checkpoint: Any) -> None:
            values = measure_model(focus.load(checkpoint), str(measured), task=task).evaluation.metrics
            print("  ".join([seed, way, f"{minutes:.2f}", *(f"{values[name]:.3f}" for name in given.metrics)]), flush=True)

        tell("-", "nothing", 0.0, given.init)
        for seed in given.seeds:
            for way in given.ways:
                start = time.process_time()
                run = focus.train(
                    given.task,
                    data=str(learned),
                    init=given.init,
                    image_size=given.size,
                    steps=given.steps,
                    seed=seed,
                    out=here / f"{way} {seed}",
                    data__workers=0,
                    **WAYS[way],
                )
                tell(str(seed), way, (time.process_time() - start) / 60, run.best)


if __name__ == "__main__":
    main()
