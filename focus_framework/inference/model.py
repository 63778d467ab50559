"""From images to masks: a network with everything that prepares its input and reads its output."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any, cast, overload

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as V

from ..checkpoint.tasks import scores_of, tasks_of
from ..config.layers import with_prediction
from ..config.schema import ConditionerConfig, PredictionConfig, RunConfig
from ..data.dataset import Example
from ..errors import ConfigError, did_you_mean
from ..model.blame import naming_plugins
from ..model.condition import Examples
from ..model.ground_decoder import Heads
from ..model.joint import Rule, join
from ..model.network import MULTIPLE, Network
from ..plugin.interfaces import Prompts, ReadsExamples, ReadsPrompts, StagedBackbone
from .device import choose_device
from .inputs import ImageLike, as_array, is_batch, split_batch
from .precision import Choice, choose, computing_in
from .preparing import padded_size, resized_size
from .result import Result, Results
from .views import View, predict_maps

if TYPE_CHECKING:
    from .explain import Explanation
    from .film.predicting import FilmFrame

ALIKE = 0.005
"""Mean difference of two soft maps, of 1, above which one of them is worse: about one grey level in 256 of the mask file."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """An image ready for the network."""

    pixels: Tensor
    """`[3, h, w]`, normalised, padded with zeros at the right and the bottom."""
    size: tuple[int, int]
    """(height, width) without the padding."""
    source: tuple[int, int]
    """(height, width) of the image as it came."""


class Model(nn.Module):
    """A network and its configuration. Made by `load`, or by the training loop."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: RunConfig, network: Network, description: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.config, self.network = config, network
        self.description = dict(description or {})
        self._tasks: dict[str, tuple[object, Model]] = {}
        self.precision: Choice | None = None
        """What ``prediction.precision = "auto"`` came to, once something was predicted."""
        backbone = cast(StagedBackbone, network.encoder.backbone)
        self.register_buffer("mean", torch.tensor(backbone.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(backbone.std).view(3, 1, 1), persistent=False)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks it was trained for."""
        return self.config.known_tasks

    @property
    def task(self) -> str:
        """Name of the task that it predicts: the first of several; see `for_task`."""
        return self.tasks[0]

    def for_task(self, name: str) -> Model:
        """This model for one of its tasks. It shares all weights with this one; only its two queries are its own. Raises `ConfigError` for
        a task that it does not know."""
        if name not in self.tasks:
            several = "s" * (len(self.tasks) > 1)
            raise ConfigError(f"this model knows the task{several} {', '.join(self.tasks)}, not {name!r}; {did_you_mean(name, self.tasks)}")
        if self.network.conditioner is None:
            return self
        state = (*self.network.conditioner.parameters(), self.network.decoder.query_content)
        stamp = (self.device, self.training, *(0 if one.is_inference() else one._version for one in state))
        if self._tasks.get(name, (None, self))[0] != stamp:  # the first time, or weights have changed
            self._tasks[name] = stamp, self._for_task(name)
        return self._tasks[name][1]

    def _for_task(self, name: str) -> Model:
        known = {entry["name"]: entry for entry in tasks_of(self.description)} if self.description else {}
        return self._for_vectors(self.network.vectors[self.tasks.index(name)], known.get(name, {"name": name}))

    def with_prompts(self, foreground: str, background: str) -> Model:
        """This model for what two sentences say. Raises `ConfigError` where its conditioner reads no sentences, `WeightsError` where the
        text encoder that it was trained with cannot be loaded."""
        conditioner, pair = self.network.conditioner, Prompts(foreground, background, "call")
        if not isinstance(conditioner, ReadsPrompts):
            raise ConfigError(
                f"this model reads no sentences{self._conditioner}; one that does is trained with several tasks and "
                "--set conditioner.options.weights=openai"
            )
        vectors = conditioner.prompt_vectors([(pair,)])[0].to(self.device)
        return self._for_vectors(vectors, {"name": "prompts", "title": "What the sentences say", "prompts": [vars(pair)]})

    def with_examples(self, pairs: str | PathLike[str] | Sequence[tuple[ImageLike, ImageLike]]) -> Model:
        """This model for what is foreground in a few examples: images with their masks, or what ``--data`` takes, e.g. a folder with
        ``images`` and ``masks``. Masks are images that are bright inside, or arrays `[H, W]` of bool. Raises `ConfigError` where its
        conditioner reads no examples, `DataError` for what is no example."""
        from .examples import read

        if not isinstance(self.network.conditioner, ReadsExamples):
            raise ConfigError(
                f"this model reads no examples{self._conditioner}; one that does is trained with several tasks and --conditioner example"
            )
        examples = read(pairs)
        return self._for_vectors(self.example_vectors(examples), {"name": "examples", "title": f"As in {len(examples)} examples"})

    @property
    def _conditioner(self) -> str:
        """What it has, for an error."""
        name = self.config.conditioner.name
        return f": it knows the tasks {', '.join(self.tasks)} by its conditioner {name}" if name != "none" else ": it knows one task"

    def _for_vectors(self, vectors: Tensor, task: Mapping[str, Any]) -> Model:
        """The model of one task that this one is for vectors `[2, D]`; `task` is what its description says of the task."""
        description = dict(self.description)
        if description:
            description.pop("tasks", None)
            told = {**description["task"], **{key: value for key, value in task.items() if key != "prompts"}}
            description |= {"task": told, "prompts": task.get("prompts", [])}
            for part in ("validation", "test", "baselines"):
                known = task["name"] in self.tasks and part in description
                description[part] = scores_of(task["name"], description[part], self.tasks) if known else {}
        alone = {"task": task["name"], "conditioner": ConditionerConfig()}
        config = with_prediction(self.config.model_copy(update=alone), {"temperature": task.get("temperature")})
        if description:
            description["config"] = config.model_dump(mode="json")
        return Model(config, self.network.for_vectors(vectors), description).to(self.device).train(self.training)

    def example_vectors(self, examples: Sequence[Example]) -> Tensor:
        """The vectors `[2, D]` that a network which reads examples makes of images `[H, W, 3]` and masks `[H, W]`, at least one. All are
        stretched to a square, as in training."""
        side = self.config.preprocessing.size
        images = [V.resize(torch.from_numpy(np.array(image)).permute(2, 0, 1), [side, side], antialias=True) for image, _ in examples]
        masks = [F.interpolate(torch.from_numpy(np.array(mask))[None, None].float(), (side, side))[0, 0].byte() for _, mask in examples]
        pixels = self.normalise(torch.stack(images).to(self.device).float() / 255)
        return self.network.read_examples(Examples(pixels[None], torch.stack(masks)[None].to(self.device)))[0]

    @property
    def device(self) -> torch.device:
        return self.mean.device

    def push_to_hub(self, repository: str, *, private: bool = False, images: bool = True) -> str:
        """Share it on the Hugging Face hub as ``owner/name``, with a card made from what its checkpoint knows, and return its page.
        `images` adds four practice images with their masks. Raises `WeightsError` where it cannot be pushed."""
        from .sharing import push_model

        return push_model(self, repository, private=private, images=images)

    @property
    def parts_of_plugins(self) -> dict[str, object]:
        """What plugins built, by kind and name."""
        encoder: Any = self.network.encoder
        prior = getattr(encoder, "prior", None)
        enhancer = {f"enhancer {self.config.enhancer.name}": prior} if prior is not None else {}
        return {f"backbone {self.config.backbone.name}": encoder.backbone, **enhancer}

    def normalise(self, images: Tensor) -> Tensor:
        """Images `[..., 3, H, W]` in 0..1 to network input."""
        return (images - self.mean) / self.std

    def padded_size(self, height: int, width: int, scale: float = 1.0) -> tuple[int, int]:
        """(height, width) that the network sees of an image of that size."""
        return padded_size(resized_size(height, width, self.config.preprocessing, multiple=MULTIPLE, scale=scale), multiple=MULTIPLE)

    def prepare(self, image: NDArray[np.uint8], *, scale: float = 1.0) -> Prepared:
        """Resize (to `scale` times the usual size), normalise, pad to multiples of 32: the only path from an image to the network."""
        height, width = image.shape[:2]
        size = resized_size(height, width, self.config.preprocessing, multiple=MULTIPLE, scale=scale)
        return self.prepare_to(image, size, padded_size(size, multiple=MULTIPLE))

    def prepare_to(self, image: NDArray[np.uint8], size: tuple[int, int], padded: tuple[int, int]) -> Prepared:
        """`prepare` with the (height, width) to resize to, and that to pad to, given."""
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).to(self.device)
        pixels = V.resize(pixels, list(size), antialias=True)
        normalised = self.normalise(pixels.float() / 255)
        return Prepared(F.pad(normalised, (0, padded[1] - size[1], 0, padded[0] - size[0])), size, (image.shape[0], image.shape[1]))

    @torch.inference_mode()
    def probabilities(self, batch: Sequence[Prepared], rule: Rule | None = None) -> list[Tensor]:
        """Maps of interest `[H, W]` at source size, of images whose prepared sizes are equal."""
        with naming_plugins(self.parts_of_plugins):
            heads = self._heads(torch.stack([prepared.pixels for prepared in batch]))
        return self._maps(heads, batch, rule)

    @torch.inference_mode()
    def task_probabilities(self, models: Sequence[Model], batch: Sequence[Prepared]) -> list[Tensor]:
        """As `probabilities`, for `models` of other tasks that share this one's encoder, which works once: `[T, H, W]` of each image."""
        pixels = torch.stack([prepared.pixels for prepared in batch])
        with naming_plugins(self.parts_of_plugins), computing_in(self._chosen_precision(pixels), self.device):
            encoded = self.network.encode(pixels)
            heads = [model.network.decode(encoded) for model in models]
        by_task = [model._maps(its, batch) for model, its in zip(models, heads, strict=True)]
        return [torch.stack(maps) for maps in zip(*by_task, strict=True)]

    def _maps(self, heads: Heads, batch: Sequence[Prepared], rule: Rule | None = None) -> list[Tensor]:
        """What the heads come to, at source size."""
        class_logits, mask_logits = heads.class_logits[-1].float(), heads.mask_logits[-1].float()
        padded, settings = (batch[0].pixels.shape[-2], batch[0].pixels.shape[-1]), self.config.prediction
        return [
            maps_at(class_logits[index, None], mask_logits[index, None], padded, prepared.size, prepared.source, settings, rule)[0]
            for index, prepared in enumerate(batch)
        ]

    def _heads(self, pixels: Tensor) -> Heads:
        """The network's heads in the precision of the settings."""
        with computing_in(self._chosen_precision(pixels), self.device):
            return self.network(pixels)

    def _chosen_precision(self, pixels: Tensor) -> str:
        """The first images decide what ``auto`` means."""
        if self.config.prediction.precision != "auto":
            return self.config.prediction.precision
        if self.precision is None:
            self.precision = choose(lambda: self.network(pixels), self.device, _apart, allowed=ALIKE, what="maps")
            logger.info("predicting in %s", self.precision)
        return self.precision.precision

    @overload
    def predict(self, images: list[ImageLike] | tuple[ImageLike, ...], *, batch_size: int = ...) -> Results: ...
    @overload
    def predict(self, images: ImageLike, *, batch_size: int = ...) -> Result: ...
    def predict(self, images: ImageLike | list[ImageLike] | tuple[ImageLike, ...], *, batch_size: int = 8) -> Result | Results:
        """The mask of an image, or of each of a list, or of a batch `[B, 3, H, W]` or `[B, H, W, 3]`: then a list.

        An image is a path, the content of an image file or an open one, a PIL image, or an array or tensor: grey, RGB or RGBA, bytes or
        floats. Floats lie in 0..1 or, where one is above 1, in 0..255. Raises `DataError` for what is none of these, or is empty.
        """
        if isinstance(images, list | tuple):
            return Results(self.stream(images, batch_size=batch_size))
        if is_batch(images):
            return Results(self.stream(split_batch(cast(Any, images)), batch_size=batch_size))
        return next(self.stream([images], batch_size=batch_size))

    def predict_tasks(
        self, images: ImageLike | list[ImageLike] | tuple[ImageLike, ...], tasks: Sequence[str] | None = None, *, batch_size: int = 8
    ) -> dict[str, Result] | list[dict[str, Result]]:
        """The masks of an image, or of each of a list, for several tasks (all that the model knows), by their names. The encoder works once
        for all of them. Raises as `predict`, and `ConfigError` for a task that the model does not know."""
        if isinstance(images, list | tuple):
            return list(self.stream_tasks(images, tasks, batch_size=batch_size))
        return next(self.stream_tasks([images], tasks, batch_size=batch_size))

    def stream_tasks(
        self, images: Iterable[ImageLike], tasks: Sequence[str] | None = None, *, batch_size: int = 8
    ) -> Iterator[dict[str, Result]]:
        """`predict_tasks` for any number of images, as `stream`."""
        self.eval()
        models = {name: self.for_task(name) for name in (self.tasks if tasks is None else tasks)}
        for picture, probabilities in _predict_maps(list(models.values()), images, batch_size):
            found = zip(models.items(), probabilities, strict=True)
            yield {name: Result(probability, picture, model.config.prediction.threshold) for (name, model), probability in found}

    def explain(self, image: ImageLike, points: Sequence[tuple[float, float]] = ()) -> Explanation:
        """What the network makes of an image on its way: edge image, features, masks of every head, where it looks.

        `points` are places (x, y) in pixels of the image, from which the samples of deformable attention are wanted. Raises `DataError`
        for what is no image, and for a point outside of it.
        """
        from .explain import explain

        return explain(self, image, points)

    def stream(self, images: Iterable[ImageLike], *, batch_size: int = 8) -> Iterator[Result]:
        """`predict` for any number of images: they are read as they are needed, results come in order. Those of one prepared size go
        through the network together, `batch_size` of them or as many as memory allows. Raises `DeviceError` where it is too small
        for one."""
        self.eval()
        for picture, (probability,) in _predict_maps([self], images, batch_size):
            yield Result(probability, picture, self.config.prediction.threshold)

    def film(
        self,
        source: str | PathLike[str],
        *,
        every: int = 1,
        start: float = 0.0,
        end: float | None = None,
        smooth: float = 0.0,
        batch_size: int = 8,
    ) -> Iterator[FilmFrame]:
        """The frames of a film with their results, in order; a few at a time are in memory. `source` is a file, a pipe or a camera.

        The network looks at every `every`-th frame, and its mask stays until the next. `start` and `end` are seconds. `smooth`, in 0..1,
        lets a map go part of the way back to the one before where it is in doubt, against flicker. Needs the extra ``video``. Raises
        `DataError` for what is no film; broken frames are left out, and logged at the end.
        """
        from .film.predicting import film_frames

        return film_frames(self, source, every=every, start=start, end=end, smooth=smooth, batch_size=batch_size)


def maps_at(
    class_logits: Tensor,
    mask_logits: Tensor,
    padded: tuple[int, int],
    inner: tuple[int, int],
    size: tuple[int, int],
    settings: PredictionConfig,
    rule: Rule | None = None,
) -> Tensor:
    """Maps of interest `[B, *size]` out of class logits `[B, Q, 3]` and mask logits `[B, Q, h, w]`, of images that were `inner` large
    (height, width) before they were `padded`. Exported files compute this too."""
    logits = F.interpolate(mask_logits, padded, mode="bilinear", align_corners=False)
    logits = logits.narrow(2, 0, inner[0]).narrow(3, 0, inner[1])
    logits = F.interpolate(logits, size, mode="bilinear", align_corners=False)
    return join(class_logits, logits, rule or settings.rule, temperature=settings.temperature)


class _Seer:
    """Models of tasks that share an encoder, where they are several, as `predict_maps` asks them."""

    def __init__(self, models: Sequence[Model]) -> None:
        self.models, self.padded_size = models, models[0].padded_size
        self.place = str(models[0].device)

    def maps(self, views: Sequence[View]) -> list[NDArray[np.float32]] | None:
        model = self.models[0]
        try:
            prepared = [model.prepare(view.pixels(), scale=view.scale) for view in views]
            several = len(self.models) > 1
            maps = model.task_probabilities(self.models, prepared) if several else [map_[None] for map_ in model.probabilities(prepared)]
            return [found.cpu().numpy() for found in maps]
        except (RuntimeError, MemoryError) as error:
            from accelerate.utils.memory import should_reduce_batch_size  # here: it loads much, for what rarely happens

            if not isinstance(error, MemoryError | torch.OutOfMemoryError) and not should_reduce_batch_size(error):
                raise
        if model.device.type == "cuda":
            torch.cuda.empty_cache()  # out here the error no longer holds the tensors of the attempt
        return None


def _predict_maps(
    models: Sequence[Model], images: Iterable[ImageLike], batch_size: int
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
    """Images and their maps `[T, H, W]` by T models; the first one's settings say which views are seen."""
    if batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size}; it must be 1 or more")
    return predict_maps(_Seer(models), models[0].config.prediction, map(as_array, images), batch_size, tasks=len(models))


def _apart(first: Heads, second: Heads) -> float:
    """The mean difference of the soft maps that two results come to."""
    maps = [join(heads.class_logits[-1].float(), heads.mask_logits[-1].float(), "soft") for heads in (first, second)]
    return float((maps[0] - maps[1]).abs().mean())


def load(reference: str | PathLike[str], *, device: str = "auto", **prediction: Any) -> Model:
    """A model from a checkpoint: a file of ours, a released ``.pth``, ``hf://owner/name``, or a name: that of a
    known checkpoint, or of a task for its first one (``focus.load("shadow")``), which is fetched once. Nothing in the file is run.

    `prediction` replaces settings of `PredictionConfig` that the checkpoint carries, e.g. ``flip=True``, ``tile=1024``.

    Raises `WeightsError` for what is no checkpoint, `PluginError` where its backbone or enhancer is not installed, `ConfigError` for
    a setting that does not exist or a value it cannot have.
    """
    from ..checkpoint import open_checkpoint

    where = choose_device(device)
    config, network, description = open_checkpoint(str(reference))
    return Model(with_prediction(config, prediction), network, description).to(where).eval()
