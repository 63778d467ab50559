"""The figures of these pages, from practice images alone: no photograph has a part in them.

python docs/figures.py                 the drawings of the architecture
python docs/figures.py --runs runs     and what trained networks see: runs/TASK/best.safetensors of all five tasks, each made by
                                       focus train --task-plugin TASK --seed 1 --out runs/TASK
python docs/figures.py --tuned DIR     and what fine-tuning gives: DIR/others and DIR/tuned as the page on fine-tuning makes them
python docs/figures.py --refined DIR   and features with and without a refiner: DIR/without, DIR/with, DIR/other-seed as explain.md says
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from drawing import Drawing
from PIL import Image, ImageDraw, ImageFont

FOLDER = Path(__file__).parent / "figures"
TASKS = ("salient", "camouflage", "shadow", "defocus", "forgery")
SEED, SIZE, EXAMPLES = 1, 128, 2
GAP, HEAD, SIDE = 6, 22, 92


def image_way() -> Drawing:
    """From file to mask, with the shapes of `paper-large` at 512 x 512."""
    d = Drawing(620, 1030)
    file = d.box("data", 190, 14, 240, "image file", "files: any format, EXIF, 8 bits")
    ready = d.box("data", 170, 98, 280, "prepared image", "resized, normalised, padded", "[B, 3, 512, 512]")
    edge = d.box("plugin", 20, 206, 260, "edge image", "enhancer: Canny edges laid over", "[B, 3, 512, 512]")
    tokens = d.box("plugin", 340, 206, 260, "patches to tokens", "backbone: DINOv2-L, 36 x 36 patches", "[B, 1296, 1024]")
    prior = d.box(
        "plugin", 20, 312, 260, "edge prior", "ResNet-50; c1 stays apart", "[B, 1024, 128, 128]", "[B, 5376, 1024] = 64² + 32² + 16²"
    )
    stages = d.box("model", 340, 330, 260, "4 stages of 6 blocks", "injector before, extractor after each", "[B, 1296, 1024] each")
    fused = d.box("model", 150, 448, 320, "fusion", "c1 + edge maps + stage outputs", "[B, 1024, 128 | 64 | 32 | 16, same]")
    pixels = d.box("model", 20, 556, 280, "pixel decoder", "6 layers of deformable attention", "[B, 256, 64 | 32 | 16, same]")
    features = d.box("model", 340, 556, 260, "mask features", "step up to 1/4", "[B, 256, 128, 128]")
    first = d.box("model", 20, 664, 280, "first attention mask", "principal component of the last stage", "[B, 2, 36, 36]")
    decoder = d.box("model", 340, 664, 260, "ground decoder", "2 queries, 9 layers, 10 heads")
    heads = d.box("model", 150, 772, 320, "predictions of a head", "[B, 2, 3] class, [B, 2, 4] box", "[B, 2, 128, 128] mask logits")
    mask = d.box("result", 20, 890, 250, "joint prediction", "last head, at source size", "[H, W] in 0..1", "mask, cutout, metrics")
    loss = d.box(
        "result", 330, 890, 270, "losses (training)", "all heads, matched to 2 targets", "label + mask + box + refiner", "[] one number"
    )
    d.down(file, ready)
    d.arrow((230, ready.y + ready.height), (230, 190), (150, 190), (150, edge.y))
    d.arrow((390, ready.y + ready.height), (390, 190), (470, 190), (470, tokens.y))
    d.down(edge, prior)
    d.down(tokens, stages)
    d.arrow((280, 352), (338, 352))
    d.arrow((340, 378), (282, 378))
    d.arrow((200, prior.y + prior.height), (200, fused.y))
    d.arrow((420, stages.y + stages.height), (420, fused.y))
    d.arrow((220, fused.y + fused.height), (220, pixels.y))
    d.arrow((300, 589), (338, 589))
    d.arrow((300, 618), (320, 618), (320, 684), (338, 684))
    d.arrow((570, features.y + features.height), (570, decoder.y))
    d.arrow((300, 704), (338, 704))
    d.arrow((590, stages.y + stages.height), (590, 430), (610, 430), (610, 745), (160, 745), (160, first.y + first.height + 1), dashed=True)
    d.arrow((420, decoder.y + decoder.height), (420, heads.y))
    d.arrow((210, heads.y + heads.height), (210, mask.y))
    d.arrow((410, heads.y + heads.height), (410, loss.y))
    d.legend(1000)
    return d


def prompt_way() -> Drawing:
    """From a plugin's sentences to the loss, and what is kept of them."""
    d = Drawing(620, 722)
    task = d.box("plugin", 20, 14, 270, "task plugin", "prompts, named alternatives")
    user = d.box("data", 330, 14, 270, "the user", "--foreground-prompt, --set, file")
    chosen = d.box(
        "data",
        150,
        106,
        320,
        "choice of prompts (config)",
        "pairs, the source of each side beside it",
        "P pairs of (foreground, background)",
    )
    shown = d.box("result", 440, 214, 160, "focus prompts show", "text and source")
    templates = d.box("data", 150, 214, 250, "templates", "each sentence at {}")
    text = d.box("plugin", 20, 306, 280, "text encoder (frozen), once a run", "mean over pairs, length one", "[2, D]")
    masks = d.box("model", 330, 306, 270, "predicted masks, all or last head", "matched: foreground, background", "[L, B, 2, h, w]")
    crops = d.box("plugin", 330, 414, 270, "crops", "mask over image, the rest filled in", "[L, B, 2, 3, S, S]")
    image = d.box("plugin", 330, 522, 270, "image encoder (frozen)", "length one", "[L, B, 2, D]")
    loss = d.box("result", 20, 522, 270, "contrastive loss, times loss.clip", "both directions, halves averaged", "[] one number")
    d.box("result", 20, 640, 580, "checkpoint: the pairs, no weights of the refiner")
    d.arrow((200, task.y + task.height), (200, chosen.y))
    d.arrow((420, user.y + user.height), (420, chosen.y))
    d.down(chosen, templates)
    d.arrow((456, chosen.y + chosen.height), (456, shown.y), dashed=True)
    d.arrow((220, templates.y + templates.height), (220, text.y))
    d.arrow((155, text.y + text.height), (155, loss.y))
    d.down(masks, crops)
    d.down(crops, image)
    d.arrow((330, 556), (292, 556))
    d.arrow((150, 152), (8, 152), (8, 655), (18, 655), dashed=True)
    d.legend(692)
    return d


def sheet(rows: Sequence[tuple[str, Sequence[np.ndarray]]], heads: Sequence[str]) -> Image.Image:
    """Rows of images `[SIZE, SIZE]` or `[SIZE, SIZE, 3]`, uint8, with names at the left and above."""
    columns = len(heads)
    page = Image.new("RGB", (SIDE + columns * (SIZE + GAP), HEAD + len(rows) * (SIZE + GAP)), "white")
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(13)
    for column, head in enumerate(heads):
        draw.text((SIDE + column * (SIZE + GAP) + SIZE / 2, HEAD / 2), head, "black", font, anchor="mm")
    for row, (name, images) in enumerate(rows):
        top = HEAD + row * (SIZE + GAP)
        draw.text((GAP, top + SIZE / 2), name, "black", font, anchor="lm")
        for column, image in enumerate(images):
            page.paste(
                Image.fromarray(image).convert("RGB").resize((SIZE, SIZE), Image.Resampling.NEAREST), (SIDE + column * (SIZE + GAP), top)
            )
    return page


def grey(values: np.ndarray) -> np.ndarray:
    """`[H, W]` in 0..1 as uint8."""
    return np.round(values * 255).astype(np.uint8)


def tasks_figure(runs: Path) -> Image.Image:
    """The first practice images of the test part of each task, which no training has seen, with masks and predictions."""
    import focus_framework as focus
    from focus_framework.plugin.kit.practice import practice_pair
    from focus_framework.plugin.registry import registry

    rows = []
    for name in TASKS:
        task = registry().get("task", name)
        model = focus.load(runs / name / "best.safetensors")
        row: list[np.ndarray] = []
        for index in range(EXAMPLES):
            image, mask = practice_pair(task, seed=SEED, split="test", index=index, size=SIZE)
            row += [image, grey(mask), grey(model.predict(image).probability)]
        rows.append((name, row))
    return sheet(rows, ["image", "mask", "prediction"] * EXAMPLES)


def tuned_figure(folder: Path) -> Image.Image:
    """The first images of ``others``, none of them trained on: what the parent finds, and what the run that started from it does."""
    import focus_framework as focus

    models = [focus.load("starter-salient"), focus.load(folder / "tuned" / "best.safetensors")]
    rows = []
    for index, path in enumerate(sorted((folder / "others" / "images").iterdir())[: 2 * EXAMPLES], 1):
        image, mask = (Image.open(place) for place in (path, folder / "others" / "masks" / f"{path.stem}.png"))
        found = [grey(model.predict(path).probability) for model in models]
        rows.append((f"image {index}", [np.asarray(image), np.asarray(mask.convert("L")), *found]))
    return sheet(rows, ["image", "mask", "starter-salient", "fine-tuned"])


def features_figure(runs: Path) -> Image.Image:
    """What the network makes of an image on its way: one row a task."""
    import focus_framework as focus
    from focus_framework.plugin.kit.practice import practice_pair
    from focus_framework.plugin.registry import registry

    rows = []
    for name in TASKS:
        image, _ = practice_pair(registry().get("task", name), seed=SEED, split="test", index=0, size=SIZE)
        rows.append((name, [image, *seen(focus.load(runs / name / "best.safetensors"), image)]))
    return sheet(rows, ["image", "edge image", "first mask", "mask features", "head 0", "last head"])


REFINED = {"without": "no refiner", "with": "CLIP, random", "other-seed": "no refiner, seed 2"}


def refined_figure(folder: Path) -> Image.Image:
    """Features and masks of three networks, as ``focus explain`` shows them: the paper's Figure 4, with a control."""
    import focus_framework as focus
    from focus_framework.evaluation.errors import border_width, near_border
    from focus_framework.inference.explain.views import Colours
    from focus_framework.plugin.kit.practice import practice_pair
    from focus_framework.plugin.registry import registry

    pairs = [practice_pair(registry().get("task", "salient"), seed=SEED, split="test", index=index, size=SIZE) for index in range(8)]
    columns, images = [], [[image, grey(mask)] for image, mask in pairs]
    for name, title in REFINED.items():
        explained = [focus.load(folder / name / "best.safetensors").explain(image) for image, _ in pairs]
        colours = Colours(explained[:4])
        for part in ("stage.4", "mask_features"):
            told = [
                apart(each.tensors[part].numpy(), mask, near_border(mask, border_width(mask)))
                for each, (_, mask) in zip(explained, pairs, strict=True)
            ]
            print(f"{name}, {part}: {np.mean(told):.3f} of the variance lies between foreground and background")
        for row, each in zip(images, explained, strict=False):
            row += [colours("mask_features", each.tensors["mask_features"]), grey(each.result.probability)]
        columns += [title, "mask"]
    return sheet([(f"image {number}", row) for number, row in enumerate(images[:4], 1)], ["image", "truth", *columns])


def apart(features: np.ndarray, mask: np.ndarray, near: np.ndarray) -> float:
    """The share of the variance of features `[C, h, w]` that lies between foreground and background, without what is near the border."""
    size = features.shape[:0:-1]
    inside, left = (np.asarray(Image.fromarray(part).resize(size, Image.Resampling.NEAREST)).ravel() for part in (mask, near))
    flat = features.reshape(len(features), -1).T[~left]
    inside = inside[~left]
    means = [flat[side].mean(0) for side in (inside, ~inside)]
    between = sum(side.mean() * ((mean - flat.mean(0)) ** 2).sum() for side, mean in zip((inside, ~inside), means, strict=True))
    return float(between / flat.var(0).sum())


def seen(model: object, image: np.ndarray) -> list[np.ndarray]:
    """Edge image, first attention mask, mask features as colours, foreground mask of the first and of the last head."""
    import torch

    from focus_framework.model.first_mask import foreground_score

    network, kept = model.network, {}  # type: ignore[attr-defined]
    parts = {"edge": network.encoder.prior.overlay, "encoder": network.encoder, "pixels": network.pixel_decoder}
    hooks = [part.register_forward_hook(lambda _m, _i, out, name=name: kept.__setitem__(name, out)) for name, part in parts.items()]
    with torch.inference_mode():
        heads = network(model.prepare(image).pixels[None], all_heads=True)  # type: ignore[attr-defined]
    for hook in hooks:
        hook.remove()
    edge = (kept["edge"][0].permute(1, 2, 0) * model.std.view(3) + model.mean.view(3)).clamp(0, 1)  # type: ignore[attr-defined]
    score = foreground_score(kept["encoder"].last, kept["encoder"].grid)[0, 0]
    classes = heads.class_logits.softmax(-1)[:, 0, :, 0]  # [L, 2]
    masks = [grey(heads.mask_logits[level, 0, classes[level].argmax()].sigmoid().numpy()) for level in (0, -1)]
    return [grey(edge.numpy()), grey(score.numpy()), colours(kept["pixels"].mask_features[0].numpy()), *masks]


def colours(features: np.ndarray) -> np.ndarray:
    """The three main directions of features `[C, h, w]` as red, green and blue."""
    flat = features.reshape(len(features), -1).T
    flat = flat - flat.mean(0)
    scores = flat @ np.linalg.svd(flat, full_matrices=False)[2][:3].T
    low, high = np.percentile(scores, [1, 99], axis=0)
    return grey(np.clip((scores - low) / (high - low), 0, 1)).reshape(*features.shape[1:], 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, help="folder with a run for each of the five tasks")
    parser.add_argument("--tuned", type=Path, help="folder with the rendered images and the run of the page on fine-tuning")
    parser.add_argument("--refined", type=Path, help="folder with the three runs of the page See inside")
    given = parser.parse_args()
    runs = given.runs
    FOLDER.mkdir(exist_ok=True)
    for name, drawing in (("architecture-image", image_way()), ("architecture-prompt", prompt_way())):
        (FOLDER / f"{name}.svg").write_text(drawing.svg(), "utf-8")
    if runs:
        for name, figure in (("tasks", tasks_figure(runs)), ("features", features_figure(runs))):
            figure.save(FOLDER / f"{name}.jpg", quality=88, optimize=True)
    if given.tuned:
        tuned_figure(given.tuned).save(FOLDER / "tuned.jpg", quality=88, optimize=True)
    if given.refined:
        refined_figure(given.refined).save(FOLDER / "refined.jpg", quality=88, optimize=True)
    for path in sorted(FOLDER.iterdir()):
        print(f"{path.stat().st_size / 1000:6.1f} kB  {path}")


if __name__ == "__main__":
    main()
