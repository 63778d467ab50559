"""Wrong calls, generated from the click tree: commands and options of later days are in it without a line of work."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

import click
from annotated_types import Ge, Gt
from pydantic import BaseModel

from focus_framework.cli import focus
from focus_framework.config.layers import known_settings
from focus_framework.config.schema import RunConfig

from .case import Case

GROUP = "wrong calls"
HUGE = "9" * 30
MAY = frozenset({0, 1, 2})
"""For a value that may be right somewhere: then the call may also do its work."""

RIGHT: dict[str, tuple[str, ...]] = {
    "train": ("--task-plugin", "shadow", "--config", "@/tiny.toml", "--out", "run"),
    "evaluate": ("--checkpoint", "@/checkpoint.safetensors", "--data", "@/pairs"),
    "predict": ("@/pairs/images", "--checkpoint", "@/checkpoint.safetensors", "--out", "out"),
    "serve": ("@/checkpoint.safetensors", "--port", "0", "--stop-after", "0", "--device", "cpu"),
    "export": ("@/checkpoint.safetensors", "--out", "model.pt2", "--size", "64"),
    "explain": ("@/one.png", "--checkpoint", "@/checkpoint.safetensors", "--device", "cpu"),
    "bench": ("--image-size", "64", "--repeats", "1", "--device", "cpu"),
    "data list": ("--task-plugin", "shadow"),
    "plugins check": ("shadow",),
    "plugins new": ("task", "mine", "--out", "out"),
    "checkpoint inspect": ("@/checkpoint.safetensors",),
    "data generate": ("shadow", "--out", "out", "--count", "1", "--size", "32"),
}
"""Right calls of the commands whose every option is tried on top of one. Those of others are guessed by `_guess`."""

VALUES = {
    "task": "shadow", "task_plugin": "shadow", "name": "shadow", "file": "@/checkpoint.safetensors", "files": "@/checkpoint.safetensors",
    "checkpoint": "@/checkpoint.safetensors", "checkpoints": "@/checkpoint.safetensors", "reference": "@/pairs", "root": "@/pairs",
    "inputs": "@/pairs/images", "images": "@/pairs/images", "masks": "@/pairs/masks", "out": "out",
}  # fmt: skip
"""What a required parameter of that name is given."""

OUTPUT = re.compile(r"\b[Ww]rite\b|\bWhere to write|Folder of the run|The (picture|file|folder) to write")
SOURCES = frozenset(
    {"checkpoint", "file", "reference", "data", "photographs", "resume", "inputs", "images", "masks", "predictions", "lists"}
)
FREE = frozenset({
    "data_root", "column", "foreground_prompt", "background_prompt", "clip_model", "clip_weights", "backbone_weights", "debug", "host", "hosts", "title", "message",
})  # fmt: skip
"""Options whose text may be anything, or that other options make idle."""
ALSO = {"examples": "reads no examples", "lists": "somebody's own words"}
"""What else an answer may name in place of an option: the words in a file that is taken for a list of images."""
LONG = frozenset({"count", "steps", "repeats", "checkpoint_every", "minutes"})
"""A thousand million of these is much work, and no mistake."""


def cases() -> Iterator[Case]:
    for name, command in commands():
        yield from _of_command(name, command)
    yield from _settings()
    yield from _by_hand()


@cache
def commands() -> tuple[tuple[str, click.Command], ...]:
    """Every command that is no group, by its name below ``focus``."""

    def walk(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
        if not isinstance(command, click.Group):
            yield name, command
            return
        context = click.Context(command)
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            assert found
            yield from walk(found, f"{name} {child}".strip())

    return tuple(walk(focus, ""))


def right(name: str, command: click.Command) -> tuple[str, ...]:
    """A call of the command that does its work, as far as its parameters can be guessed."""
    return (*name.split(), *RIGHT.get(name, ()), *(() if name in RIGHT else _guess(command)))


def _guess(command: click.Command) -> Iterator[str]:
    for parameter in command.params:
        if parameter.required:
            value = parameter.type.choices[0] if isinstance(parameter.type, click.Choice) else VALUES.get(str(parameter.name), "x")
            yield from (str(value),) if isinstance(parameter, click.Argument) else (parameter.opts[0], str(value))


def _of_command(name: str, command: click.Command) -> Iterator[Case]:
    start = right(name, command)
    json = ("--json",) if any("--json" in parameter.opts for parameter in command.params) else ()

    def case(what: str, *more: str, named: tuple[str, ...] = (), exits: frozenset[int] = frozenset({1, 2})) -> Case:
        leaves = ("work/out", "work/out/*") if "--list" in more else ()  # one of its images is none, the others are predicted
        return Case(GROUP, what, (*start, *more, *json), named if name in RIGHT else (), exits, leaves=leaves)

    yield case("an option that does not exist", "--no-such-option", named=("--no-such-option",), exits=frozenset({2}))
    if not any(parameter.nargs == -1 for parameter in command.params):
        yield case("an argument too many", "surplus", named=("surplus",), exits=frozenset({2}))
    for parameter in command.params:
        if parameter.required and not isinstance(parameter, click.Argument):
            kept = _without(start, parameter.opts[0])
            yield Case(GROUP, "a required option left out", kept, (parameter.opts[0],), frozenset({2}))
        if isinstance(parameter, click.Option) and not parameter.is_flag and not parameter.count:
            yield Case(GROUP, "an option without its value", (*start, *json, parameter.opts[0]), (parameter.opts[0],), frozenset({2}))
            for what, value, exits in _wrong_values(parameter):
                names = tuple(
                    dict.fromkeys(
                        (
                            *parameter.opts,
                            *_setting(name, parameter),
                            *([value.rpartition("/")[2]] if value.strip() else []),
                            *([ALSO[str(parameter.name)]] if parameter.name in ALSO else []),
                        )
                    )
                )
                yield case(what, parameter.opts[0], value, named=names, exits=exits)
    yield from _own_inputs(name, command, start, json)


def _wrong_values(option: click.Option) -> Iterator[tuple[str, str, frozenset[int]]]:
    """What is wrong, a value of which that is true, and what may come of it."""
    wrong, kind, name = frozenset({1, 2}), option.type, str(option.name)
    free = name in FREE
    yield "an empty value", "", MAY if free else wrong
    if isinstance(kind, click.types.IntParamType | click.types.FloatParamType):
        yield "a word for a number", "abc", wrong
        yield "not a number (nan)", "nan", wrong
        yield "an infinite number", "inf", wrong
        yield "a negative number", "-1", wrong
        yield "zero", "0", MAY
        yield "a number beyond all measure", HUGE if isinstance(kind, click.types.IntParamType) else "1e999", wrong
        if isinstance(kind, click.types.IntParamType):
            yield "a fraction for a whole number", "1.5", wrong
            if name not in LONG:
                yield "a thousand million", "1000000000", MAY
    elif isinstance(kind, click.Choice):
        yield "a word that is no choice", "nonsense", wrong
    elif _writes(option):
        yield "an unwritable place", "@/note.txt/x", wrong
        yield "an unwritable place", "/proc/none/x", wrong
        either = not isinstance(option.type, click.Path)  # a folder, or a film
        yield (
            "a folder in place of a file, or the other way round",
            "@/note.txt" if _of_folder(option) else "@/empty",
            MAY if either else wrong,
        )
        yield "a named pipe", "@/pipe", wrong
    else:
        yield "a name that is not known", "no-such-thing-7", MAY if free or name in ("assignments",) else wrong
        if isinstance(kind, click.Path) or name in SOURCES:
            yield "a file that does not exist", "no/such/file.png", wrong
            yield "a named pipe", "@/pipe", wrong
            yield "a file of something else", "@/note.txt", wrong
            yield "an empty folder", "@/empty", MAY if free else wrong


def _writes(option: click.Option) -> bool:
    return option.name == "out" or (
        isinstance(option.type, click.Path) and not option.type.exists and bool(OUTPUT.search(option.help or ""))
    )


def _of_folder(option: click.Option) -> bool:
    return isinstance(option.type, click.Path) and option.type.dir_okay and not option.type.file_okay


def _setting(command: str, option: click.Option) -> tuple[str, ...]:
    """The dotted name of what an option of ``train`` sets."""
    if command != "train":
        return ()
    from focus_framework.cli.train import SETTINGS

    return tuple(setting for setting, owner in SETTINGS.items() if owner is option)


def _own_inputs(name: str, command: click.Command, start: tuple[str, ...], json: tuple[str, ...]) -> Iterator[Case]:
    """Every place to write, given something that the same call reads, or somebody's file."""
    writing = [option for option in command.params if isinstance(option, click.Option) and _writes(option)]
    read = dict.fromkeys(word for word in start if word.startswith("@/"))
    for option in writing:
        flag = option.opts[0]
        places = ["@/pairs"] if _of_folder(option) else [*read, "@/pairs/masks/0.png", "@/note.txt"]
        for place in places:
            kept = (*_without(start, flag), flag, place, *json)
            yield Case(GROUP, "an output that is an input, or somebody's file", kept, (place.rpartition("/")[2],))


def _without(call: tuple[str, ...], flag: str) -> tuple[str, ...]:
    if flag not in call:
        return call
    where = call.index(flag)
    return (*call[:where], *call[where + 2 :])


WRONG_SETTINGS = {
    int: ("abc", "true", "1.5", "nan", "[1]", "", HUGE), float: ("abc", "true", "nan", "inf", "[1.0]", ""), bool: ("7", "abc", "[]", ""),
    str: ("7", "true", "[1]"), list: ("7", "true", "abc"), dict: ("7", "abc"),
}  # fmt: skip


def _settings() -> Iterator[Case]:
    """Every dotted setting with values of wrong types."""
    for key in known_settings():
        if key in ("task", "preset"):
            continue
        values, least = _field(key)
        for value in (*values, *([str(least - 1)] if least is not None else [])):
            yield _set(f"{key}={value}", key, *([f"{value} is"] if value else []), "a setting of the wrong type or out of its range")
    for text in ("nonsense", "=1", "no.such.setting=1", "training=1", "training.steps.more=1", "backbone.options=7", "."):
        yield _set(text, text.split("=")[0] or text, "a setting that does not exist")


def _set(text: str, *named: str) -> Case:
    *named_, what = named
    return Case(
        GROUP, what, ("train", "--task-plugin", "shadow", "--set", text, "--show-config", "--json"), tuple(named_), frozenset({1, 2})
    )


def _field(key: str) -> tuple[tuple[str, ...], int | None]:
    """Values of the wrong type for a setting, and the least value that it may have."""
    model: type[BaseModel] = RunConfig
    *parents, last = key.split(".")
    for parent in parents:
        model = model.model_fields[parent].annotation  # type: ignore[assignment]
    field = model.model_fields[last]
    text = str(field.annotation)
    least = next((int(bound.ge) for bound in field.metadata if isinstance(bound, Ge)), None)
    least = next((int(bound.gt) + 1 for bound in field.metadata if isinstance(bound, Gt)), least)
    if "Literal" in text and "list" not in text:
        return ("nonsense", "7", ""), None
    for kind in (list, dict, bool, float, int, str):
        if kind.__name__ in text:
            return WRONG_SETTINGS[kind], least
    raise AssertionError(f"what is wrong for {key}: {text}?")


def _by_hand() -> Iterator[Case]:
    """What no rule finds: options that contradict one another, values wrong only together, layers that others cover."""
    train = ("train", *RIGHT["train"])
    predict = ("predict", *RIGHT["predict"])
    contradict = "options that exclude one another"
    for arguments, names in (
        (("train", "--resume", "run", "--out", "run"), ("--resume",)),
        (("train", "--resume", "run", "--config", "@/tiny.toml"), ("--resume",)),
        (("evaluate", *RIGHT["evaluate"], "--predictions", "@/pairs/masks"), ("--predictions",)),
        (("evaluate", "--masks", "@/pairs/masks"), ("--checkpoint",)),
        (("evaluate", "--predictions", "@/pairs/masks"), ("--masks",)),
        (("evaluate", "--predictions", "@/pairs/masks", "--masks", "@/pairs/masks", "--data", "@/pairs"), ("--data",)),
    ):
        yield Case(GROUP, contradict, arguments, names)
    for text, name in {
        "decoder.heads=7": "decoder.heads", "pixel_decoder.heads=7": "pixel_decoder.heads", "backbone.options.patch_size=7": "patch_size",
        "backbone.options.num_heads=5": "num_heads", "backbone.options.embed_dim=33": "embed_dim",
        "training.accumulate=99": "accumulate", "loss.importance=1.5": "loss.importance",
    }.items():  # fmt: skip
        yield Case(GROUP, "settings that do not go together", (*train, "--set", text, "--json"), (name,))
    covered = "a wrong value in a layer that a stronger one covers"
    yield Case(GROUP, covered, (*train, "--set", "training.steps=abc", "--steps", "1"), ("training.steps",), frozenset({2}))
    yield Case(GROUP, covered, (*train, "--set", "training.seed=true", "--seed", "1"), ("training.seed",), frozenset({2}))
    yield Case(GROUP, covered, (*train, "--set", "preprocessing.size=65", "--image-size", "64"), ("preprocessing.size",), frozenset({2}))
    yield Case(GROUP, covered, (*train, "--config", "@/wrong.toml", "--steps", "1"), ("training.steps",), frozenset({2}), make=_wrong_file)
    absent = "a device that is not there"
    for device in ("nope", "cpu:7", "cuda:99", "tpu", "cpu:", "cuda:-1", "CPU "):
        for call in (train, predict, ("doctor",)):
            yield Case(GROUP, absent, (*call, "--device", device, "--json"), (device.strip(), "device"))
    memory = "sizes that no memory holds"
    for option, value in (("--batch-size", "1000000000"), ("--image-size", "1000000"), ("--image-size", "1000000000")):
        yield Case(GROUP, memory, (*train, option, value, "--json"), (option, value, "batch_size", "preprocessing.size"))
    for text in (
        "backbone.options.depth=1000000",
        "decoder.layers=1000000",
        "pixel_decoder.layers=1000000",
        "decoder.feedforward=1000000000",
    ):
        key = text.split("=")[0]
        yield Case(GROUP, memory, (*train, "--set", text, "--json"), (key, key.split(".")[-1]))
    deep = "a file nested a thousand deep"
    yield Case(GROUP, deep, ("train", "--task-plugin", "shadow", "--config", "@/deep.toml", "--show-config"), ("deep.toml",), make=_deep)
    yield Case(GROUP, deep, ("data", "check", "@/deep.json"), ("deep.json",), make=_deep)
    yield Case(GROUP, deep, ("prompts", "try", "shadow", "--images", "@/pairs/images", "--masks", "@/pairs/masks", "--pairs", "@/deep.json"),
               ("deep.json",), make=_deep)  # fmt: skip
    for value in ("abc", "-1", "0", "nan", "1e9", ""):
        yield Case(GROUP, "a variable of the environment with a wrong value", (*predict, "--json"), ("FOCUS_MAX_PIXELS",),
                   MAY if not value else frozenset({1, 2}), environment=(("FOCUS_MAX_PIXELS", value),))  # fmt: skip
    mine = "a folder that is not empty and not ours"
    yield Case(GROUP, mine, ("train", "--task-plugin", "shadow", "--config", "@/tiny.toml", "--out", "@/theirs"), ("theirs",), make=_theirs)
    yield Case(GROUP, mine, ("data", "generate", "shadow", "--count", "2", "--size", "32", "--out", "@/pairs"), ("pairs",))
    yield Case(
        GROUP, mine, ("predict", "@/one.png", "--checkpoint", "@/checkpoint.safetensors", "--out", "@/theirs"), ("theirs",), make=_theirs
    )
    yield Case(GROUP, mine, ("predict", "@/one.png", "--checkpoint", "@/checkpoint.safetensors", "--out", "@/", "--save", "mask"))
    yield Case(GROUP, mine, ("data", "preview", "@/pairs", "--out", "@/one.png"), ("one.png",))


def _wrong_file(inputs):  # type: ignore[no-untyped-def]
    (inputs / "wrong.toml").write_text("[training]\nsteps = 'abc'\n")


def _deep(inputs):  # type: ignore[no-untyped-def]
    (inputs / "deep.toml").write_text("x = " + "[" * 5000 + "]" * 5000)
    (inputs / "deep.json").write_text("[" * 100_000 + "]" * 100_000)


def _theirs(inputs):  # type: ignore[no-untyped-def]
    (inputs / "theirs").mkdir()
    (inputs / "theirs" / "config.toml").write_text("# somebody's own\n")
    (inputs / "theirs" / "one.png").write_bytes((inputs / "one.png").read_bytes())
