"""Frozen networks that compare images with sentences (open_clip), and the base of refiners that show masks to them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import Any, Literal, TypeAlias, cast, get_args

import kornia
import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import ConfigError, WeightsError, did_you_mean
from ..interfaces import Prompts
from .prompts import check_length

Fill: TypeAlias = Literal["mean", "blur"]
Precision: TypeAlias = Literal["auto", "fp32", "bf16"]
SIDES = ("foreground", "background")
logger = logging.getLogger(__name__)


class RegionRefiner(nn.Module):
    """Base of refiners that compare what two masks show of an image with two prompts; a subclass says with which loss.

    Nothing of the encoder is trained or saved, and prompts are encoded once, here.
    """

    text: Tensor
    """Features of the foreground and the background prompt `[2, D]`, of length one."""

    def __init__(
        self,
        encoder: ImageTextEncoder,
        prompts: Sequence[Prompts],
        *,
        mean: Sequence[float],
        std: Sequence[float],
        fill: Fill = "mean",
    ) -> None:
        """`mean` and `std` undo the normalisation of the images to come; several `prompts` are averaged after encoding."""
        super().__init__()
        self.encoder = encoder
        self.mean, self.std = tuple(mean), tuple(std)
        self.fill: Fill = fill
        self.register_buffer("text", encode_prompts(encoder, prompts), persistent=False)

    def forward(self, image: Tensor, mask_logits: Tensor) -> Tensor:
        """Normalised images `[B, 3, H, W]` and mask logits `[L, B, 2, h, w]` to the mean loss of heads and images, float32."""
        with torch.autocast(image.device.type, enabled=False):
            return self.loss(self.features(image.float(), mask_logits.float().sigmoid()))

    def loss(self, features: Tensor) -> Tensor:
        """Features of the regions `[L, B, 2, D]`, of length one, against `text`: one scalar."""
        raise NotImplementedError

    def features(self, image: Tensor, visibility: Tensor) -> Tensor:
        """Features `[..., B, R, D]`, of length one, of the regions `[..., B, R, h, w]` of normalised images: one pass for all."""
        pictures = image * column(self.std, image) + column(self.mean, image)
        crops = show_regions(pictures, visibility, size=self.encoder.size, mean=self.encoder.mean, fill=self.fill)
        features = self.encoder.encode_image(crops.flatten(0, -4))
        return F.normalize(features, dim=-1).view(*crops.shape[:-3], -1)

    @torch.no_grad()
    def region_features(self, image: Tensor, visibility: Tensor) -> Tensor:
        """See `focus_framework.plugin.interfaces.PromptJudge`."""
        return self.features(image, visibility)

    def prompt_features(self, pairs: Sequence[Prompts]) -> Tensor:
        """See `focus_framework.plugin.interfaces.PromptJudge`."""
        return torch.stack([encode_prompts(self.encoder, [pair]) for pair in pairs]).to(self.text.device)


class ImageTextEncoder:
    """An open_clip model that is only ever read: no gradient reaches its weights, and it is always in eval mode.

    It is no `nn.Module` on purpose. A module that keeps one as an attribute has none of its weights among its own parameters,
    so neither a checkpoint, an optimizer nor a count of parameters meets them. It follows the device of what it is given.

    `precision` is that of the image encoder: "auto" is bf16 on an accelerator and fp32 on the CPU; sentences, few and encoded
    once, are always encoded in fp32. `checkpointing` recomputes activations in the backward pass instead of keeping them.
    """

    def __init__(self, model: nn.Module, tokenizer: Any, *, precision: Precision = "auto", checkpointing: bool = False) -> None:
        if precision not in get_args(Precision):
            raise ConfigError(f"refiner option precision = {precision!r}; allowed: {', '.join(get_args(Precision))}")
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.precision = precision
        preprocessing = open_clip.get_model_preprocess_cfg(model)
        side = preprocessing["size"]
        self.size: tuple[int, int] = (side, side) if isinstance(side, int) else tuple(side)
        """Rows and columns of the images that it takes."""
        self.mean: tuple[float, ...] = tuple(preprocessing["mean"])
        self.std: tuple[float, ...] = tuple(preprocessing["std"])
        if checkpointing:
            model.set_grad_checkpointing()  # type: ignore[operator]  # every open_clip model has it

    def encode_image(self, pictures: Tensor) -> Tensor:
        """Images `[N, 3, *size]` in 0..1 to features `[N, D]` float32, not normalised; differentiable."""
        accelerated = pictures.device.type != "cpu"
        dtype = torch.bfloat16 if self.precision == "bf16" or (self.precision == "auto" and accelerated) else torch.float32
        self.model.to(pictures.device)
        mean, std = (column(values, pictures) for values in (self.mean, self.std))
        with torch.autocast(pictures.device.type, torch.bfloat16, enabled=dtype is torch.bfloat16):
            return self.model.encode_image((pictures - mean) / std).float()  # type: ignore[operator]

    @torch.no_grad()
    def encode_text(self, sentences: Sequence[str]) -> Tensor:
        """Sentences to features `[N, D]` float32, not normalised. Raises `ConfigError` where one is too long for the model."""
        check_length(sentences, self.tokenizer)
        device = next(self.model.parameters()).device
        with torch.autocast(device.type, enabled=False):
            return self.model.encode_text(self.tokenizer(list(sentences)).to(device)).float()  # type: ignore[operator]


def load_encoder(model: str, weights: str, *, precision: Precision = "auto", checkpointing: bool = False) -> ImageTextEncoder:
    """An encoder by open_clip's name of it.

    `model` is a name of `open_clip.list_models()`, or ``local-dir:FOLDER`` or ``hf-hub:OWNER/NAME``, which have their own weights.
    `weights` is a file, a tag of `open_clip.list_pretrained_tags_by_model`, or ``"random"`` (the same numbers every time).
    Raises `ConfigError` where a name is unknown, `WeightsError` where weights cannot be loaded or do not fit.
    """
    known = open_clip.list_models()
    if ":" not in model and model not in known:
        raise ConfigError(f"open_clip has no model {model!r}; {did_you_mean(model, known)}")
    if weights != "random" and not Path(weights).is_file():
        logger.info("refiner: looking for the weights %s of open_clip model %s, on this machine and then on the hub", weights, model)
    try:
        with _quietly():
            network = _load_network(model, weights)
            tokenizer = open_clip.get_tokenizer(model)
    except Exception as error:  # whatever open_clip, the hub, the reader of a file or a tokenizer raises
        if isinstance(error, ConfigError):
            raise
        reason = shorten(str(error), 240)
        raise WeightsError(
            f"weights {weights!r} of open_clip model {model} cannot be loaded: {reason}\n"
            "Give a file with --clip-weights FILE, or train without the refiner: --refiner none"
        ) from error
    if weights == "random":
        logger.warning("refiner: the weights of %s are random, as asked; its loss means nothing", model)
    return ImageTextEncoder(network, tokenizer, precision=precision, checkpointing=checkpointing)


def _load_network(model: str, weights: str) -> nn.Module:
    file = weights if Path(weights).is_file() else None
    if weights == "random" or file:
        with torch.random.fork_rng():  # the run's own random numbers stay what they are, and so do these when it is resumed
            torch.manual_seed(0)
            network = open_clip.create_model(model, load_weights=False, pretrained_text=False)
        if file:
            open_clip.load_checkpoint(network, file)
        return cast(nn.Module, network)
    if ":" in model:
        return cast(nn.Module, open_clip.create_model(model, require_pretrained=True))
    tags = open_clip.list_pretrained_tags_by_model(model)
    if weights not in tags:
        raise ConfigError(f"weights {weights!r} of {model} are neither a file nor a tag; {did_you_mean(weights, [*tags, 'random'])}")
    quick_gelu = open_clip.get_pretrained_cfg(model, weights).get("quick_gelu", False)  # create_model only warns of it
    return cast(nn.Module, open_clip.create_model(model, weights, require_pretrained=True, force_quick_gelu=quick_gelu))


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep open_clip's own messages back: they come a second time in our errors and warnings."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


def column(values: Sequence[float], like: Tensor) -> Tensor:
    """One number a channel as `[3, 1, 1]`, with the device and dtype of `like`."""
    return torch.tensor(values, device=like.device, dtype=like.dtype).view(-1, 1, 1)


def encode_prompts(encoder: ImageTextEncoder, pairs: Sequence[Prompts]) -> Tensor:
    """The pairs' foreground and background feature `[2, D]`: each sentence's of length one, averaged over pairs, of length one."""
    sentences = [getattr(pair, side) for side in SIDES for pair in pairs]
    features = F.normalize(encoder.encode_text(sentences), dim=-1).unflatten(0, (2, len(pairs)))
    return F.normalize(features.mean(1), dim=-1)


def show_regions(pictures: Tensor, visibility: Tensor, *, size: tuple[int, int], mean: Sequence[float], fill: Fill) -> Tensor:
    """What is seen of each image through each mask, the rest filled in.

    `pictures` `[B, 3, H, W]` in 0..1; `visibility` `[..., B, 2, h, w]` in 0..1, 1 where the image is seen. The rest shows the
    colour `mean`, or with fill "blur" the image itself without its details. The result is `[..., B, 2, 3, *size]` in 0..1.
    The whole image is stretched to `size`: CLIP's usual centre crop would cut regions off. Laying masks over the small image
    instead of making a large one for each mask gives the same crops and costs the image's resize once.
    """
    small = F.interpolate(pictures, size, mode="bicubic", antialias=True).clamp(0, 1)
    masks = F.interpolate(visibility.flatten(0, -4), size, mode="bilinear", antialias=True)
    masks = masks.view(*visibility.shape[:-2], 1, *size)
    if fill == "mean":
        rest = column(mean, small).expand_as(small)
    elif fill == "blur":
        sigma = max(size) / 16  # an object's shape is gone, the light of its surroundings is left
        reach = 2 * round(2 * sigma) + 1
        rest = kornia.filters.gaussian_blur2d(small, (reach, reach), (sigma, sigma), border_type="replicate")
    else:
        raise ConfigError(f"refiner option fill = {fill!r}; allowed: {', '.join(get_args(Fill))}")
    return rest.unsqueeze(-4) + masks * (small - rest).unsqueeze(-4)
