"""Rates of the three ways to predict many images beside a plain loop, and kills at random moments.

    python benchmarks/many.py                        # rates; every way predicts the same images, twice, in turn
    python benchmarks/many.py --kills 10             # kill -9 of films and of Ray's driver, and what is left

The loop is `Model.predict` on each image and `Result.save`. A rate of Ray leaves out the first block of each actor and what came before,
because starting actors takes as long for ten images as for a million; the start is told apart.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

LOOP = """
import sys, time, json
from pathlib import Path
from focus_framework import runtime
runtime.prepare()
from focus_framework import load
model = load(sys.argv[1], device="cpu")
images = sorted(Path(sys.argv[2]).glob("*.png"))
model.predict(images[0])
begin, work = time.monotonic(), time.process_time()
for path in images: model.predict(path).save(Path(sys.argv[3]) / path.name)
print(json.dumps({"seconds": time.monotonic() - begin, "processor": time.process_time() - work, "images": len(images)}))
"""
MANY = """
import sys, time, json
from focus_framework import runtime
runtime.prepare()
from focus_framework import load, predict_many
from focus_framework.inference.many import cluster as engine
from focus_framework.inference.many.cluster import Cluster
engine.BLOCK = 4  # what is done when the first of them is told counts for nothing
model, actors = load(sys.argv[1], device="cpu"), int(sys.argv[4])
times = []
start = time.monotonic()
cluster = Cluster(actors=actors, checkpoint=sys.argv[1], device="cpu") if actors else None
if not actors: model.predict(next(iter(__import__("pathlib").Path(sys.argv[2]).glob("*.png"))))
begin, work = time.monotonic(), time.process_time()
report = predict_many(sys.argv[2], model, sys.argv[3], cluster=cluster, on_done=lambda *_: times.append(time.monotonic()))
left_out = 4 * actors
first = times[left_out - 1] if actors else begin
found = {"seconds": times[-1] - first, "images": report.done - left_out, "start": times[0] - begin}
print(json.dumps({**found, "processor": time.process_time() - work, "idle": report.idle}))
"""
FILM = """
import sys, time, json
from focus_framework import runtime
runtime.prepare()
from focus_framework import load, predict_film
import numpy as np
model = load(sys.argv[1], device="cpu")
model.predict(np.zeros((240, 320, 3), np.uint8))
begin, work = time.monotonic(), time.process_time()
report = predict_film(sys.argv[2], model, sys.argv[3], form="mask", again=True)
print(json.dumps({"seconds": time.monotonic() - begin, "processor": time.process_time() - work, "images": report.frames}))
"""


def make(folder: Path, count: int) -> Path:
    """Images of a bright disc that wanders over blurred noise, as PNG files and as a film; returns the film."""
    import av

    noise = Image.fromarray(np.random.default_rng(0).integers(0, 160, (15, 20, 3), np.uint8))
    ground = np.array(noise.resize((320, 240), Image.Resampling.BICUBIC))
    rows, columns = np.ogrid[:240, :320]
    (folder / "images").mkdir()
    with av.open(str(folder / "clip.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(count):
            pixels = ground.copy()
            pixels[(rows - 120) ** 2 + (columns - 60 - number * 200 // count) ** 2 < 40**2] = (230, 200, 60)
            Image.fromarray(pixels).save(folder / "images" / f"{number:05}.png")
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return folder / "clip.mp4"


def told(script: str, *arguments: str | Path) -> dict[str, float]:
    done = subprocess.run([sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def rates(checkpoint: str, count: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        film = make(folder, count)
        found: dict[str, list[dict[str, float]]] = {}
        for number in range(rounds):  # in turn: what else the machine does meets all of them
            for way, script, given in (
                ("loop", LOOP, (folder / "images", folder / f"loop{number}")),
                ("one process", MANY, (folder / "images", folder / f"many{number}", "0")),
                ("film", FILM, (film, folder / f"film{number}.mp4")),
                ("ray, 2 actors", MANY, (folder / "images", folder / f"ray{number}", "2")),
            ):
                measured = told(script, checkpoint, *given)
                found.setdefault(way, []).append(measured)
                print(f"{way}: {json.dumps({key: round(value, 3) for key, value in measured.items()})}", flush=True)
        loop = sum(one["images"] for one in found["loop"]) / sum(one["seconds"] for one in found["loop"])
        print("\n| way | images a second | of the loop | processor seconds an image |\n|---|---:|---:|---:|")
        for way, runs in found.items():
            images, seconds = sum(one["images"] for one in runs), sum(one["seconds"] for one in runs)
            work = "in the actors" if way.startswith("ray") else f"{sum(one['processor'] for one in runs) / images:.3f}"
            print(f"| {way} | {images / seconds:.2f} | {images / seconds / loop:.2f} | {work} |")


def killed(call: list[str], seconds: float) -> bool:
    """Whether a call was still at work when it was killed."""
    process = subprocess.Popen(call, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process.wait(seconds)
        return False
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True


def done_in(out: Path) -> set[str]:
    """Names that a journal has as done."""
    if not (out / ".focus-journal").exists():
        return set()
    with sqlite3.connect(out / ".focus-journal") as table:
        try:
            return {os.fsdecode(name) for (name,) in table.execute("SELECT name FROM images WHERE state = 1")}
        except sqlite3.OperationalError:
            return set()
        finally:
            table.rollback()


def kills(checkpoint: str, count: int, number: int) -> None:
    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        film, out = make(folder, count), folder / "out.mp4"
        call = [sys.executable, "-m", "focus_framework", "predict", str(film), "--checkpoint", checkpoint, "--out", str(out)]
        begin = time.monotonic()
        subprocess.run([*call[:-1], str(folder / "whole.mp4")], check=True, capture_output=True)
        whole, met = time.monotonic() - begin, 0
        for _ in range(number):
            if killed(call, chance.uniform(0.2, 0.95) * whole):
                met += 1
                assert not out.exists(), "a film that is not whole has its name"
            out.unlink(missing_ok=True)  # it was quicker than before
        subprocess.run(call, check=True, capture_output=True)
        left = [path.name for path in folder.iterdir() if path.name.startswith(".focus")]
        same = out.read_bytes() == (folder / "whole.mp4").read_bytes()
        print(f"film: {met} of {number} kills met it at work; then made in one call, the same bytes: {same}; left over: {left}", flush=True)

        import ray
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "object_store_memory": 80 << 20, "include_dashboard": False})
        out = folder / "ray"
        call = [sys.executable, "-m", "focus_framework", "predict", str(folder / "images"), "--checkpoint", checkpoint, "--out", str(out)]
        call += ["--engine", "ray", "--address", cluster.address, "--actors", "1", "--batch-size", "1"]
        begin = time.monotonic()
        subprocess.run(
            [*call[: call.index("--out") + 1], str(folder / "rayed"), *call[call.index("--out") + 2 :]], check=True, capture_output=True
        )
        whole, met, again, before = time.monotonic() - begin, 0, 0, {}
        counts = []
        for _ in range(number):
            met += killed(call, chance.uniform(0.5, 0.98) * whole)
            time.sleep(1)  # actors of a driver that is gone end by themselves
            again += sum((out / f"{name}.png").stat().st_mtime_ns != at for name, at in before.items())
            before = {name: (out / f"{name}.png").stat().st_mtime_ns for name in done_in(out)}
            counts.append(len(before))
        subprocess.run(call, check=True, capture_output=True)
        again += sum((out / f"{name}.png").stat().st_mtime_ns != at for name, at in before.items())
        made = {path.name: path.read_bytes() for path in out.glob("[0-9]*.png")}
        same = made == {path.name: path.read_bytes() for path in (folder / "rayed").glob("[0-9]*.png")}
        left = [path.name for path in out.iterdir() if path.name.startswith(".focus-") and len(path.name) > 30]
        print(f"ray: {met} of {number} kills met it at work, with {counts} of {count} done; then done in one call, the same bytes: {same}; "
              f"images that were done and were written once more: {again}; left over: {left}")  # fmt: skip
        ray.shutdown()
        cluster.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="starter-salient")
    parser.add_argument("--images", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--kills", type=int, default=0)
    given = parser.parse_args()
    if given.kills:
        kills(given.checkpoint, given.images, given.kills)
    else:
        rates(given.checkpoint, given.images, given.rounds)


if __name__ == "__main__":
    main()
