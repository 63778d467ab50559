"""The card of a shared checkpoint: what the checkpoint knows of itself, in the hub's own keys and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .format import Description
from .portable import PRACTICE, dataset_of, is_public, reference_name
from .tasks import scores_of, tasks_of

LIBRARY = "focus-framework"
PIPELINE = "image-segmentation"
WEIGHTS_NAME, CARD_NAME, IMAGES_NAME = "model.safetensors", "README.md", "samples.png"
SPDX = {"Apache-2.0": "apache-2.0", "MIT": "mit", "BSD-3-Clause": "bsd-3-clause", "CC-BY-4.0": "cc-by-4.0"}
PROTOCOL = "standard"
KINDS = ("backbone", "enhancer", "refiner", "conditioner")
SNIPPET = """import focus_framework as focus

model = focus.load("hf://{repository}")
result = model.predict("photo.jpg")
result.save("overlay.png", "overlay")
"""


def card(description: Description, repository: str, *, images: bool) -> str:
    """The text of ``README.md``. `images` says whether `IMAGES_NAME` lies beside it."""
    tasks = tasks_of(description)
    names = [task["name"] for task in tasks]
    parts = [
        f"# {repository.partition('/')[2]}",
        f"A [FOCUS Framework](https://huggingface.co/models?library={LIBRARY}) model. {'; '.join(task['title'] for task in tasks)}.",
        f"```python\n{SNIPPET.format(repository=repository)}```",
        f"Or `focus predict photo.jpg --checkpoint hf://{repository}{f' --task-plugin {names[-1]}' * (len(names) > 1)}`.",
        *([f"![Image, truth and prediction of four practice images]({IMAGES_NAME})"] if images else []),
        "## What it is",
        _table(["", ""], [[name, value] for name, value in facts(description).items()]),
        "## Prompts",
        _table(
            ["foreground", "background", "from"],
            [[p["foreground"], p["background"], p["source"]] for task in tasks for p in task["prompts"]],
        ),
        "## Scores",
        *(text for task in tasks for text in ([f"### {task['name']}"] * (len(tasks) > 1) + [_scores(description, task, names)])),
    ]
    return f"---\n{_metadata(description, repository)}\n---\n\n" + "\n\n".join(parts) + "\n"


def _metadata(description: Description, repository: str) -> str:
    """The keys that the hub reads."""
    from huggingface_hub import EvalResult, ModelCardData

    licence = description.get("licence", "")
    terms: dict[str, Any] = {"license": SPDX.get(licence, "other")}
    if licence not in SPDX:
        terms["license_name"] = "see-below" if licence else "not-stated"
    parent = (description.get("parent") or {}).get("reference", "")
    data = description.get("data", "")
    names = [task["name"] for task in tasks_of(description)]
    shown = data if data == PRACTICE or is_public(data) else "images of its author's own"
    results = [
        EvalResult(
            task_type=PIPELINE,
            task_name=task["title"],
            dataset_type=shown,
            dataset_name=f"{shown}, {split}",
            dataset_split=split,
            metric_type=name,
            metric_name=f"{name} ({PROTOCOL})",
            metric_value=value,
        )
        for task in tasks_of(description)
        for split in ("validation", "test")
        for name, value in scores_of(task["name"], description.get(split) or {}, names).items()
    ]
    keys = ModelCardData(
        library_name=LIBRARY,
        pipeline_tag=PIPELINE,
        datasets=[data.removeprefix("hf://")] if is_public(data) else None,
        base_model=parent.removeprefix("hf://").partition("@")[0] if parent.startswith("hf://") else None,
        tags=[LIBRARY, "foreground-segmentation", *(task["name"] for task in tasks_of(description))],
        model_name=repository.partition("/")[2] if results else None,
        eval_results=results or None,
        **terms,
    )
    return keys.to_yaml().strip()


def _data(description: Description) -> tuple[str, str]:
    """What it was trained on, and its terms."""
    name, images = description.get("data", ""), description.get("images") or {}
    counts = f", {images['training']} images for training and {images['validation']} for validation" if images else ""
    if name == PRACTICE:
        return f"practice images of the task{counts}", "made by the task plugin, no photographs of others"
    if known := dataset_of(name):
        return f"{known.title or known.name}{counts}", known.licence or "not stated"
    return (
        f"{name}{counts}" if name.startswith("hf://") else f"images of its author's own{counts}" if name else "not stated"
    ), "not stated"


def facts(description: Description) -> dict[str, str]:
    """What a checkpoint knows of itself, by name, in words for people; no folder of the machine that made it is among them."""
    config, preprocessing = description["config"], description["preprocessing"]
    data, terms = _data(description)
    size = "square" if preprocessing["resize"] == "square" else "short side"
    plugins = [f"{plugin['kind']} {plugin['name']} ({plugin['distribution']} {plugin['version']})" for plugin in description["plugins"]]
    rows = {
        "Task": "; ".join(f"{task['name']}: {task['title']}" for task in tasks_of(description)),
        "Network": ", ".join(f"{kind} {config[kind]['name']}" for kind in KINDS if _is_told(config, kind)),
        "Parameters": f"{description['parameters']:,}",
        "Images": f"RGB, {size} of {preprocessing['size']} pixels",
        "Trained on": data,
        "Terms of the data": terms,
        "Training": f"{description['step']} steps, preset {config['preset']}" if "step" in description else "not stated",
        "Starts from": _parent(description.get("parent")),
        "Licence of the weights it started from": description.get("licence") or "not stated",
        "Versions": ", ".join([f"focus-framework {description['framework_version']}", *plugins]),
    }
    return {name: value for name, value in rows.items() if value}


def _is_told(config: Mapping[str, Any], kind: str) -> bool:
    """A network of one task has no conditioner, and need not say so."""
    return kind != "conditioner" or config.get(kind, {}).get("name", "none") != "none"


def _parent(parent: Mapping[str, Any] | None) -> str:
    if not parent:
        return "random weights, or those of its backbone"
    told = reference_name(parent["reference"])
    step = f", step {parent['step']}" if parent.get("step") is not None else ""
    return f"{told} (task {parent['task']}{step}; sha256 {parent['sha256']})"


def _scores(description: Description, task: Mapping[str, Any], tasks: Sequence[str]) -> str:
    """Its own numbers for a task beside those of non-learned baselines."""
    validation, test, baselines = (
        scores_of(task["name"], description.get(part) or {}, tasks) for part in ("validation", "test", "baselines")
    )
    if not validation and not test:
        return "None were measured."
    primary = task["primary_metric"]
    names = [name for name in task["metrics"] if name in validation or name in test]
    rows = [[name, _number(validation.get(name)), _number(test.get(name))] for name in names]
    chosen = primary if len(tasks) == 1 else f"the mean rank of all tasks, here that of {primary},"
    told = f"Evaluation protocol `{PROTOCOL}`. The best checkpoint was chosen by {chosen} on the validation images."
    parts = [told, _table(["metric", "validation", "test"], rows)]
    if baselines:
        parts += [
            f"Non-learned baselines, {primary} on the same test images:",
            _table(["baseline", primary], [[name, _number(value)] for name, value in baselines.items()]),
        ]
    return "\n\n".join(parts)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", r"\|").replace("\n", " ") for cell in line) + " |" for line in lines)
