"""Which prompts a run uses, what is refused, and how prompts are scored on examples."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from focus_framework import ConfigError, Prompts, Task
from focus_framework.cli import main
from focus_framework.config.layers import resolve
from focus_framework.config.prompts import choose, read_pairs
from focus_framework.config.schema import PromptsConfig
from focus_framework.evaluation.prompts import candidates, score_pairs
from focus_framework.plugin.kit.prompts import check_length, with_templates

SHADOW = Task(
    name="shadow",
    title="Shadows",
    prompts=Prompts("a shadow", "no shadow"),
    other_prompts={"release": [Prompts("shade", "light", "release"), Prompts("dark", "bright", "release")]},
    metrics=("ber",),
    primary_metric="ber",
)


def texts(pairs: Sequence[Prompts]) -> list[tuple[str, str]]:
    return [(pair.foreground, pair.background) for pair in pairs]


# Choosing


def test_the_task_decides_unless_someone_else_does() -> None:
    (pair,) = choose(SHADOW, PromptsConfig(), plugin="focus-framework")
    assert pair == Prompts("a shadow", "no shadow", "task shadow of focus-framework")
    release = choose(SHADOW, PromptsConfig(choice="release"))
    assert texts(release) == [("shade", "light"), ("dark", "bright")]
    assert release[0].source == "task shadow, choice release"


def test_pairs_of_the_configuration_replace_the_tasks() -> None:
    given = [{"foreground": "x", "background": "y"}, {"foreground": "u", "background": "v"}]
    pairs = choose(SHADOW, PromptsConfig(pairs=given), {"prompts.pairs": "file run.toml"})
    assert pairs == (Prompts("x", "y", "file run.toml"), Prompts("u", "v", "file run.toml"))


def test_a_sentence_replaces_its_side_of_every_pair() -> None:
    sources = {"prompts.foreground": "command line"}
    one = choose(SHADOW, PromptsConfig(foreground="murk", choice="release"), sources)
    assert texts(one) == [("murk", "light"), ("murk", "bright")]
    assert one[0].source == "command line (foreground), task shadow, choice release"
    both = choose(
        SHADOW, PromptsConfig(foreground="murk", background="glow", choice="release"), sources | {"prompts.background": "command line"}
    )
    assert both == (Prompts("murk", "glow", "command line"),)


def test_sources_follow_the_layers_of_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('[prompts]\nbackground = "from the file"\n')
    resolved = resolve("shadow", file=file, options={"prompts.foreground": "from the call"})
    (pair,) = choose(SHADOW, resolved.config.prompts, resolved.sources)
    assert texts([pair]) == [("from the call", "from the file")]
    assert pair.source == f"command line (foreground), file {file} (background)"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (PromptsConfig(foreground="  "), "foreground prompt is empty"),
        (PromptsConfig(foreground="gr\udcf6sse"), "foreground prompt .* is no text"),
        (PromptsConfig(pairs=[{"foreground": "x", "background": ""}]), "background prompt is empty"),
        (PromptsConfig(foreground="no shadow"), "must differ"),
        (PromptsConfig(foreground="word " * 76), "prompt of 78 tokens, at most 77"),
        (PromptsConfig(templates=["word " * 74 + "{}"]), "prompt of 78 tokens"),
        (PromptsConfig(templates=["a photo"]), "has no {}"),
        (PromptsConfig(choice="releas"), "no prompts named 'releas'; known: release"),
        (PromptsConfig(choice="release", pairs=[{"foreground": "x", "background": "y"}]), "exclude each other"),
    ],
)
def test_what_cannot_be_used_is_refused(config: PromptsConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        choose(SHADOW, config)


def test_exactly_as_many_tokens_as_are_read_are_allowed() -> None:
    check_length(["word " * 75])  # and the marks of start and end
    check_length(["wordandword! " * 15])
    with pytest.raises(ConfigError, match="78 tokens"):
        check_length(["word " * 76])
    with pytest.raises(ConfigError, match="tokens"):
        check_length(["!" + "word " * 9999])


def test_templates_surround_each_pair_and_braces_in_prompts_are_text() -> None:
    pairs = with_templates([Prompts("{a}", "{}")], ["the {}.", "{} {}"])
    assert texts(pairs) == [("the {a}.", "the {}."), ("{a} {a}", "{} {}")]


# Pairs out of a file


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pairs.csv", 'foreground,background\nx,"y, z"\nu,v\n'),
        ("pairs.json", '[{"foreground": "x", "background": "y, z"}, {"foreground": "u", "background": "v"}]'),
        ("pairs.toml", "[[prompts.pairs]]\nforeground='x'\nbackground='y, z'\n[[prompts.pairs]]\nforeground='u'\nbackground='v'"),
    ],
)
def test_pairs_are_read_from_three_kinds_of_file(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_pairs(tmp_path / name) == (Prompts("x", "y, z", name), Prompts("u", "v", name))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("pairs.txt", "x|y", "read from .csv, .json, .toml"),
        ("pairs.csv", "front,back\nx,y", "foreground and background"),
        ("pairs.csv", "foreground,background\nx,\n", "background prompt is empty"),
        ("pairs.csv", "foreground,background\nx", "background prompt is empty"),
        ("pairs.json", "[{", "foreground and background"),
        ("pairs.json", "[]", "no prompt pairs"),
        ("pairs.json", "7", "foreground and background"),
        ("pairs.toml", "[prompts]", "foreground and background"),
        ("missing.csv", None, "does not exist"),
    ],
)
def test_a_bad_file_of_pairs_is_named(tmp_path: Path, name: str, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=message) as error:
        read_pairs(tmp_path / name)
    assert name in str(error.value)


# Scoring


class ColourJudge:
    """Features are known by hand: a region's is the mean colour seen in it, a sentence's the colour that it names."""

    COLOURS = {"red": (1.0, 0.0, 0.0), "green": (0.0, 1.0, 0.0), "blue": (0.0, 0.0, 1.0)}  # noqa: RUF012  # never changed

    def region_features(self, image: torch.Tensor, visibility: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(torch.einsum("bchw,brhw->brc", image, visibility), dim=-1)

    def prompt_features(self, pairs: Sequence[Prompts]) -> torch.Tensor:
        return torch.tensor([[self.COLOURS[text.split()[-1]] for text in pair] for pair in texts(pairs)])


def test_pairs_are_scored_and_the_best_comes_first() -> None:
    """Two images with red objects on green ground; in the third it is the other way round."""
    mask = torch.zeros(4, 4, dtype=torch.bool)
    mask[1:3, 1:3] = True
    red, green = torch.tensor([0.8, 0.6, 0]).view(3, 1, 1), torch.tensor([0.0, 1.0, 0.0]).view(3, 1, 1)
    usual, turned = torch.where(mask, red, green), torch.where(mask, green, red)
    right, wrong, constant = Prompts("red", "green"), Prompts("green", "red"), Prompts("red", "blue")
    first, second, third = score_pairs(ColourJudge(), [(usual, mask), (usual, mask), (turned, mask)], [wrong, constant, right])
    assert first.prompts is right and third.prompts is wrong
    assert first.count == 3
    assert (first.foreground_right, first.background_right) == pytest.approx((2 / 3, 2 / 3))
    margins = np.array([0.8 - 0.6, 0.8 - 0.6, 0.0 - 1.0])
    assert first.margin == pytest.approx(margins.mean(), abs=1e-6)
    assert first.spread == pytest.approx(margins.std(), abs=1e-6)
    assert (second.foreground_right, second.background_right) == pytest.approx((2 / 3, 0))
    with_template = score_pairs(ColourJudge(), [(usual, mask)], [right], templates=["all {}", "very {}"])
    assert with_template[0].margin == pytest.approx(0.2, abs=1e-6)
    with pytest.raises(ConfigError, match="no examples"):
        score_pairs(ColourJudge(), [], [right])


def test_candidates_are_listed_once(tmp_path: Path) -> None:
    (tmp_path / "more.csv").write_text("foreground,background\na shadow,no shadow\nx,y\n")
    pairs = candidates(SHADOW, [Prompts("shade", "light", "command line")], tmp_path / "more.csv")
    assert texts(pairs) == [("shade", "light"), ("a shadow", "no shadow"), ("dark", "bright"), ("x", "y")]
    assert [pair.source for pair in pairs] == ["command line", "task shadow", "choice release", "more.csv"]


# Command line


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code  # type: ignore[return-value]


def test_show_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("prompts", "show", "shadow", "--foreground-prompt", "murk", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["task"] == "shadow"
    assert [set(pair) for pair in shown["pairs"]] == [{"foreground", "background", "source"}]
    assert shown["pairs"][0]["foreground"] == "murk"
    assert shown["pairs"][0]["source"].startswith("command line (foreground), task shadow")
    assert shown["choices"] == ["release"]


def test_show_for_people_and_without_torch() -> None:
    code = (
        "import sys\nfrom focus_framework.cli import main\n"
        "try: main(['prompts', 'show', 'camouflage', '--set', 'prompts.choice=release'])\n"
        "finally: sys.exit(3 if {'torch', 'open_clip', 'numpy'} & set(sys.modules) else 0)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert shown.returncode == 0, shown.stderr
    assert "salient objects" in shown.stdout and "choice release" in shown.stdout


def test_a_misspelt_task_and_a_bad_prompt_are_wrong_calls(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("prompts", "show", "shadw") == 2
    assert "did you mean shadow" in capsys.readouterr().err
    for empty in ("", " "):
        assert call("prompts", "show", "shadow", "--foreground-prompt", empty) == 2
        assert "--foreground-prompt is empty" in capsys.readouterr().err


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    """Three images with masks; the third mask is empty."""
    random = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for i in range(3):
        picture = random.integers(0, 256, (40, 48, 3), dtype=np.uint8)
        mask = np.zeros((40, 48), np.uint8)
        mask[10 : 10 + 10 * (i < 2), 10:30] = 255
        Image.fromarray(picture).save(tmp_path / "images" / f"{i}.png")
        Image.fromarray(mask).save(tmp_path / "masks" / f"{i}.png")
    return tmp_path


def test_try_prints_a_table_and_json(examples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "clip"
    model.mkdir()
    vision = {"image_size": 32, "layers": 1, "width": 64, "head_width": 32, "patch_size": 8}
    text = {"vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    config = {"model_cfg": {"embed_dim": 32, "vision_cfg": vision, "text_cfg": text}}
    (model / "open_clip_config.json").write_text(json.dumps(config))
    (tmp_path / "more.csv").write_text("foreground,background\na dark patch,the rest\n")
    arguments = ["prompts", "try", "shadow", "--images", str(examples / "images"), "--masks", str(examples / "masks")]
    arguments += ["--clip-model", f"local-dir:{model}", "--clip-weights", "random", "--pairs", str(tmp_path / "more.csv")]
    assert call(*arguments, "--json") == 0
    output = capsys.readouterr()
    tried = json.loads(output.out)
    assert tried["task"] == "shadow" and tried["count"] == 2
    assert [pair["source"] for pair in sorted(tried["pairs"], key=lambda pair: pair["source"])][1] == "more.csv"
    assert {"foreground", "background", "source", "count", "foreground_right", "background_right", "margin", "spread"} == set(
        tried["pairs"][0]
    )
    assert "3/3" in output.err
    assert call(*arguments) == 0
    output = capsys.readouterr()
    assert "a dark patch (more.csv)" in output.out
    assert "2 of 3 images counted" in output.err


def test_a_misspelt_option_of_the_refiner_is_named(examples: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = ["--images", str(examples / "images"), "--masks", str(examples / "masks")]
    assert call("prompts", "try", "shadow", *folders, "--set", "refiner.options.fil=blur") == 2
    assert "refiner clip has no option 'fil'; did you mean fill" in capsys.readouterr().err
