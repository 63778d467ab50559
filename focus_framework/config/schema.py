"""A run's configuration: every setting a pydantic field, with its type, range and description."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

SMALLEST_TILE = 64
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.1, 10.0


PART = "part"
"""In the context of a validation: the values are a part of a configuration, which need not fit together."""
LARGEST = (1 << 63) - 1
"""Whole numbers beyond this fit into nothing that they are given to."""


class Section(BaseModel):
    """A table of the configuration file: unknown keys are refused, values never change after the run is set up."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @field_validator("*", mode="after")
    @classmethod
    def _within_reason(cls, value: Any) -> Any:
        if isinstance(value, int) and abs(value) > LARGEST:
            raise ValueError(f"should lie within {-LARGEST} and {LARGEST}")
        return value


class PluginChoice(Section):
    """A plugin by name, and what its builder is given."""

    name: str = Field("none", description="a plugin of this kind, or none")
    options: dict[str, Any] = Field({}, description="what the plugin's builder is given; focus plugins info NAME lists them")


class BackboneConfig(PluginChoice):
    """The network that turns an image into features."""

    name: str = Field(
        "vit_large_patch14_dinov2", description="a backbone plugin, a network of timm, or auto: the one with installed weights"
    )
    weights: str = Field("pretrained", description="pretrained, none, or a file of weights")
    frozen: bool = Field(False, description="train only what comes after the backbone (paper, Table 4)")


class EnhancerConfig(PluginChoice):
    """The prior that the backbone looks up between its stages (docs/method.md, 3 to 6)."""

    name: str = Field("edge", description="an enhancer plugin, or none")
    points: int = Field(4, ge=1, le=1000, description="sampling points of injector and extractor, per head and level")
    ratio: float = Field(0.5, gt=0, le=1, description="width of their values as a share of the backbone's")
    feedforward_ratio: float = Field(
        0.25, gt=0, description="hidden width of the extractors' feed-forward layers as a share of the backbone's"
    )
    drop_path: float = Field(0.0, ge=0, lt=1, description="stochastic depth of the extractors' feed-forward layers")
    extra_extractors: int = Field(2, ge=0, le=1000, description="further extractors after the last stage")


class PixelDecoderConfig(Section):
    """The encoder of deformable attention that turns backbone features into mask features."""

    width: int = Field(256, ge=32, le=1 << 16, multiple_of=32, description="channels; group norm makes 32 groups of them")
    layers: int = Field(6, ge=1, le=1000, description="encoder layers")
    heads: int = Field(8, ge=1, le=1024, description="attention heads; they divide the width")
    points: int = Field(4, ge=1, le=1000, description="sampling points per head and level")
    feedforward: int = Field(1024, ge=1, le=1 << 20, description="hidden width of the feed-forward layers")


class DecoderConfig(Section):
    """The two ground queries and their masked attention."""

    layers: int = Field(9, ge=1, le=1000, description="decoder layers; each is followed by a prediction, and one comes before the first")
    heads: int = Field(8, ge=1, le=1024, description="attention heads; they divide the pixel decoder's width")
    feedforward: int = Field(2048, ge=1, le=1 << 20, description="hidden width of the feed-forward layers")
    first_mask: Literal["pca", "queries", "open", "release"] = Field(
        "pca",
        description="what the first layer may look at: PCA of the last feature map (paper), the learned queries' own mask, everything, "
        "or as the release does",
    )


class LossConfig(Section):
    """Weights of the four terms (docs/method.md, 12) and how masks are sampled."""

    label: float = Field(1.0, ge=0, description="weight of the cross entropy of the class")
    mask: float = Field(5.0, ge=0, description="weight of binary cross entropy and of dice, each")
    iou: float = Field(0.0, ge=0, description="weight of 1 - IoU of whole masks, which the paper does not have")
    box: float = Field(1.0, ge=0, description="weight of the box loss, 5 L1 + 2 (1 - gIoU)")
    clip: float = Field(1.0, ge=0, description="weight of the refiner's loss")
    no_object: float = Field(0.1, ge=0, description="weight of the class 'none' in the label loss")
    points: int = Field(12544, ge=1, le=1 << 24, description="points at which masks are compared")
    oversample: float = Field(3.0, ge=1, description="random points drawn, of which the most uncertain are kept, as a multiple of points")
    importance: float = Field(0.75, ge=0, le=1, description="share of points where the mask is most uncertain")


class RefinerConfig(PluginChoice):
    """The loss between masks and prompts, in training alone (docs/method.md, 11)."""

    heads: Literal["default", "last", "all"] = Field("default", description="decoder heads it reads; default: as the plugin says")


class ConditionerConfig(PluginChoice):
    """What tells a network of several tasks which one is meant (docs/one-network.md)."""

    trains: Literal["auto", "all", "vectors"] = Field(
        "auto",
        description="train all weights, or the tasks' vectors alone; auto: alone where a run with a frozen backbone starts from "
        "a checkpoint of other tasks, whose masks then stay what they are",
    )
    kept: list[str] = Field([], description="tasks of the checkpoint that stay what they are; the run finds them by itself")
    shots: int = Field(2, ge=1, le=64, description="examples that each training image brings along, where the conditioner reads examples")
    examples: int = Field(
        16,
        ge=1,
        le=1024,
        description="training images of each task that its vectors are averaged over, where the conditioner reads examples",
    )


class PromptPair(Section):
    foreground: str
    background: str


class PromptsConfig(Section):
    """The sentences that describe the task."""

    choice: str = Field("", description="one of the task's named alternatives, e.g. release")
    pairs: list[PromptPair] = Field([], description="replace the task's pairs; several are averaged after encoding")
    foreground: str = Field("", description="replaces the foreground sentence")
    background: str = Field("", description="replaces the background sentence")
    templates: list[str] = Field(["{}"], min_length=1, description="sentences into which each prompt is put, at {}")


class DataConfig(Section):
    """Pairs of image and mask."""

    train: str = Field(
        "practice",
        description="practice, a known data set's name, a folder, images=DIR,masks=DIR, a list file; of several tasks TASK=DATA,TASK=DATA",
    )
    validation: str = Field("", description="as train; empty: a share of the training pairs")
    validation_share: float = Field(0.1, ge=0, lt=1, description="share of the training pairs held out where there are no others")
    validation_limit: int = Field(200, ge=1, description="pairs looked at while training")
    root: str = Field("", description="folder that holds the published data sets")
    augmentation: Literal["none", "plain", "paper", "release"] = Field("plain", description="random changes of the training images")
    workers: int = Field(-1, ge=-1, description="loader processes; -1: as many as there are spare cores, 0: none")
    unreadable: Literal["stop", "skip"] = Field("stop", description="an image that cannot be read: stop, or take another and count it")
    shares: list[Annotated[float, Field(gt=0)]] = Field([], description="of several tasks the shares of their images; empty: equal")
    practice_count: int = Field(1024, ge=1, le=1 << 30, description="practice images drawn for training")


class PreprocessingConfig(Section):
    """How an image becomes network input; carried by the checkpoint."""

    size: int = Field(512, ge=64, le=1 << 15, multiple_of=32, description="side of the network's input in pixels")
    resize: Literal["square", "short-side"] = Field("short-side", description="stretch to size x size, or short side to size")
    longest: int = Field(2048, ge=64, le=1 << 16, description="bound of the long side")


class PredictionConfig(Section):
    """How the network's output becomes a map; carried by the checkpoint."""

    rule: Literal["soft", "release", "foreground"] = Field(
        "soft", description="joint prediction as a soft map, the release's hard rule, or the foreground query alone"
    )
    threshold: float = Field(0.5, gt=0, lt=1, description="probability above which a pixel is foreground")
    temperature: float = Field(
        1.0, ge=MIN_TEMPERATURE, le=MAX_TEMPERATURE, description="divides the log odds of the soft map: below 1 sharper, above 1 softer"
    )
    flip: bool = Field(False, description="average the maps of the image and of its mirror image")
    scales: list[Annotated[float, Field(ge=0.25, le=4)]] = Field(
        [1.0], min_length=1, description="average the maps at these multiples of the preprocessing size"
    )
    tile: int = Field(0, le=1 << 16, description="side, in pixels, of the tiles that larger images are cut into; 0: never")
    overlap: float = Field(0.25, ge=0, le=0.75, description="share of a tile that it has in common with the next one")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "fp32", description="numeric precision of the network; auto: bf16 where a trial on the first images shows it faster and no worse"
    )

    @field_validator("tile")
    @classmethod
    def _worth_a_pass(cls, tile: int) -> int:
        if tile != 0 and tile < SMALLEST_TILE:
            raise ValueError(f"should be 0 or at least {SMALLEST_TILE}")
        return tile


class TrainingConfig(Section):
    """Length, rates, memory and records of a run."""

    steps: int | None = Field(None, ge=1, description="length of the run in updates of the weights")
    minutes: float | None = Field(None, gt=0, description="time budget instead of steps; the schedule follows it")
    batch_size: int = Field(8, ge=1, description="images of a step, of all processes together")
    learning_rate: float = Field(1e-5, gt=0, description="the highest rate, of which the schedule takes a share")
    backbone_rate: float | None = Field(
        None, ge=0, description="the backbone's learning rate as a multiple of the others'; not set: 0.1 if it starts from weights, else 1"
    )
    enhancer_rate: float = Field(
        1.0, ge=0, description="learning rate of the encoder's other parts, above all the enhancer, as a multiple of the decoders'"
    )
    weight_decay: float = Field(0.05, ge=0, description="of AdamW; none on norms and learned queries")
    gradient_norm: float = Field(0.01, gt=0, description="gradients are clipped to this norm")
    schedule: Literal["polynomial", "cosine", "constant"] = Field("polynomial", description="how the learning rate falls over the run")
    warmup: float = Field(0.0, ge=0, lt=1, description="share of the run in which the rate rises linearly")
    seed: int = Field(0, ge=0, description="random seed, from which every random choice follows")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "fp32", description="numeric precision of the network; auto: bf16 where a trial before the first step shows it faster and no worse"
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")
    log_every: int = Field(20, ge=1, description="steps between lines of metrics.jsonl")
    checkpoint_every: int = Field(500, ge=1, description="steps between checkpoints; each is also scored")
    accumulate: int = Field(1, ge=1, description="micro-batches that a batch is split into, one after the other, to save memory")
    auto_batch: bool = Field(False, description="find the smallest number of parts that fits into memory")
    checkpoint_activations: bool = Field(False, description="compute transformer layers again on the way back, to save memory")
    shard: bool = Field(False, description="several processes share weights, gradients and optimizer state out (FSDP2)")
    compile: bool = Field(False, description="let torch.compile make the network faster; the first steps take minutes")
    ema: float | None = Field(None, gt=0, lt=1, description="decay of a moving average of the weights, which is then scored and saved")
    parent_share: float = Field(
        0.0, ge=0, lt=1, description="share of the weights of --init in those that are scored and saved; 0, or without --init: none"
    )
    layer_decay: float = Field(1.0, gt=0, le=1, description="each backbone layer's rate as a multiple of that of the next one")
    calibrate: bool = Field(
        False, description="fit prediction.temperature of the best checkpoint on the validation images, by their cross entropy"
    )
    patience: int | None = Field(None, ge=1, description="stop after so many checkpoints in a row that do not beat the best")
    bad_steps: int = Field(3, ge=1, description="stop after so many steps in a row without finite loss and gradients; none changes weights")
    trackers: list[Literal["tensorboard", "wandb"]] = Field(
        ["tensorboard"], description="where numbers and images are shown, besides metrics.jsonl"
    )


class RunConfig(Section):
    """Everything that a run depends on."""

    task: str = Field(description="a task plugin, module:attribute or file.py; several with commas between them")
    preset: str = Field("quick", description="where the other settings start from")
    init: str = Field("", description="the checkpoint whose weights the run starts from; empty: none")
    backbone: BackboneConfig = BackboneConfig()
    enhancer: EnhancerConfig = EnhancerConfig()
    pixel_decoder: PixelDecoderConfig = PixelDecoderConfig()
    decoder: DecoderConfig = DecoderConfig()
    loss: LossConfig = LossConfig()
    refiner: RefinerConfig = RefinerConfig()
    conditioner: ConditionerConfig = ConditionerConfig()
    prompts: PromptsConfig = PromptsConfig()
    data: DataConfig = DataConfig()
    preprocessing: PreprocessingConfig = PreprocessingConfig()
    prediction: PredictionConfig = PredictionConfig()
    training: TrainingConfig = TrainingConfig()

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks that are trained."""
        return tuple(name.strip() for name in self.task.split(","))

    @property
    def known_tasks(self) -> tuple[str, ...]:
        """Names of all tasks of the network, in the order of its vectors."""
        return (*self.conditioner.kept, *self.tasks)

    @property
    def trains_vectors_alone(self) -> bool:
        """Whether nothing is trained but the vectors of the run's tasks."""
        choice = self.conditioner
        return choice.trains == "vectors" or (choice.trains == "auto" and self.backbone.frozen and bool(choice.kept))

    @model_validator(mode="after")
    def _fits_together(self, info: ValidationInfo) -> Self:
        if (info.context or {}).get(PART):
            return self
        width = self.pixel_decoder.width
        for name, heads in (("pixel_decoder.heads", self.pixel_decoder.heads), ("decoder.heads", self.decoder.heads)):
            if width % heads:
                raise ValueError(f"{name} = {heads} does not divide pixel_decoder.width = {width}")
        patch, size = self.backbone.options.get("patch_size"), self.preprocessing.size
        if isinstance(patch, int) and patch > 0 and self.preprocessing.resize == "square" and size % patch:
            raise ValueError(
                f"backbone.options.patch_size = {patch} does not divide preprocessing.size = {size}: a border would not be seen"
            )
        if self.conditioner.name == "none" and len(self.known_tasks) > 1:
            raise ValueError(f"conditioner.name = 'none' leaves {len(self.known_tasks)} tasks without anything that tells them apart")
        if self.conditioner.name == "none" and self.conditioner.trains == "vectors":
            raise ValueError("conditioner.trains = 'vectors' needs a conditioner, e.g. conditioner.name = 'prompt'")
        own = [name for name in ("foreground", "background", "pairs") if getattr(self.prompts, name)]
        if own and len(self.tasks) > 1:
            raise ValueError(f"prompts.{own[0]} says it for one task, and {len(self.tasks)} are trained; leave it out")
        if self.data.shares and len(self.data.shares) != len(self.tasks):
            raise ValueError(f"data.shares has {len(self.data.shares)} numbers for {len(self.tasks)} task(s)")
        plan = self.training
        if plan.batch_size % plan.accumulate:
            raise ValueError(f"training.accumulate = {plan.accumulate} does not divide training.batch_size = {plan.batch_size}")
        return self
