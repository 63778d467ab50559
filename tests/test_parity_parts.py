"""Number for number with the authors' release: its building blocks, and the faults of the release that ours must not have."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from focus_plugins.enhancers.edge_prior import release_edge_image
from focus_plugins.enhancers.release_edges import release_edge_images
from sklearn.decomposition import PCA
from support.release import REFERENCE, fixture, weight
from torch import Tensor

from focus_framework.config.layers import resolve
from focus_framework.model.build import build_network
from focus_framework.model.deformable_attention import DeformableAttention, grid_references
from focus_framework.model.first_mask import THRESHOLD, first_mask_logits, foreground_score, principal_component
from focus_framework.model.pixel_decoder import sine_positions
from focus_framework.ops import deform_attn
from focus_framework.plugin.kit.image_text import show_regions

pytestmark = [pytest.mark.parity, pytest.mark.usefixtures("single_thread")]

CPU = torch.device("cpu")
DOUBLE = 1e-10
MODULE_SEED = 11
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)


@pytest.fixture(scope="module")
def ops() -> dict[str, Tensor]:
    return fixture("ops")


def photographs() -> Tensor:
    """Images `[4, 3, 96, 130]` of whole numbers: soft and hard edges, weak and strong ones, noise, and one without any."""
    noise = torch.randint(0, 256, (4, 3, 96, 130), generator=torch.Generator().manual_seed(1)).float()
    soft = [
        noise[0],
        F.avg_pool2d(noise[1:2], 5, 1, 2)[0],
        3 * (F.avg_pool2d(noise[2:3], 11, 1, 5)[0] - 127) + 127,
        torch.full_like(noise[3], 200),
    ]
    return torch.stack(soft).clamp(0, 255).round()


@pytest.mark.parametrize("source", ["fixtures", "other images"])
def test_edge_image_on_the_device(source: str, deviations) -> None:
    """OpenCV's steps in integers: not 99 % of the edges but all bytes, so that an accelerator needs no trip to the host."""
    pictures = fixture("tiny_io")["image"] if source == "fixtures" else photographs()
    theirs = [release_edge_image(picture) for picture in pictures.to(torch.uint8).permute(0, 2, 3, 1).numpy()]
    expected = torch.from_numpy(np.stack(theirs)).permute(0, 3, 1, 2)
    deviations.check("edge image on the device", release_edge_images(pictures), expected, 0.0)


def needs(data: dict[str, Tensor], name: str) -> Tensor:
    if name not in data:
        pytest.skip(f"{name}: only in the larger fixtures, {REFERENCE} is absent")
    return data[name]


def test_deformable_attention_and_its_gradients(ops: dict[str, Tensor], deviations) -> None:
    names = ("value", "sampling_locations", "attention_weights")
    value, locations, weights = (ops[f"msda.{name}"].clone().requires_grad_() for name in names)
    shapes = [(int(height), int(width)) for height, width in ops["msda.spatial_shapes"]]
    output = deform_attn(value, shapes, locations, weights)
    deviations.check("deformable attention, float64", output.detach(), ops["msda.output"], DOUBLE)
    output.backward(ops["msda.grad_output"])
    for name, tensor in zip(names, (value, locations, weights), strict=True):
        deviations.check("deformable attention, gradients, float64", tensor.grad, ops[f"msda.grad_{name}"], DOUBLE)


def test_deformable_attention_module(ops: dict[str, Tensor], deviations) -> None:
    query = needs(ops, "msda_module.query")
    module = DeformableAttention(32, heads=4, levels=3, points=4, value_ratio=0.5)
    module.load_state_dict({name: weight(MODULE_SEED, name, tuple(tensor.shape)) for name, tensor in module.state_dict().items()})
    shapes = [(int(height), int(width)) for height, width in ops["msda.spatial_shapes"]]
    with torch.no_grad():
        output = module(query, ops["msda_module.reference_points"], ops["msda_module.input_flatten"], shapes)
    deviations.check("deformable attention, module", output, ops["msda_module.output"], 1e-5)


def test_reference_points(ops: dict[str, Tensor], deviations) -> None:
    grid, pyramid = [(9, 11)], [(16, 20), (8, 10), (4, 5)]  # of an image of 128 x 160 and patches of 14
    for index, (queries, values) in {1: (grid, pyramid), 2: (pyramid, grid)}.items():
        assert ops[f"deform_inputs.{index}.spatial_shapes"].tolist() == [list(shape) for shape in values]
        deviations.check("reference points", grid_references(queries, CPU), ops[f"deform_inputs.{index}.reference_points"], 1e-6)


@pytest.mark.parametrize(("width", "height", "columns"), [(64, 5, 7), (256, 16, 16)])
def test_sine_positions(width: int, height: int, columns: int, ops: dict[str, Tensor], deviations) -> None:
    theirs = needs(ops, f"pos.sine_1x{width}x{height}x{columns}")
    deviations.check("sine positions", sine_positions((height, columns), width, CPU), theirs, 1e-5)


@pytest.mark.parametrize("grid", [(9, 11), (36, 36), (37, 37), (40, 53)])
def test_position_embedding_of_the_backbone(grid: tuple[int, int], ops: dict[str, Tensor], deviations) -> None:
    theirs = needs(ops, f"pos.vit_{grid[0]}x{grid[1]}")
    options = {"embed_dim": 16, "depth": 4, "num_heads": 2, "patch_size": 14, "img_size": 518}
    settings = {"backbone.name": "vit", "backbone.weights": "none", **{f"backbone.options.{key}": value for key, value in options.items()}}
    backbone = build_network(resolve("salient", preset="baseline", options=settings).config).encoder.backbone
    with torch.no_grad():
        backbone.vit.pos_embed.copy_(ops["pos.vit_in"])
        deviations.check("position embedding", backbone._positions(grid)[1], theirs, 1e-5)


def test_principal_component(ops: dict[str, Tensor], deviations) -> None:
    """The release projects all images of a batch together; so ours is asked for them as one image. The sign is arbitrary."""
    tokens = ops["pca.tokens"].flatten(0, 1)
    ours = principal_component(tokens[None])[0]
    theirs = ops["pca.projection"][:, 0]
    ours = ours * torch.sign(ours.double() @ theirs)
    deviations.check("principal component", ours, theirs, 1e-5, "relative")
    exact = torch.from_numpy(PCA(1, svd_solver="full").fit_transform(tokens.double().numpy())[:, 0])
    deviations.check("principal component, scikit-learn", ours * torch.sign(ours.double() @ exact), exact, 1e-5, "relative")


def test_principal_component_of_each_image(ops: dict[str, Tensor], deviations) -> None:
    """What ours does: a component for every image, in 0..1, the border low."""
    tokens = ops["pca.tokens"]
    for ours, picture in zip(foreground_score(tokens, (9, 11))[:, 0], tokens, strict=True):
        scores = PCA(1, svd_solver="full").fit_transform(picture.double().numpy()).reshape(9, 11)
        border = np.ones((9, 11), dtype=bool)
        border[1:-1, 1:-1] = False
        scores = -scores if scores[border].mean() > scores.mean() else scores
        exact = torch.from_numpy((scores - scores.min()) / np.ptp(scores))
        deviations.check("first mask, scikit-learn", ours, exact, 1e-5)
        assert ((ours > THRESHOLD) == (exact > THRESHOLD)).all()


def test_the_releases_first_mask_hides_nothing_and_ours_does(ops: dict[str, Tensor]) -> None:
    """Theirs is compared with one half after a sigmoid, which of 0 and 1 makes 0.5 and 0.73: never below."""
    mask = ops["pca.attn_interp_4x5"]
    assert set(mask.unique().tolist()) == {0, 1}
    assert not (mask.sigmoid() < 0.5).any()
    assert not ops["pca.attn_mask_label0"].any()
    foreground, background = (first_mask_logits(ops["pca.tokens"], (9, 11)) < 0).unbind(1)
    assert foreground.any()
    assert background.any()
    assert torch.equal(foreground, ~background)


def test_the_release_shows_clip_a_flat_image_and_ours_does_not() -> None:
    """Normalised twice, the release's image has a standard deviation of 0.14 and its crops of foreground and background one feature."""
    step, picture = fixture("tiny_train"), fixture("tiny_io")["image"].float() / 255
    recorded = step["clip.first_visual_input_mean_std"]
    features = step["clip.call0.image_feature_raw"]
    assert recorded[1] < 0.2
    assert F.cosine_similarity(features[0], features[1], dim=0) > 0.9999
    assert step["clip.first_region_mask_min_max"][0] >= 0.5  # so that the other region is only halved
    regions = torch.stack([step["gt0.masks"], step["gt1.masks"]]).float()
    crops = show_regions(picture, regions, size=(224, 224), mean=CLIP_MEAN, fill="mean")
    normalised = (crops - torch.tensor(CLIP_MEAN).view(3, 1, 1)) / 0.27
    assert normalised.std() > 0.3
    outside = 1 - F.interpolate(regions, (224, 224), mode="bilinear", antialias=True)
    assert (normalised.abs() * (outside[:, :, None] > 0.999)).max() < 1e-5  # the other region is not seen at all
