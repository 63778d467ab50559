"""Where the numbers and images of a run are shown while it goes on: TensorBoard, Weights & Biases."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ...config.schema import RunConfig
from ...errors import ConfigError
from ...files.atomic import replacing

PROJECT = "focus-framework"
"""In Weights & Biases, unless WANDB_PROJECT says another."""
WANDB_ID = Path("training-state") / "wandb-id"


class Tracker(Protocol):
    """Takes what a run has to show."""

    def scalars(self, numbers: Mapping[str, float], step: int) -> None: ...
    def picture(self, name: str, image: NDArray[np.uint8], step: int) -> None: ...
    def close(self, *, failed: bool) -> None: ...


class TensorBoard:
    """Events in the folder of the run. Those of steps after `start`, which are done again, are hidden."""

    def __init__(self, folder: Path, start: int, config: RunConfig) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=start + 1 if start else None)

    def scalars(self, numbers: Mapping[str, float], step: int) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)

    def picture(self, name: str, image: NDArray[np.uint8], step: int) -> None:
        self._writer.add_image(name, image, step, dataformats="HWC")

    def close(self, *, failed: bool) -> None:
        self._writer.close()


class WeightsAndBiases:
    """A run of Weights & Biases with the configuration; training that goes on goes on in the same one, which leaves out the steps that
    it has. Account, project and offline mode are said by its own variables (WANDB_MODE=offline, ...).

    Raises `ConfigError` where it is not installed or does not let us in.
    """

    def __init__(self, folder: Path, start: int, config: RunConfig) -> None:
        self._wandb = _wandb()
        try:
            self._run = self._wandb.init(
                project=os.environ.get("WANDB_PROJECT", PROJECT),
                name=folder.resolve().name,
                id=_wandb_id(folder, new=start == 0),
                resume="allow",
                dir=str(folder),
                config=config.model_dump(mode="json"),
                settings=self._wandb.Settings(console="off"),  # the progress line is for the terminal
            )
        except self._wandb.Error as error:
            raise ConfigError(
                f"Weights & Biases does not start ({str(error).splitlines()[0]}); run: wandb login, "
                "or set WANDB_MODE=offline to work without a network"
            ) from error

    def scalars(self, numbers: Mapping[str, float], step: int) -> None:
        self._run.log(dict(numbers), step=step)

    def picture(self, name: str, image: NDArray[np.uint8], step: int) -> None:
        self._run.log({name: self._wandb.Image(image)}, step=step)

    def close(self, *, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))


TRACKERS: dict[str, Callable[[Path, int, RunConfig], Tracker]] = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases}


def open_trackers(folder: Path, start: int, config: RunConfig) -> list[Tracker]:
    """Those of ``training.trackers``; `start` is the step after which the run goes on."""
    return [TRACKERS[name](folder, start, config) for name in config.training.trackers]


def check_trackers(names: Iterable[str]) -> None:
    """Raises `ConfigError` where one is not installed."""
    if "wandb" in names:
        _wandb()


def _wandb() -> ModuleType:
    try:
        import wandb
        from wandb import init  # noqa: F401 - a folder that an earlier run left, called wandb, can be imported too
    except ImportError as error:
        raise ConfigError("training.trackers names wandb, which is not installed; run: pip install 'focus-framework[wandb]'") from error
    return wandb


def _wandb_id(folder: Path, *, new: bool) -> str:
    """The name that Weights & Biases knows this run by."""
    path = folder / WANDB_ID
    if new or not path.is_file():
        with replacing(path) as beside:
            beside.write_text(secrets.token_hex(4), encoding="utf-8")
    return path.read_text("utf-8")
