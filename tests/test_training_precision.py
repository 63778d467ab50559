"""Training in bf16 gets as far as training in fp32."""

from __future__ import annotations

from pathlib import Path
from statistics import mean

import pytest
from support.training import lines, run

SETTINGS = {
    "enhancer.name": "none",
    "data.practice_count": 64,
    "data.validation_limit": 64,
    "backbone.options.drop_path_rate": 0.0,
    "training.batch_size": 4,
    "training.steps": 50,
    "training.learning_rate": 2e-3,
    "training.checkpoint_every": 50,
}
SEEDS = (0, 1)
UNTRAINED = 49.8
"""BER of these networks, in percent, after one step; half of the pixels of either kind are wrong where nothing is known."""
SPREAD = 0.47
"""Standard deviation of BER over eight seeds in fp32: 13.26 on average, 12.76 to 13.95. In bf16, on the same seeds: 13.14 on average."""


def test_bf16_reaches_the_score_of_fp32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Means over seeds differ by no more than three standard deviations of such a difference between runs that are all in fp32."""
    monkeypatch.setattr("focus_framework.training.run.write_report", lambda *arguments: None)
    monkeypatch.setattr("focus_framework.training.data.TaskData.baselines", lambda *arguments: {})
    found, losses = {}, {}
    for precision in ("fp32", "bf16"):
        settings = {**SETTINGS, "training.precision": precision}
        done = [run(tmp_path / f"{precision}-{seed}", **settings, **{"training.seed": seed}) for seed in SEEDS]
        found[precision] = mean(summary.validation["ber"] for summary in done)
        losses[precision] = [line["loss"] for line in lines(done[0].folder)]
    tolerance = 3 * SPREAD * (2 / len(SEEDS)) ** 0.5
    print(f"BER on practice images: fp32 {found['fp32']:.2f}, bf16 {found['bf16']:.2f}, allowed difference {tolerance:.2f}")
    assert found["fp32"] < UNTRAINED / 2  # they have learned, so that the comparison says something
    assert abs(found["bf16"] - found["fp32"]) <= tolerance
    # It was bf16 indeed, which keeps eight bits: about as good, and not the same numbers.
    assert losses["bf16"][0] == pytest.approx(losses["fp32"][0], rel=0.02)
    assert losses["bf16"][0] != pytest.approx(losses["fp32"][0], rel=1e-6)
