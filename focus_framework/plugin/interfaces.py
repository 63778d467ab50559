"""What a plugin describes, and what the thing it builds must offer.

Descriptions are plain frozen dataclasses: making one imports neither torch nor weights, so that listing is free. What is built
later is described by the protocols below; their tensors are named `[B, C, H, W]` (batch, channels, height, width).
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypeVar, runtime_checkable

from ..errors import ConfigError, PluginError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

METRICS = (
    "s_measure", "e_measure_mean", "e_measure_max", "e_measure_adaptive", "weighted_f",
    "f_beta_mean", "f_beta_max", "f_beta_adaptive", "mae", "ber", "f1", "auc", "iou",
)  # fmt: skip
HUB = re.compile(r"(?a)hf://((?![^@\s]*(?:--|\.\.))\w(?:[\w.-]*\w)?/\w(?:[\w.-]*\w)?)(?:@([\w./-]+))?")
"""A repository of the Hugging Face hub and, if given, its revision."""
LOWER_IS_BETTER = frozenset({"mae", "ber"})

T = TypeVar("T")
Builder: TypeAlias = str | Callable[..., T]
"""A callable, or where it lies as ``"package.module:attribute"``, imported when it is first needed."""


def resolve(builder: Builder[T]) -> Callable[..., T]:
    """The callable behind a `Builder`. Whatever its module raises while being imported is raised here."""
    if not isinstance(builder, str):
        return builder
    module, _, attribute = builder.partition(":")
    return getattr(importlib.import_module(module), attribute)


@dataclass(frozen=True)
class Prompts:
    """A pair of sentences, one for what lies inside the mask and one for what lies outside."""

    foreground: str
    background: str
    source: str = "task"
    """Where the pair comes from; shown to the user, never sent through a network."""

    def __post_init__(self) -> None:
        for side in ("foreground", "background"):
            if not isinstance(text := getattr(self, side), str) or not text.strip():
                raise ConfigError(f"the {side} prompt is empty; give a sentence that describes the {side}")
            if any("\ud800" <= sign <= "\udfff" for sign in text):  # bytes that were no UTF-8
                raise ConfigError(f"the {side} prompt {text!r} is no text; write it in UTF-8")
        if self.foreground.strip() == self.background.strip():
            raise ConfigError(f"foreground and background prompt are both {self.foreground!r}; they must differ")


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """What the images of a published data set are known by, whatever its folders are called; with their number, `Dataset.count`.

    Stems are names without suffix; capitals do not matter.
    """

    names: str = ".*"
    """Regular expression that the stem of each image fits, whole."""
    members: Sequence[str] = ()
    """Some of the stems: two thirds of them have to be there."""
    strangers: Sequence[str] = ()
    """Stems of similar sets, of which none may be there."""
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Width and height of some images, by stem."""
    any_size: Sequence[tuple[int, int]] = ()
    """Where all images have one of a few sizes: these."""
    places: Sequence[str] = ()
    """Patterns of folder names, of which one above the images has to fit; for sets whose files have numbers for names."""
    telling: str = ""
    """Regular expression of stems that no other set has: where nine in ten images fit it, `places` need not fit."""
    darkest: bool = False
    """Of several images of one name, the one that is darkest inside the mask is meant: with a shadow rather than without it."""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A published data set, read where it lies below the data root, as its authors ship it."""

    name: str
    """What ``--data`` takes, e.g. ``cod10k-test``."""
    images: Sequence[str]
    """Folders below the data root, the usual one first; the first that exists is read."""
    masks: Sequence[str]
    """Folders of the masks, in the order of `images`; none where no image has foreground."""
    split: Literal["train", "test"]
    count: int | None = None
    """Pairs that a complete copy has."""
    image_patterns: Sequence[str] = ("*",)
    """File name patterns of images; what matches none is not part of the set."""
    exclude: Sequence[str] = ()
    """File name patterns left out, e.g. ``*NonCAM*``."""
    mask_names: Sequence[str] = ("{stem}",)
    """Stem of the mask that belongs to the image ``stem``, tried in order."""
    foreground: Literal["white", "black"] = "white"
    title: str = ""
    fingerprint: Fingerprint | None = None
    """What it is known by where its folders have other names."""
    keys: Sequence[str] = ()
    """Regular expressions in a stem, tried in order, for an image and a mask whose names differ: they belong together where the groups
    are alike, and those of no other image or mask that is left."""
    transposed: Sequence[str] = ()
    """Stems of images whose published mask has rows for columns."""
    maskless: Sequence[str] = ()
    """Stems of images of which no mask was published; they are left out, and not a part of `count`."""
    citation: str = ""
    licence: str = ""
    url: str = ""
    published: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Figures to print beside one's own: ``{"paper, DINOv2-g": {"s_measure": 0.912}}``."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What a checkpoint scores on a data set, by whoever measured it."""

    data: str
    """Name of a known data set, or what the images are."""
    metrics: Mapping[str, float]
    """Values by the names of `METRICS`."""
    protocol: Literal["standard", "release"] = "standard"
    source: str = ""
    """Who says so."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A trained model that can be had, for `Task.checkpoints` or for the entry-point group ``focus_framework.checkpoints``."""

    name: str
    """What ``--checkpoint`` and ``--init`` take."""
    title: str
    reference: str
    """``hf://owner/name``, optionally ``@revision``, or the path of a file that comes with the distribution."""
    task: str = ""
    """Name of its task; empty where a task lists it."""
    size: int = 0
    """Bytes of the file; 0 where nobody says."""
    sha256: str = ""
    """Checksum of the file, in hexadecimal; a file of another one is refused. Empty where it is not known."""
    licence: str = ""
    """Of the code that made it."""
    weights_licence: str = ""
    data_licence: str = ""
    """Terms of what it was trained on."""
    figures: Sequence[Figures] = ()


def wrong_in(checkpoint: Checkpoint) -> str:
    """What is wrong with the first field of a description that is not what it must be; empty where nothing is."""
    for field_name in ("name", "title", "reference", "task", "sha256", "licence", "weights_licence", "data_licence"):
        if not isinstance(value := getattr(checkpoint, field_name), str):
            return f"its {field_name} is {value!r:.60}, it must be a text"
    if not re.fullmatch(r"\w[\w.-]*", checkpoint.name):
        return f"{checkpoint.name!r:.60} is no name for a checkpoint; use letters, digits, '-', '_' and '.'"
    if checkpoint.reference.startswith("hf://") and not HUB.fullmatch(checkpoint.reference):
        return f"its reference is {checkpoint.reference!r:.60}, a name on the hub is hf://owner/name"
    if checkpoint.sha256 and not re.fullmatch(r"[0-9a-f]{64}", checkpoint.sha256):
        return f"its sha256 is {checkpoint.sha256!r:.60}, it must be 64 hexadecimal digits"
    if type(checkpoint.size) is not int or checkpoint.size < 0:
        return f"its size is {checkpoint.size!r:.60}, it must be a number of bytes"
    if not isinstance(checkpoint.figures, list | tuple) or not all(map(_is_figures, checkpoint.figures)):
        return f"its figures are {checkpoint.figures!r:.60}, they must be a list of Figures(...)"
    return ""


def _is_figures(one: object) -> bool:
    if not isinstance(one, Figures) or not all(isinstance(text, str) for text in (one.data, one.protocol, one.source)):
        return False
    return isinstance(one.metrics, Mapping) and all(type(value) in (int, float) and isfinite(value) for value in one.metrics.values())


PracticePair: TypeAlias = "tuple[np.ndarray, np.ndarray]"
"""An image `[H, W, 3]` uint8 RGB and its mask `[H, W]` bool, true inside the mask of interest."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What counts as foreground."""

    name: str
    title: str
    prompts: Prompts | Sequence[Prompts]
    """The pair, or several pairs whose encodings are averaged."""
    metrics: Sequence[str]
    """Names out of `METRICS`, in the order in which the field prints them."""
    primary_metric: str
    """The one that decides which checkpoint is the best."""
    other_prompts: Mapping[str, Prompts | Sequence[Prompts]] = field(default_factory=dict)
    """Named alternatives, chosen with ``prompts.choice``, e.g. ``release``."""
    datasets: Sequence[Dataset] = ()
    checkpoints: Sequence[Checkpoint] = ()
    """Trained models that can be had, the one to take first first."""
    practice: Builder[PracticePair] | None = None
    """``practice(random, size)`` draws one pair of `size` x `size` pixels; `random` is a `numpy.random.Generator` and the
    only source of chance, so that one seed gives one image everywhere."""
    compose: Builder[PracticePair] | None = None
    """``compose(random, size, first, second)`` makes such a pair out of two photographs with the masks of things in them,
    `[H, W, 3]` uint8 and `[H, W]` bool of any size."""
    render: Builder[PracticePair] | None = None
    """``render(random, size)`` makes such a pair as `practice` does, of a scene that a path tracer lights: seconds instead of
    milliseconds, and near to photographs. `focus_framework.plugin.kit.render` has what it needs."""
    change_colour: bool = True
    """Whether augmentation may change colours; not where colour or grain is the cue (forgery)."""
    change_sharpness: bool = True
    """Whether augmentation may blur or shrink images; not where sharpness is the cue (defocus)."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Settings this task would like, as ``{"loss.clip": 0.5}``: stronger than the preset, weaker than what the user says."""

    def __post_init__(self) -> None:
        if isinstance(self.metrics, str) or not isinstance(self.metrics, Sequence) or not self.metrics:
            raise PluginError(
                f"task {self.name}: metrics are {self.metrics!r:.60}; they must be a list of names out of {', '.join(METRICS)}"
            )
        unknown = [metric for metric in self.metrics if metric not in METRICS]
        if unknown:
            raise PluginError(f"task {self.name}: unknown metric {unknown[0]!r}; known: {', '.join(METRICS)}")
        if self.primary_metric not in self.metrics:
            raise PluginError(f"task {self.name}: primary metric {self.primary_metric!r} is not among its metrics")
        if not self.pairs():
            raise PluginError(f"task {self.name}: there are no prompts; give Prompts(foreground, background), or a list of them")
        for pair in self.pairs():
            if not isinstance(pair, Prompts):
                raise PluginError(f"task {self.name}: prompts must be Prompts(...), not {type(pair).__name__}")

    def pairs(self, choice: str = "") -> tuple[Prompts, ...]:
        """The prompt pairs of this task, or of one of its named alternatives."""
        if choice and choice not in self.other_prompts:
            known = ", ".join(self.other_prompts) or "none"
            raise ConfigError(f"task {self.name} has no prompts named {choice!r}; known: {known}")
        chosen = self.other_prompts[choice] if choice else self.prompts
        return (chosen,) if isinstance(chosen, Prompts) else tuple(chosen)


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A network, or a family of networks, that turns an image into features."""

    name: str
    title: str
    build: Builder[StagedBackbone]
    """``build(name, *, weights, **options)``: `name` is what the user asked for, `weights` is ``"pretrained"``, ``"none"`` or
    the path of a file, `options` come from ``backbone.options``. A parameter ``image_size`` with a default is given the size of the
    run's images. Raises `WeightsError` where weights cannot be loaded. What a user should know of the network before training, say
    that it sees images of another size, may stand in its attribute ``notes``, a sequence of lines."""
    claims: Builder[bool] | None = None
    """For a family: ``claims(name)`` says whether a name that no backbone has is one of its members."""
    licence: str = ""


@dataclass(frozen=True, kw_only=True)
class Enhancer:
    """A prior that every stage of the backbone looks up while it works."""

    name: str
    title: str
    build: Builder[Prior]
    """``build(width, *, mean, std, **options)``: `width` is the number of channels to return, `mean` and `std` (three numbers
    each) undo the normalisation of the image that the prior gets."""


@dataclass(frozen=True, kw_only=True)
class Refiner:
    """A loss between predicted masks and the task's prompts; training only, never part of a checkpoint."""

    name: str
    title: str
    build: Builder[RefinerLoss]
    """``build(prompts, *, mean, std, **options)``: `prompts` is a sequence of `Prompts`; `mean` and `std` undo the
    normalisation of the image."""
    heads: Literal["last", "all"] = "last"
    """Which decoder heads it reads unless the user says otherwise."""


@dataclass(frozen=True, kw_only=True)
class Conditioner:
    """Where a network of several tasks learns which foreground is meant: vectors that move its two queries."""

    name: str
    title: str
    build: Builder[TaskVectors]
    """``build(tasks, *, width, **options)``: `tasks` is a sequence of their names, `width` the queries' number of channels. Weights that
    only reading sentences needs are not loaded here: a checkpoint has the vectors that came of them."""


Description: TypeAlias = Task | Backbone | Enhancer | Refiner | Conditioner


@runtime_checkable
class StagedBackbone(Protocol):
    """What a backbone plugin builds: an `nn.Module` whose four stages are run one by one, so that a prior can act between them.

    A plain transformer carries one stream of tokens through its stages: `enter` hands on what the stage before returned. A
    pyramid computes its four maps in `begin`; its `enter` gives the map of that stage and `run` returns it.
    """

    widths: tuple[int, int, int, int]
    """Channels of the four stages."""
    heads: int
    """Attention heads that suit the last width; interactions use as many."""
    pyramid: bool
    """True where the four maps have strides 4, 8, 16, 32; false where all stages work on one grid."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def begin(self, image: Tensor) -> Any:
        """Normalised images `[B, 3, H, W]`, H and W multiples of 32, to whatever the stages need."""

    def enter(self, state: Any, stage: int) -> tuple[Tensor, tuple[int, int]]:
        """The tokens `[B, N, widths[stage]]` that stage `stage` (0 to 3) starts from, and their grid (rows, columns)."""

    def run(self, state: Any, stage: int, tokens: Tensor) -> Tensor:
        """The stage's output `[B, N, widths[stage]]`, also kept in `state` for the next one."""

    def parameter_groups(self) -> Sequence[nn.Module]:
        """The layers in the order of depth, for layer-wise learning rates. Several of one class are called as modules, so that they can be
        recomputed in the backward pass, and sharded over processes."""


@runtime_checkable
class Prior(Protocol):
    """What an enhancer plugin builds: an `nn.Module`."""

    def __call__(self, image: Tensor) -> Sequence[Tensor]:
        """Normalised images `[B, 3, H, W]` to four maps `[B, width, H/s, W/s]` for the strides s = 4, 8, 16, 32."""


@runtime_checkable
class ShowsImage(Protocol):
    """What a built prior may offer besides its maps, so that ``focus explain`` can show the image that it makes them from."""

    def image_seen(self, image: Tensor) -> Tensor:
        """Normalised images `[B, 3, H, W]` to what is made of them, RGB `[B, 3, H, W]` in 0..1."""


@runtime_checkable
class RefinerLoss(Protocol):
    """What a refiner plugin builds: an `nn.Module`. Its parameters, if any are trainable, are trained along."""

    def __call__(self, image: Tensor, mask_logits: Tensor) -> Tensor:
        """Normalised images `[B, 3, H, W]` and mask logits `[L, B, 2, h, w]` (L decoder heads; foreground, then background,
        as matched to the truth) to one scalar, the mean over heads and images."""


@runtime_checkable
class TaskVectors(Protocol):
    """What a conditioner plugin builds: an `nn.Module`, part of the network and of its checkpoint."""

    vectors: nn.Parameter
    """`[T, 2, D]`: of each task, in the order that ``build`` was given, one for the foreground and one for the background. Trained along
    where it requires gradients."""
    options: Mapping[str, Any]
    """With these ``build`` gives a module of the same shapes, without a look at anything else."""

    def __call__(self, vectors: Tensor) -> Tensor:
        """Vectors `[B, 2, D]` to what is added to the foreground and the background query of each image, `[B, 2, width]`; zero before
        training, so that a network starts from what it is without it."""


@runtime_checkable
class ReadsPrompts(Protocol):
    """What a built conditioner may offer besides, where its vectors are made of sentences."""

    def prompt_vectors(self, tasks: Sequence[Sequence[Prompts]]) -> Tensor:
        """The prompt pairs of T tasks, averaged for each, to vectors `[T, 2, D]`. Raises `WeightsError` where the text encoder cannot be
        loaded."""


@runtime_checkable
class ReadsExamples(Protocol):
    """What a built conditioner may offer besides, where its vectors are made of images with masks."""

    def example_vectors(self, features: Tensor, inside: Tensor, outside: Tensor) -> Tensor:
        """Mask features `[..., N, width, h, w]` of N examples and how much of each place is foreground and background, `[..., N, h, w]` in
        0..1, to vectors `[..., 2, D]`."""


@runtime_checkable
class PromptJudge(Protocol):
    """What a built refiner may offer besides its loss, so that ``focus prompts try`` can compare prompts with it."""

    def region_features(self, image: Tensor, visibility: Tensor) -> Tensor:
        """Normalised images `[B, 3, H, W]` and R parts of each to look at, `[B, R, h, w]` in 0..1 (1 is seen), to features
        `[B, R, D]` of length one."""

    def prompt_features(self, pairs: Sequence[Prompts]) -> Tensor:
        """P prompt pairs to features `[P, 2, D]` of length one; the higher the product with a region's, the better it fits."""
