"""The authors' released checkpoints: what each of their keys is called here, and the configuration that their shapes imply.

Nothing is assumed of a size that can be read from a shape. Three numbers cannot be: 4 sampling points, 8 heads of the ground decoder,
and as many heads in the ViT as in the interactions; they are the same in all ten released files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import WeightsError

Shape = tuple[int, ...]

POINTS = 4
DECODER_HEADS = 8
TRAINING_ONLY = re.compile(r"sem_seg_head\.predictor\.(clip_refiner|text_embed|image_embed)\.|criterion\.empty_weight$")
TASKS = {"cod": "camouflage", "sod": "salient", "sd": "shadow", "dbd": "defocus", "fd": "forgery"}
VARIANTS = {(1024, 24): "vit_large_patch14_dinov2", (1536, 40): "vit_giant_patch14_dinov2"}

_ATTENTION = {"attn.": "attention."}
# Prefix of theirs, prefix of ours, and what is replaced in the remainder. The first that fits counts, in both.
_PREFIXES: tuple[tuple[str, str, Mapping[str, str]], ...] = (
    (
        r"backbone\.(?=pos_embed|cls_token|patch_embed|blocks)",
        "encoder.backbone.vit.",
        {"gamma1": "ls1.gamma", "gamma2": "ls2.gamma", "mlp.w12.": "mlp.fc1.", "mlp.w3.": "mlp.fc2."},
    ),
    (r"backbone\.edge\.fc", "encoder.prior.project.", {}),
    (r"backbone\.edge\.", "encoder.prior.trunk.", {}),
    (r"backbone\.interactions\.(\d+)\.injector\.", r"encoder.injectors.\1.", {"feat_norm": "prior_norm", **_ATTENTION}),
    (
        r"backbone\.interactions\.(\d+)\.extractor\.",
        r"encoder.extractors.\1.",
        {"feat_norm": "token_norm", "ffn_norm": "feedforward_norm", "ffn.dwconv.dwconv": "feedforward.depthwise", "ffn.": "feedforward.", **_ATTENTION},
    ),
    (r"backbone\.norm", "encoder.norms.", {}),
    (r"backbone\.(?=level_embed|up)", "encoder.", {}),
    (r"sem_seg_head\.pixel_decoder\.transformer\.encoder\.layers\.", "pixel_decoder.layers.", {"self_attn.": "attention."}),
    (r"sem_seg_head\.pixel_decoder\.transformer\.", "pixel_decoder.", {}),
    (r"sem_seg_head\.pixel_decoder\.adapter_1\.", "pixel_decoder.lateral.", {"norm.": "1.", "weight": "0.weight"}),
    (r"sem_seg_head\.pixel_decoder\.layer_1\.", "pixel_decoder.output.", {"norm.": "1.", "weight": "0.weight"}),
    (r"sem_seg_head\.pixel_decoder\.", "pixel_decoder.", {"input_proj.": "inputs."}),
    (
        r"sem_seg_head\.predictor\.transformer_self_attention_layers\.(\d+)\.",
        r"decoder.layers.\1.",
        {"self_attn.": "self_attention.", "norm.": "self_norm."},
    ),
    (
        r"sem_seg_head\.predictor\.transformer_cross_attention_layers\.(\d+)\.",
        r"decoder.layers.\1.",
        {"multihead_attn.": "cross_attention.", "norm.": "cross_norm."},
    ),
    (r"sem_seg_head\.predictor\.transformer_ffn_layers\.(\d+)\.", r"decoder.layers.\1.", {"norm.": "feedforward_norm."}),
    (
        r"sem_seg_head\.predictor\.",
        "decoder.",
        {
            "decoder_norm.": "norm.",
            "query_feat.weight": "query_content",
            "query_embed.weight": "query_position",
            "level_embed.weight": "level_embed",
            "class_embed.": "class_head.",
            "mask_embed.": "mask_head.",
            "bbox_embed.": "box_head.",
        },
    ),
)  # fmt: skip


def is_release(keys: Iterable[str]) -> bool:
    """Whether these are the keys of one of the authors' checkpoints."""
    names = set(keys)
    return "sem_seg_head.predictor.query_feat.weight" in names and "backbone.edge.conv1.weight" in names


def our_name(key: str) -> str | None:
    """Our name of a key of theirs; None for what serves training only. Raises `WeightsError` for a key that is neither."""
    if TRAINING_ONLY.match(key):
        return None
    extra = re.match(r"backbone\.interactions\.3\.extra_extractors\.(\d+)\.(.*)", key)
    if extra:
        key = f"backbone.interactions.{4 + int(extra[1])}.extractor.{extra[2]}"
    for pattern, prefix, replacements in _PREFIXES:
        match = re.match(pattern, key)
        if match:
            rest = key[match.end() :]
            for theirs, ours in replacements.items():
                if theirs in rest:
                    rest = rest.replace(theirs, ours, 1)
                    break
            if pattern.endswith((r"\.fc", r"\.norm")):  # theirs count from one
                number, _, leaf = rest.partition(".")
                rest = f"{int(number) - 1}.{leaf}" if number.isdigit() else rest
            return match.expand(prefix) + rest
    raise WeightsError(f"key {key!r} belongs to no part of a released checkpoint")


def implied_settings(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    """The configuration, by dotted path, of the network that has these keys and shapes (theirs)."""

    def shape(key: str) -> Shape:
        if key not in shapes:
            raise WeightsError(f"key {key!r} is missing; this is not a whole released checkpoint")
        return shapes[key]

    def count(pattern: str) -> int:
        return len({match[1] for key in shapes if (match := re.match(pattern, key))})

    width, _, patch, _ = shape("backbone.patch_embed.proj.weight")
    depth = count(r"backbone\.blocks\.(\d+)\.")
    extractor = "backbone.interactions.0.extractor."
    heads = shape(f"{extractor}attn.attention_weights.weight")[0] // POINTS
    grid = round((shape("backbone.pos_embed")[1] - 1) ** 0.5)
    pixel = "sem_seg_head.pixel_decoder."
    layer = f"{pixel}transformer.encoder.layers.0."
    pixel_width = shape(f"{pixel}mask_features.weight")[0]
    return {
        **_backbone(shapes, width=width, depth=depth, heads=heads, patch=patch, image=grid * patch),
        "enhancer.name": "edge-release",
        "enhancer.options.trunk": "resnet50",
        "enhancer.points": POINTS,
        "enhancer.ratio": shape(f"{extractor}attn.value_proj.weight")[0] / width,
        "enhancer.feedforward_ratio": shape(f"{extractor}ffn.fc1.weight")[0] / width,
        "enhancer.extra_extractors": count(r"backbone\.interactions\.3\.extra_extractors\.(\d+)\."),
        "pixel_decoder.width": pixel_width,
        "pixel_decoder.layers": count(r"sem_seg_head\.pixel_decoder\.transformer\.encoder\.layers\.(\d+)\."),
        "pixel_decoder.heads": shape(f"{layer}self_attn.attention_weights.weight")[0] // (3 * POINTS),
        "pixel_decoder.points": POINTS,
        "pixel_decoder.feedforward": shape(f"{layer}linear1.weight")[0],
        "decoder.layers": count(r"sem_seg_head\.predictor\.transformer_self_attention_layers\.(\d+)\."),
        "decoder.heads": DECODER_HEADS,
        "decoder.feedforward": shape("sem_seg_head.predictor.transformer_ffn_layers.0.linear1.weight")[0],
        "decoder.first_mask": "release",
        "prediction.rule": "release",
        "preprocessing.resize": "short-side",
        "preprocessing.size": 512,
        "preprocessing.longest": 2048,
    }


def _backbone(shapes: Mapping[str, Shape], *, width: int, depth: int, heads: int, patch: int, image: int) -> dict[str, Any]:
    """A DINOv2 by its timm name where the sizes are those of one, else a plain ViT of these sizes."""
    if name := VARIANTS.get((width, depth)):
        return {"backbone.name": name, "backbone.weights": "none", "backbone.options.img_size": image}
    gated = "backbone.blocks.0.mlp.w12.weight"
    options = {
        "embed_dim": width,
        "depth": depth,
        "num_heads": heads,
        "patch_size": patch,
        "img_size": image,
        "init_values": 1.0,
        "mlp_ratio": shapes[gated if gated in shapes else "backbone.blocks.0.mlp.fc1.weight"][0] / width,
        "gated_mlp": gated in shapes,
    }
    return {"backbone.name": "vit", "backbone.weights": "none", **{f"backbone.options.{k}": v for k, v in options.items()}}


def task_of(name: str) -> str | None:
    """The task that a file name or hub name speaks of (``focus_large_sd.pth``: shadow)."""
    words = re.split(r"[^a-z]+", name.lower())
    found = {TASKS[word] for word in words if word in TASKS} | {word for word in words if word in TASKS.values()}
    return found.pop() if len(found) == 1 else None
