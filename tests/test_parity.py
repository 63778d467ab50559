"""Number for number with the authors' release: the same weights and images through our network, stage by stage.

Fixtures were made by the authors' code on a CPU in float32. A part of them lies in ``data/release``; where the larger originals are at
hand (``../shared/reference``), they are compared too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import torch
import torch.nn.functional as F
from focus_plugins.enhancers.edge_prior import ReleaseOverlay, release_edge_image
from support.release import REFERENCE, fixture, released_shapes, released_state
from torch import Tensor

from focus_framework.checkpoint.importing import Released, read_release
from focus_framework.inference.model import Model, Prepared
from focus_framework.model.encoder import to_tokens
from focus_framework.model.joint import release_mask, semantic_maps

pytestmark = [pytest.mark.parity, pytest.mark.usefixtures("single_thread")]

ACTIVATION = 1e-4
PROBABILITY = 1e-5
PIXELS = 0.005


@pytest.fixture(scope="module")
def io() -> dict[str, Tensor]:
    return fixture("tiny_io")


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Released]:
    """The fixtures' network out of a file like a released one."""
    path = tmp_path_factory.mktemp("release") / "tiny_sod.pth"
    torch.save({"model": released_state(released_shapes("tiny"))}, path)
    found = read_release(path)
    found.network.load_state_dict(found.state, assign=True)
    found.network.eval()
    yield found
    path.unlink()


@dataclass
class Run:
    """What one pass through the network showed, by the fixtures' names."""

    model: Model
    seen: dict[str, Tensor] = field(default_factory=dict)
    blocked: list[Tensor] = field(default_factory=list)

    def see(self, name: str):
        def hook(module, arguments, output) -> None:
            self.seen[name] = output

        return hook


@pytest.fixture(scope="module")
def run(released: Released, io: dict[str, Tensor]) -> Run:
    network = released.network
    encoder, decoder = network.encoder, network.decoder
    run = Run(Model(released.config, network, released.description))
    vit, stage = encoder.backbone.vit, encoder.backbone.per_stage

    def prior(module, arguments, output) -> None:
        run.seen["edge.c1"] = output[0]
        run.seen |= {f"edge.c{level}": to_tokens(output[level - 1]) for level in (2, 3, 4)}

    def interaction(index: int):
        def hook(module, arguments, output) -> None:
            run.seen[f"interaction{index}.x"] = arguments[2]
            run.seen[f"interaction{index}.c"] = output

        return hook

    def class_token(index: int):
        def hook(module, arguments, output) -> None:
            run.seen[f"interaction{index}.cls"] = output[:, :1]

        return hook

    def pixels(module, arguments, output) -> None:
        run.seen |= {f"backbone.res{level + 2}": features for level, features in enumerate(arguments[0])}
        run.seen["pixel_decoder.mask_features"] = output.mask_features
        run.seen |= {f"pixel_decoder.multi_scale.{level}": features for level, features in enumerate(output.levels)}

    hooks = [
        encoder.prior.overlay.register_forward_hook(run.see("edge.input")),
        encoder.prior.register_forward_hook(prior),
        *(encoder.extractors[index].register_forward_hook(interaction(min(index, 3))) for index in range(6)),
        *(vit.blocks[(index + 1) * stage - 1].register_forward_hook(class_token(index)) for index in range(4)),
        network.pixel_decoder.register_forward_hook(pixels),
        decoder.layers[-1].register_forward_hook(run.see("queries")),
        *(layer.register_forward_pre_hook(lambda module, arguments: run.blocked.append(arguments[4])) for layer in decoder.layers),
    ]
    with torch.no_grad():
        run.seen["backbone.input"] = run.model.normalise(io["image"].float() / 255)
        heads = network(run.seen["backbone.input"], all_heads=True)
    for hook in hooks:
        hook.remove()
    last = len(heads.class_logits) - 1
    for index in range(last + 1):
        prefix = f"decoder.aux{index}." if index < last else "decoder."
        run.seen |= {
            f"{prefix}pred_logits": heads.class_logits[index],
            f"{prefix}pred_masks": heads.mask_logits[index],
            f"{prefix}pred_boxes": heads.boxes[index],
        }
    run.seen["decoder.binary_token"] = run.seen["queries"].transpose(0, 1)
    return run


STAGES = {
    "normalised image": (["backbone.input"], ACTIVATION),
    "edge image": (["edge.input"], 0.0),
    "edge prior, 1/4": (["edge.c1"], ACTIVATION),
    "edge prior, 1/8 to 1/32": (["edge.c2", "edge.c3", "edge.c4"], ACTIVATION),
    **{f"interaction {i}, tokens": ([f"interaction{i}.x"], ACTIVATION) for i in range(4)},
    **{f"interaction {i}, prior": ([f"interaction{i}.c"], ACTIVATION) for i in range(4)},
    "class token": ([f"interaction{i}.cls" for i in range(4)], ACTIVATION),
    **{f"backbone output 1/{4 * 2**i}": ([f"backbone.res{i + 2}"], ACTIVATION) for i in range(4)},
    "mask features": (["pixel_decoder.mask_features"], ACTIVATION),
    "pixel decoder 1/32, 1/16, 1/8": ([f"pixel_decoder.multi_scale.{i}" for i in range(3)], ACTIVATION),
    **{
        f"decoder head {i}, {what}": ([f"decoder.{f'aux{i}.' if i < 3 else ''}pred_{what}"], ACTIVATION)
        for i in range(4)
        for what in ("logits", "masks", "boxes")
    },
    "queries": (["decoder.binary_token"], ACTIVATION),
}


@pytest.mark.parametrize("stage", STAGES)
def test_stage(stage: str, run: Run, io: dict[str, Tensor], deviations) -> None:
    names, allowed = STAGES[stage]
    here = [name for name in names if name in io]
    if not here:
        pytest.skip(f"{', '.join(names)}: only in the larger fixtures, {REFERENCE} is absent")
    for name in here:
        deviations.check(stage, run.seen[name], io[name], allowed)


def test_attention_masks(run: Run, io: dict[str, Tensor], deviations) -> None:
    """Ours are what a layer gets: a row that blocks everything is opened; theirs are from before that."""
    assert len(run.blocked) == 3
    for index, ours in enumerate(run.blocked):
        theirs = io[f"decoder.attn_mask{index}"].bool()
        theirs = theirs & ~theirs.all(2, keepdim=True)
        deviations.check("attention masks", ours, theirs, 0.0, "share")


def test_semantic_maps_and_masks(run: Run, io: dict[str, Tensor], deviations) -> None:
    pixels = run.seen["backbone.input"]
    size = (pixels.shape[2], pixels.shape[3])
    masks = run.model.probabilities([Prepared(picture, size, size) for picture in pixels])
    logits = F.interpolate(run.seen["decoder.pred_masks"], size, mode="bilinear", align_corners=False)
    maps = semantic_maps(run.seen["decoder.pred_logits"], logits)
    for index in range(2):
        if f"result{index}.sem_seg" in io:
            deviations.check("semantic map", maps[index], io[f"result{index}.sem_seg"], PROBABILITY)
        deviations.check("final mask", masks[index], io[f"result{index}.mask"], PIXELS, "share")


def test_image_of_odd_size(run: Run, io: dict[str, Tensor], deviations) -> None:
    """117 x 150 pixels: padded after normalisation, un-padded, resized to 227 x 303."""
    normalised = run.model.normalise(io["odd.image"].float() / 255)
    height, width = normalised.shape[1:]
    padded = F.pad(normalised, (0, -width % 32, 0, -height % 32))
    prepared = Prepared(padded, (height, width), tuple(io["odd.result0.mask"].shape))
    with torch.no_grad():
        heads = run.model.network(padded[None])
    for name, ours in zip(("logits", "masks", "boxes"), heads, strict=True):
        deviations.check("odd size, decoder", ours[-1], io[f"odd.decoder.pred_{name}"], ACTIVATION)
    deviations.check("odd size, final mask", run.model.probabilities([prepared])[0], io["odd.result0.mask"], PIXELS, "share")
    if "odd.result0.sem_seg" in io:
        logits = F.interpolate(heads.mask_logits[-1], padded.shape[1:], mode="bilinear", align_corners=False)[..., :height, :width]
        logits = F.interpolate(logits, prepared.source, mode="bilinear", align_corners=False)
        deviations.check("odd size, semantic map", semantic_maps(heads.class_logits[-1], logits)[0], io["odd.result0.sem_seg"], PROBABILITY)


def test_steps_of_the_edge_image(io: dict[str, Tensor], deviations) -> None:
    if "edge.stage_rgb_uint8_hwc" not in io:
        pytest.skip(f"only in the larger fixtures, {REFERENCE} is absent")
    for index, picture in enumerate(io["edge.stage_rgb_uint8_hwc"]):
        ours = torch.from_numpy(release_edge_image(picture.numpy())).permute(2, 0, 1)
        deviations.check("edge image of the same bytes", ours.float() / 255, io["edge.input"][index], 0.0)


def test_the_releases_mask_rule(deviations) -> None:
    ops = fixture("ops")
    cases = sorted({name.split(".")[1] for name in ops if name.startswith("merge.")})
    assert len(cases) == 9
    for case in cases:
        logits, masks = ops[f"merge.{case}.logits"][None], ops[f"merge.{case}.mask_logits"][None]
        deviations.check("semantic map, nine cases", semantic_maps(logits, masks)[0], ops[f"merge.{case}.sem_seg"], PROBABILITY)
        deviations.check("mask rule, nine cases", release_mask(logits, masks)[0], ops[f"merge.{case}.mask"], 0.0, "share")


def test_edge_image(deviations) -> None:
    ops = fixture("ops")
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    normalised = (ops["inject.image"].float() / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    ours = ReleaseOverlay()(normalised)
    deviations.check("edge image", ours, ops["inject.output"], 0.0)
