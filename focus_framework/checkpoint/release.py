"""The authors' released checkpoints: what each of their keys is called here, and the configuration that their shapes imply.

Nothing is assumed of a size that can be read from a shape. Three things cannot be: that every attention to deformed places has four
points, that the ViT has as many heads as its interactions, and that the edge branch is a ResNet-50. They hold in all ten files.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import WeightsError

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

POINTS = 4
TASKS = {"cod": "camouflage", "sod": "salient", "sd": "shadow", "dbd": "defocus", "fd": "forgery"}
VARIANTS = {
    (1024, 24, 16, 4096, False): "large",
    (1536, 40, 24, 8192, True): "giant",
}
"""Width, depth, heads, first feed-forward width and whether that is gated: the sizes of DINOv2's ViTs."""

_PAIR = r"(weight|bias)"
TRAINING_ONLY = re.compile(
    r"criterion\.empty_weight|sem_seg_head\.predictor\.("
    rf"(text|image)_embed\.((projection|fc|layer_norm|bn1)\.{_PAIR}|bn1\.(running_mean|running_var|num_batches_tracked))"
    r"|clip_refiner\.(non_object_embedding|pixel_mean|pixel_std)"
    r"|clip_refiner\.clip_model\.(visual\.)?("
    r"positional_embedding|class_embedding|mask_embedding|text_projection|proj|logit_scale|(conv1|token_embedding)\.weight"
    rf"|(ln_pre|ln_post|ln_final)\.{_PAIR}"
    rf"|transformer\.resblocks\.\d+\.(attn\.in_proj_{_PAIR}|(attn\.out_proj|ln_1|ln_2|mlp\.c_fc|mlp\.c_proj)\.{_PAIR})))"
)
"""Keys of the CLIP refiner, of its two projections and of the loss; a network that predicts has no use for them."""

_VIT, _PIXEL, _PREDICTOR = "encoder.backbone.vit.", "sem_seg_head.pixel_decoder.", "sem_seg_head.predictor."
_GATED = (
    ("backbone.blocks.#.mlp.w12.", f"{_VIT}blocks.#.mlp.fc1."),
    ("backbone.blocks.#.mlp.w3.", f"{_VIT}blocks.#.mlp.fc2."),
)
_PREFIXES = (
    *_GATED,
    ("backbone.blocks.#.gamma1", f"{_VIT}blocks.#.ls1.gamma"),
    ("backbone.blocks.#.gamma2", f"{_VIT}blocks.#.ls2.gamma"),
    ("backbone.blocks.", f"{_VIT}blocks."),
    ("backbone.patch_embed.", f"{_VIT}patch_embed."),
    ("backbone.pos_embed", f"{_VIT}pos_embed"),
    ("backbone.cls_token", f"{_VIT}cls_token"),
    *((f"backbone.edge.fc{level + 1}.", f"encoder.prior.project.{level}.") for level in range(4)),
    ("backbone.edge.", "encoder.prior.trunk."),
    ("backbone.interactions.#.injector.attn.", "encoder.injectors.#.attention."),
    ("backbone.interactions.#.injector.feat_norm.", "encoder.injectors.#.prior_norm."),
    ("backbone.interactions.#.injector.", "encoder.injectors.#."),
    ("backbone.interactions.#.extractor.attn.", "encoder.extractors.#.attention."),
    ("backbone.interactions.#.extractor.feat_norm.", "encoder.extractors.#.token_norm."),
    ("backbone.interactions.#.extractor.ffn_norm.", "encoder.extractors.#.feedforward_norm."),
    ("backbone.interactions.#.extractor.ffn.dwconv.dwconv.", "encoder.extractors.#.feedforward.depthwise."),
    ("backbone.interactions.#.extractor.ffn.", "encoder.extractors.#.feedforward."),
    ("backbone.interactions.#.extractor.", "encoder.extractors.#."),
    ("backbone.level_embed", "encoder.level_embed"),
    ("backbone.up.", "encoder.up."),
    *((f"backbone.norm{level + 1}.", f"encoder.norms.{level}.") for level in range(4)),
    (f"{_PIXEL}transformer.encoder.layers.#.self_attn.", "pixel_decoder.layers.#.attention."),
    (f"{_PIXEL}transformer.encoder.layers.", "pixel_decoder.layers."),
    (f"{_PIXEL}transformer.level_embed", "pixel_decoder.level_embed"),
    (f"{_PIXEL}input_proj.", "pixel_decoder.inputs."),
    (f"{_PIXEL}adapter_1.norm.", "pixel_decoder.lateral.1."),
    (f"{_PIXEL}adapter_1.", "pixel_decoder.lateral.0."),
    (f"{_PIXEL}layer_1.norm.", "pixel_decoder.output.1."),
    (f"{_PIXEL}layer_1.", "pixel_decoder.output.0."),
    (f"{_PIXEL}mask_features.", "pixel_decoder.mask_features."),
    (f"{_PREDICTOR}transformer_cross_attention_layers.#.multihead_attn.", "decoder.layers.#.cross_attention."),
    (f"{_PREDICTOR}transformer_cross_attention_layers.#.norm.", "decoder.layers.#.cross_norm."),
    (f"{_PREDICTOR}transformer_self_attention_layers.#.self_attn.", "decoder.layers.#.self_attention."),
    (f"{_PREDICTOR}transformer_self_attention_layers.#.norm.", "decoder.layers.#.self_norm."),
    (f"{_PREDICTOR}transformer_ffn_layers.#.norm.", "decoder.layers.#.feedforward_norm."),
    (f"{_PREDICTOR}transformer_ffn_layers.", "decoder.layers."),
    (f"{_PREDICTOR}decoder_norm.", "decoder.norm."),
    (f"{_PREDICTOR}query_feat.weight", "decoder.query_content"),
    (f"{_PREDICTOR}query_embed.weight", "decoder.query_position"),
    (f"{_PREDICTOR}level_embed.weight", "decoder.level_embed"),
    (f"{_PREDICTOR}class_embed.", "decoder.class_head."),
    (f"{_PREDICTOR}mask_embed.", "decoder.mask_head."),
    (f"{_PREDICTOR}bbox_embed.", "decoder.box_head."),
)
"""Beginning of a key of theirs and of ours, # a number. The first row that fits counts, in both directions."""

_EXTRA = "backbone.interactions.3.extra_extractors."


def is_release(keys: Iterable[str]) -> bool:
    """Whether these are the keys of one of the authors' checkpoints; one that misses some, or has others, is one too."""
    names = set(keys)
    parts = ("backbone.edge.", "backbone.interactions.", _PIXEL, _PREDICTOR)
    return all(any(name.startswith(part) for name in names) for part in parts)


def our_name(key: str) -> str | None:
    """Our name of a key of theirs; None for one that serves training only, and for one that is neither."""
    if key.startswith(_EXTRA):  # they count the further extractors of the last stage from zero, we go on counting
        number, _, rest = key.removeprefix(_EXTRA).partition(".")
        key = f"backbone.interactions.{4 + int(number)}.extractor.{rest}" if number.isdigit() else key
    return next((name for theirs, ours in _PREFIXES if (name := _replaced(key, theirs, ours))), None)


def their_name(key: str, *, gated: bool) -> str:
    """Their name of a key of ours; `gated` says whether the ViT's feed-forward layers are (giant)."""
    rows = _PREFIXES if gated else _PREFIXES[len(_GATED) :]
    name = next((name for theirs, ours in rows if (name := _replaced(key, ours, theirs))), key)
    stage = re.match(r"backbone\.interactions\.(\d+)\.extractor\.", name)
    if stage and int(stage[1]) >= 4:
        name = f"{_EXTRA}{int(stage[1]) - 4}.{name[stage.end() :]}"
    return name


def _replaced(key: str, beginning: str, other: str) -> str | None:
    match = re.match(re.escape(beginning).replace(r"\#", r"(\d+)"), key)
    if not match:
        return None
    return (other.replace("#", match[1]) if "#" in other else other) + key[match.end() :]


def variant(shapes: Shapes) -> str:
    """``large``, ``giant``, or ``""`` for sizes that were never released."""
    return VARIANTS.get(_vit_sizes(shapes), "")


def implied_settings(shapes: Shapes) -> dict[str, Any]:
    """The configuration, by dotted path, of the network that has these keys and shapes (theirs). Raises `WeightsError` for a key
    without which it cannot be told."""
    width = _shape(shapes, "backbone.patch_embed.proj.weight")[0]
    extractor = "backbone.interactions.0.extractor."
    layer = f"{_PIXEL}transformer.encoder.layers.0."
    heads = _shape(shapes, f"{layer}self_attn.attention_weights.weight")[0] // (3 * POINTS)
    _check_widths(shapes, _shape(shapes, f"{layer}linear1.weight")[1])
    return {
        **_backbone(shapes),
        "enhancer.name": "edge-release",
        "enhancer.options.trunk": "resnet50",
        "enhancer.points": POINTS,
        "enhancer.ratio": _share(_shape(shapes, f"{extractor}attn.value_proj.weight")[0], width),
        "enhancer.feedforward_ratio": _share(_shape(shapes, f"{extractor}ffn.fc1.weight")[0], width),
        "enhancer.extra_extractors": _count(shapes, r"backbone\.interactions\.3\.extra_extractors\.(\d+)\."),
        "pixel_decoder.width": _shape(shapes, f"{layer}linear1.weight")[1],
        "pixel_decoder.layers": _count(shapes, r"sem_seg_head\.pixel_decoder\.transformer\.encoder\.layers\.(\d+)\."),
        "pixel_decoder.heads": heads,
        "pixel_decoder.points": POINTS,
        "pixel_decoder.feedforward": _shape(shapes, f"{layer}linear1.weight")[0],
        "decoder.layers": _count(shapes, r"sem_seg_head\.predictor\.transformer_self_attention_layers\.(\d+)\."),
        "decoder.heads": heads,  # one setting of theirs, for both
        "decoder.feedforward": _shape(shapes, f"{_PREDICTOR}transformer_ffn_layers.0.linear1.weight")[0],
    }


def _check_widths(shapes: Shapes, width: int) -> None:
    """One width goes through both decoders; their code would allow three, none of the released files has them."""
    masks, queries = _shape(shapes, f"{_PIXEL}mask_features.weight")[0], _shape(shapes, f"{_PREDICTOR}query_feat.weight")[1]
    if {masks, queries} != {width}:
        raise WeightsError(f"pixel decoder, mask features and queries are {width}, {masks} and {queries} wide; they must have one width")


def _backbone(shapes: Shapes) -> dict[str, Any]:
    """A DINOv2 by its timm name where the sizes are those of one, else a plain ViT of these sizes."""
    width, depth, heads, hidden, gated = _vit_sizes(shapes)
    patch = _shape(shapes, "backbone.patch_embed.proj.weight")[2]
    trained = round((_shape(shapes, "backbone.pos_embed")[1] - 1) ** 0.5) * patch
    if name := variant(shapes):
        return {"backbone.name": f"vit_{name}_patch14_dinov2", "backbone.weights": "none", "backbone.options.img_size": trained}
    options = {
        "embed_dim": width,
        "depth": depth,
        "num_heads": heads,
        "patch_size": patch,
        "img_size": trained,
        "init_values": 1.0 if "backbone.blocks.0.gamma1" in shapes else 0.0,
        "mlp_ratio": _share(hidden, width),
        "gated_mlp": gated,
    }
    return {"backbone.name": "vit", "backbone.weights": "none", **{f"backbone.options.{key}": value for key, value in options.items()}}


def _vit_sizes(shapes: Shapes) -> tuple[int, int, int, int, bool]:
    gated = is_gated(shapes)
    first = f"backbone.blocks.0.mlp.{'w12' if gated else 'fc1'}.weight"
    heads = _shape(shapes, "backbone.interactions.0.extractor.attn.attention_weights.weight")[0] // POINTS
    hidden, width = _shape(shapes, first)
    return width, _count(shapes, r"backbone\.blocks\.(\d+)\."), heads, hidden, gated


def is_gated(shapes: Shapes) -> bool:
    """Whether the ViT's feed-forward layers are gated (SwiGLU)."""
    return any(re.match(r"backbone\.blocks\.\d+\.mlp\.w12\.", key) for key in shapes)


def _shape(shapes: Shapes, key: str) -> Shape:
    if key not in shapes:
        nearest = difflib.get_close_matches(key, shapes, n=2)
        raise WeightsError(f"key {key!r} is missing, without which the network's sizes cannot be told; nearest: {', '.join(nearest)}")
    return shapes[key]


def _count(shapes: Shapes, pattern: str) -> int:
    """How many numbered layers there are. One that has but few of its keys does not count: its keys are strays, which are named later."""
    layers = Counter(int(match[1]) for key in shapes if (match := re.match(pattern, key)))
    most = max(layers.values(), default=0)
    return max((number + 1 for number, keys in layers.items() if 2 * keys >= most), default=0)


def _share(part: int, whole: int) -> float:
    """A ratio of which ``int(whole * ratio)`` is `part` again, whatever the rounding."""
    ratio = part / whole
    return ratio if int(whole * ratio) == part else (part + 0.5) / whole


def task_of(name: str) -> str | None:
    """The task that a file name or hub name speaks of (``focus_large_sd.pth``: shadow)."""
    words = re.split(r"[^a-z]+", name.lower())
    found = {TASKS[word] for word in words if word in TASKS} | {word for word in words if word in TASKS.values()}
    return found.pop() if len(found) == 1 else None
