"""What a network of timm can give, found out by asking it: its maps, their strides, and the sizes of image that it takes.

Nothing here knows a network by its name. Each is built without weights and run on the meta device, where shapes flow and no numbers.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import timm
import torch
from timm.models._features import FeatureGetterNet, FeatureInfo
from torch.overrides import TorchFunctionMode

from focus_framework import ConfigError

MULTIPLE = 32
"""Height and width of what the framework hands in."""
ANY_SIZE: tuple[Mapping[str, Any], ...] = ({}, {"dynamic_img_size": True}, {"strict_img_size": False}, {"global_pool": "none"})
"""The ways in which timm's networks are told to take any size; the first are those that need no telling, the last those that only
pool squares of patches (Gemma's)."""
RANDOM = (torch.Tensor.uniform_, torch.Tensor.normal_, torch.Tensor.erfinv_)


@dataclass(frozen=True)
class Offer:
    """How to build a network, and what it gives then."""

    info: FeatureInfo
    """timm's own words on the maps: ``num_chs`` and ``reduction`` of each, in the order of depth."""
    whole: bool
    """Whether the maps come from `forward_intermediates` of the whole network and not from timm's list of its parts."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """What to say to timm about the size."""
    multiple: int = MULTIPLE
    """Images are resized to the nearest multiple of it."""
    size: int | None = None
    """Images are resized to squares of this size, the only one that the network takes."""


def offers(name: str, image_size: int, options: Mapping[str, Any] | None = None) -> Iterator[Offer]:
    """The ways of building the network, with `options` for timm, that give the maps it promises; those that take any size first.

    Raises `ConfigError` where there is none, with the reason and the nearest network that has one.
    """
    count, reasons = 0, []
    options = options or {}
    image_size = options.get("img_size", image_size)
    for number, way in enumerate(_ways(name, image_size)):
        try:
            offer = _tried(name, *way, image_size, options, first=number == 0)
        except Exception as error:  # each network says in its own words what it does not know
            reasons.append(first_line(error))
        else:
            count += 1
            yield offer
    if not count:
        known = [reason for reason in reasons if "unexpected keyword" not in reason] or reasons
        raise ConfigError(
            f"backbone {name} gives no maps of features for images of {image_size} pixels: {known[-1]}{_nearest(name, image_size)}"
        )


def _ways(name: str, image_size: int) -> Iterator[tuple[bool, Mapping[str, Any], int | None]]:
    """Whole network or list of parts, what to say about the size, and the size that images then must have."""
    for arguments in ANY_SIZE:
        for whole in (False, True):
            yield whole, arguments, None
    published = timm.get_pretrained_cfg(name)
    usual = published.input_size[-1] if published and published.input_size else 224
    for size in dict.fromkeys((image_size, math.ceil(image_size / usual) * usual)):
        for whole in (False, True):
            yield whole, {"img_size": size}, size
    for whole in (False, True):
        yield whole, {}, usual


def _tried(
    name: str,
    whole: bool,
    arguments: Mapping[str, Any],
    size: int | None,
    image_size: int,
    options: Mapping[str, Any],
    *,
    first: bool = False,
) -> Offer:
    """Raises what the network raises, or `ValueError` where it gives something else than it says."""

    def body() -> Any:
        return as_feature_net(timm.create_model(name, **{**kind(whole), **options, **arguments})).eval()

    # The first is built with numbers: they were always drawn here, and a random seed is to give the same run as ever.
    with torch.device("cpu" if first else "meta"):
        shapes = body().to("meta")
    try:
        return _run(shapes, whole, arguments, size, image_size)
    except RuntimeError as error:
        if "meta tensor" not in str(error):
            raise
    with _Unfilled():
        looking = body()
    return _run(looking, whole, arguments, size, image_size)  # it looks at its numbers on the way


class _Unfilled(TorchFunctionMode):
    """Parameters are not drawn at random, which takes most of the time where there are many; those that are computed are."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in RANDOM or getattr(function, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return function(*args, **(kwargs or {}))


def _run(body: Any, whole: bool, arguments: Mapping[str, Any], size: int | None, image_size: int) -> Offer:
    device = next(body.parameters()).device
    promised = body.feature_info.channels()
    refusal: Exception | None = None
    for multiple in dict.fromkeys((size,) if size else (MULTIPLE, max(body.feature_info.reduction()))):
        height = nearest_multiple(image_size, multiple)
        try:
            with torch.no_grad():
                maps = body(torch.zeros(1, 3, height, height if size else height + multiple, device=device))
        except Exception as error:  # as in `offers`
            refusal = refusal or error
            continue
        if any(level.ndim != 4 for level in maps) or [level.shape[1] for level in maps] != promised:
            raise ValueError(f"its maps are {[tuple(level.shape) for level in maps]}, and not of {promised} channels as it says")
        return Offer(body.feature_info, whole, arguments, multiple, size)
    raise refusal or ValueError("it takes no image")


def kind(whole: bool) -> dict[str, Any]:
    """How timm is asked for the whole network, or for a list of its parts."""
    return {"num_classes": 0} if whole else {"features_only": True}


def as_feature_net(network: Any, levels: tuple[int, ...] | None = None) -> Any:
    """A whole network as one that returns the maps of `levels`, all of them unless told; timm's lists of parts do so by themselves."""
    if not hasattr(network, "forward_intermediates"):
        return network
    return FeatureGetterNet(network, levels or tuple(range(len(network.feature_info))))


def nearest_multiple(length: int, multiple: int) -> int:
    """The multiple that is nearest to a length, at least one."""
    return max(round(length / multiple), 1) * multiple


def first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _nearest(name: str, image_size: int) -> str:
    """The end of a refusal: the nearest name of timm that takes any size."""
    others = [other for other in timm.list_models() if other != name]
    for other in difflib.get_close_matches(name, others, n=5, cutoff=0.5):
        with suppress(Exception):  # it cannot either
            if _tried(other, False, {}, None, image_size, {}):
                return f". {other} can"
    return ""
