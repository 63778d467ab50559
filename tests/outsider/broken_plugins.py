"""Plugins broken in every way that an interface allows: while they are imported, listed, built and used."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from .case import Case

GROUP = "plugins"
WRONG, MAY, OK = frozenset({1, 2}), frozenset({0, 1, 2}), frozenset({0})

RAISES = {
    "an exception": "raise ValueError('my own words')", "SystemExit": "raise SystemExit(7)", "KeyboardInterrupt": "raise KeyboardInterrupt",
    "an exception outside the usual": "raise type('Strange', (BaseException,), {})('my own words')", "MemoryError": "raise MemoryError",
    "StopIteration": "raise StopIteration", "an exception that cannot be shown": "raise type('Mute', (Exception,), {'__str__': lambda self: 1 / 0})()",
    "an exception that no pickle takes": "raise type('Local', (Exception,), {'__init__': lambda self, a, b: None})(1, 2)", "RecursionError": "f = lambda: f(); f()",
}  # fmt: skip
RUN = ("work/run", "work/run/*", "work/run/*/*", "work/run/*/*/*")


def cases() -> Iterator[Case]:
    yield from _task_files()
    yield from _practice()
    yield from _installed()
    yield from _networks()
    yield from _late()


TASK = """
from focus_framework import Prompts, Task, hookimpl
import numpy as np

def practice(random, size):
    mask = np.zeros((size, size), bool)
    mask[8:40, 8:40] = True
    image = np.full((size, size, 3), 60, np.uint8)
    image[mask] = 200
    {practice}
    return image, mask

def compose(random, size, first, second):
    {compose}
    return practice(random, size)

@hookimpl
def focus_tasks():
    yield Task(**dict(dict(name="mine", title="Mine", prompts=Prompts("inside", "outside"), metrics=["mae"], primary_metric="mae",
                           practice=practice, compose=compose), {changed}))
"""


def _task(practice: str = "", compose: str = "", changed: str = "") -> str:
    lines = {"practice": practice or "pass", "compose": compose or "pass", "changed": changed}
    return TASK.format(**lines)


def _file(content: str, name: str = "mine.py") -> Callable[[Path], None]:
    return lambda inputs: (inputs / name).write_text(content) and None


def _train(*more: str, task: str = "@/mine.py") -> tuple[str, ...]:
    return ("train", "--task-plugin", task, "--config", "@/tiny.toml", "--out", "run", *more, "--json")


def _task_files() -> Iterator[Case]:
    for what, content in {
        "a syntax error": "def (", "nothing in it": "", "a module that is not there": "import nothing_of_that_name",
        "null bytes": "x = 1\0", "an endless recursion": "def f(): f()\nf()", "two tasks": _task() + "\n" + _task().replace("mine", "other").replace("focus_tasks", "more"),
        "a hook that gives nothing": "from focus_framework import hookimpl\n@hookimpl\ndef focus_tasks():\n    return None\n",
        "a hook that gives a word": "from focus_framework import hookimpl\n@hookimpl\ndef focus_tasks():\n    return 'task'\n",
        "a hook that gives a number": "from focus_framework import hookimpl\n@hookimpl\ndef focus_tasks():\n    return 7\n",
        "a hook with an argument": "from focus_framework import hookimpl\n@hookimpl\ndef focus_tasks(x):\n    return []\n",
    }.items():  # fmt: skip
        yield Case(GROUP, f"a task's file with {what}", _train(), ("mine.py",), MAY if what == "two tasks" else WRONG, _file(content), RUN)
    for what, line in RAISES.items():
        for call in (_train(), ("plugins", "info", "@/mine.py", "--json"), ("prompts", "show", "@/mine.py", "--json")):
            yield Case(GROUP, f"a task's file that raises {what}", call, ("mine.py",), WRONG, _file(line))
            hook = f"from focus_framework import hookimpl\n@hookimpl\ndef focus_tasks():\n    {line}\n    yield\n"
            yield Case(GROUP, f"a task's hook that raises {what}", call, ("mine.py",), WRONG, _file(hook))
    for field in (
        "name=7", "name=''", "name='a b'", "name='none'", "name='../x'", "title=7", "prompts=None", "prompts='inside'", "prompts=[]", "prompts=[7]", "metrics=7", "metrics='mae'",
        "metrics=[]", "metrics=[7]", "metrics=['nonsense']", "primary_metric=7", "primary_metric='f1'", "other_prompts=7", "other_prompts={'a': 7}", "datasets=7", "datasets=[7]",
        "datasets=[None]", "defaults=7", "defaults={'no.such': 1}", "defaults={'training.steps': 'abc'}", "defaults={7: 7}", "practice=7", "practice='no.module:f'",
        "practice='os:no_such'", "practice='nonsense'", "practice=None",
    ):  # fmt: skip
        yield Case(GROUP, "a task with a wrong field", _train(), ("mine",), WRONG, _file(_task(changed=field)))
    yield Case(GROUP, "a task's file that prints", _train(), (), OK, _file("print('hello')\n" + _task(practice="print('hello')")))
    for name in (
        "os",
        "os:",
        "os:path",
        "os:no_such",
        ":x",
        "no.module:x",
        "focus_framework:Task",
        "json:loads",
        "@/none.py",
        "@/pairs",
        "@/note.txt",
        "@/pipe",
        "",
        "a/b:c",
    ):
        yield Case(GROUP, "a task that is not one", _train(task=name), (name.rpartition("/")[2] or "--task-plugin",))


GIVES = {
    "None": "return None", "one value": "return image", "three values": "return image, mask, mask", "words": "return 'image', 'mask'", "lists": "return [[1]], [[0]]",
    "an image of another size": "return image[:7], mask", "a mask of another size": "return image, mask[:7]", "a grey image": "return image[..., 0], mask",
    "an image of floats": "return image / 255.0, mask", "an image of four channels": "return np.dstack([image, image[..., :1]]), mask",
    "a mask of three channels": "return image, image", "a mask of numbers": "return image, mask * 255", "a mask of floats with nan": "return image, np.where(mask, np.nan, 0)",
    "arrays of size 0": "return image[:0], mask[:0]", "a generator": "return (x for x in (image, mask))", "another size for each": "size = int(random.integers(8, 64)); return image[:size, :size], mask[:size, :size]",
}  # fmt: skip


def _practice() -> Iterator[Case]:
    for workers in ("0", "2"):
        for what, line in {
            **{f"raises {name}": line for name, line in RAISES.items()},
            **{f"gives {name}": line for name, line in GIVES.items()},
        }.items():
            may = MAY if what in ("gives a mask of numbers", "gives a generator") else WRONG
            yield Case(GROUP, f"a task whose practice function {what}", _train("--set", f"data.workers={workers}"), ("practice",), may,
                       _file(_task(practice=line)), RUN)  # fmt: skip
    for what, line in RAISES.items():
        call = ("data", "generate", "@/mine.py", "--count", "2", "--size", "64", "--out", "out", "--json")
        yield Case(GROUP, f"a task whose practice function raises {what}", call, ("practice",), WRONG, _file(_task(practice=line)))
        composed = (*call, "--from", "@/pairs")
        yield Case(GROUP, f"a task whose compose function raises {what}", composed, ("compose",), WRONG, _file(_task(compose=line)))
    for what, line in GIVES.items():
        if "image" in line and "mask" in line and ("numbers" in what or "generator" in what):
            continue
        line = "image, mask = practice(random, size); " + line
        yield Case(GROUP, f"a task whose compose function gives {what}", composed, ("compose",), WRONG, _file(_task(compose=line)))
    late = "practice.count = getattr(practice, 'count', 0) + 1\n    if practice.count > 3: raise ValueError('the fourth')"
    for workers in ("0", "2"):
        yield Case(GROUP, "a task whose practice function raises late", _train("--set", f"data.workers={workers}", "--steps", "9"), ("practice", "fourth"), WRONG,
                   _file(_task(practice=late)), RUN)  # fmt: skip


def _installed_as(module: str, content: str, *, points: str | None = None) -> Callable[[Path], None]:
    """A distribution ``focus-odd`` with one module."""

    def make(inputs: Path) -> None:
        site = inputs / "site"
        facts = site / "focus_odd-1.0.dist-info"
        facts.mkdir(parents=True)
        (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: focus-odd\nVersion: 1.0\n")
        (facts / "entry_points.txt").write_text(points or f"[focus_framework]\nodd = {module}\n")
        (site / f"{module}.py").write_text(textwrap.dedent(content))

    return make


def _installed() -> Iterator[Case]:
    """A plugin that is broken must not stop the others."""
    calls = (
        ("plugins", "list", "--json"),
        ("doctor", "--json"),
        ("predict", "@/one.png", "--checkpoint", "@/checkpoint.safetensors", "--out", "out", "--json"),
    )
    contents = {f"raises {what}": line for what, line in RAISES.items()}
    contents |= {
        "prints": "import sys, os\nprint('hello')\nsys.stdout.write('hello')\nos.write(1, b'hello')\n", "is a syntax error": "def (", "closes stdout": "import sys; sys.stdout.close()",
        "changes the working folder": "import os; os.chdir('/')", "takes a name twice": _task().replace("mine", "shadow"),
        "puts a handler on the root logger": "import logging; logging.basicConfig(level=0)",
        "warns": "import warnings; warnings.simplefilter('always'); warnings.warn('from a plugin')",
    }  # fmt: skip
    contents |= {
        f"has a hook that raises {what}": f"from focus_framework import hookimpl\n@hookimpl\ndef focus_backbones():\n    {line}\n    yield\n"
        for what, line in RAISES.items()
    }
    contents |= {
        "has a hook that prints": "from focus_framework import hookimpl\n@hookimpl\ndef focus_backbones():\n    print('hello')\n    return []\n"
    }
    contents |= {
        f"has a hook that gives {value}": f"from focus_framework import hookimpl\n@hookimpl\ndef focus_enhancers():\n    return {value}\n"
        for value in ("None", "7", "[7]", "'x'", "[None]")
    }
    for what, content in contents.items():
        for call in calls:
            if what.startswith("changes") and "predict" in call:
                continue  # relative names mean something else then; nothing to be done
            yield Case(GROUP, f"an installed plugin that {what}", call, (), OK, _installed_as("focus_odd", content), path="site")
    for what, points in {
        "an entry point that names nothing": "[focus_framework]\nodd = no_such_module\n",
        "entry points that are nonsense": "nonsense\n[[[",
        "an entry point without a value": "[focus_framework]\nodd =\n",
    }.items():
        for call in calls:
            yield Case(GROUP, f"a distribution with {what}", call, (), OK, _installed_as("focus_odd", "", points=points), path="site")


BACKBONE = """
    from focus_framework import Backbone, Enhancer, Refiner, hookimpl
    import torch
    from torch import nn

    class Odd(nn.Module):
        widths, heads, pyramid, mean, std = (32, 32, 32, 32), 2, False, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2)
        def __init__(self):
            super().__init__()
            self.patch = nn.Conv2d(3, 32, 16, 16)
        def begin(self, image):
            return {"tokens": self.patch(image)}
        def enter(self, state, stage):
            if stage == 0:
                maps = state["tokens"]
                state["grid"], state["last"] = tuple(maps.shape[-2:]), maps.flatten(2).transpose(1, 2)
            return state["last"], state["grid"]
        def run(self, state, stage, tokens):
            state["last"] = tokens
            return tokens
        def parameter_groups(self):
            return [self.patch]
    class Prior(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.layer = nn.Conv2d(3, width, 1)
        def forward(self, image):
            return [self.layer(nn.functional.avg_pool2d(image, s)) for s in (4, 8, 16, 32)]
    class Loss(nn.Module):
        def forward(self, image, mask_logits):
            return mask_logits.float().mean() ** 2
    CHANGE
    def backbone(name, *, weights, **options):
        IN_BACKBONE
        return Odd()
    def enhancer(width, *, mean, std, **options):
        IN_ENHANCER
        return Prior(width)
    def refiner(prompts, *, mean, std, **options):
        IN_REFINER
        return Loss()
    @hookimpl
    def focus_backbones():
        yield Backbone(name="oddity", title="Odd", build=backbone)
    @hookimpl
    def focus_enhancers():
        yield Enhancer(name="oddity", title="Odd", build=enhancer)
    @hookimpl
    def focus_refiners():
        yield Refiner(name="oddity", title="Odd", build=refiner)
"""


def _networks() -> Iterator[Case]:
    builds = {f"raises {what}": line for what, line in RAISES.items()}
    builds |= {
        "gives None": "return None",
        "gives a word": "return 'network'",
        "gives a plain module": "return nn.Identity()",
        "gives its class": "return nn.Module",
        "prints": "print('hello')",
    }
    for kind in ("backbone", "enhancer", "refiner"):
        call = (
            _train("--set", f"{kind}.name=oddity", task="shadow") if kind != "backbone" else _train("--config", "@/odd.toml", task="shadow")
        )
        for what, line in {"is as it should be": "pass", **builds}.items():
            right = what in ("prints", "is as it should be") or (kind == "refiner" and what == "gives a plain module")
            yield _network(
                f"a {kind} that {what}" + " while it is built" * (what.startswith("raises")),
                call,
                OK if right and "plain" not in what else WRONG,
                named=("oddity", "memory") if "Memory" in what else ("oddity",),
                **{kind: line},
            )
    backbone, enhancer, refiner = (
        _train("--config", "@/odd.toml", task="shadow"), _train("--set", "enhancer.name=oddity", task="shadow"), _train("--set", "refiner.name=oddity", task="shadow"),
    )  # fmt: skip
    for attribute in ("widths", "heads", "pyramid", "mean", "std", "begin", "enter", "run", "parameter_groups"):
        yield _network("a backbone that lacks an attribute", backbone, WRONG, change=f"del Odd.{attribute}")
        yield _network("a backbone with a wrong attribute", backbone, WRONG, change=f"Odd.{attribute} = None")
    for attribute, value in {"widths": "(32, 32, 32)", "mean": "(0.5, 0.5)", "std": "(0, 0, 0)", "heads": "0", "run": "lambda self, *_: 'x'", "enter": "lambda self, *_: None",
                             "begin": "lambda self, image: 1 / 0"}.items():  # fmt: skip
        yield _network("a backbone with a wrong attribute", backbone, WRONG, change=f"Odd.{attribute} = {value}")
    for what, value in {
        "other widths than it says": "torch.zeros(tokens.shape[0], tokens.shape[1], 7)",
        "other tokens than it got": "tokens[:, :3]",
        "no batch": "tokens[0]",
        "None": "None",
        "nan": "tokens * float('nan')",
    }.items():
        yield _network(f"a backbone that gives {what}", backbone, WRONG, change=f"Odd.run = lambda self, state, stage, tokens: {value}")
    for what, value in {"None": "None", "a word": "'maps'", "one map": "forward(self, image)[0]", "three maps of four": "forward(self, image)[:3]", "five maps": "forward(self, image) * 2",
                        "maps of other widths": "[m[:, :7] for m in forward(self, image)]", "maps of other sizes": "forward(self, image)[::-1]", "maps of another batch": "[m[:1] for m in forward(self, image)]",
                        "nan": "[m * float('nan') for m in forward(self, image)]", "an error": "1 / 0", "words for maps": "['a'] * 4"}.items():  # fmt: skip
        yield _network(
            f"an enhancer that gives {what}",
            enhancer,
            WRONG,
            change=f"forward = Prior.forward; Prior.forward = lambda self, image: {value}",
        )
    for what, value in {"None": "None", "a word": "'loss'", "a number": "1.0", "a vector": "mask_logits.mean((0, 2, 3, 4))", "nan": "mask_logits.mean() * float('nan')", "an infinite number": "mask_logits.mean() + float('inf')",
                        "an error": "1 / 0", "a number that nothing trains": "torch.tensor(1.0)", "a whole number": "torch.tensor(1)"}.items():  # fmt: skip
        exits = MAY if "nothing trains" in what else WRONG
        yield _network(f"a refiner that gives {what}", refiner, exits, change=f"Loss.forward = lambda self, image, mask_logits: {value}")
        rehearsed = _train("--set", "refiner.name=oddity", "--dry-run", task="shadow")
        yield _network(
            f"a refiner that gives {what}, rehearsed", rehearsed, exits, change=f"Loss.forward = lambda self, image, mask_logits: {value}"
        )


LATE = """{owner}.usual = {owner}.{function}
    def late(self, *given):
        self.called = getattr(self, "called", 0) + 1
        if self.called > {after}:
            {line}
        return self.usual(*given)
    {owner}.{function} = late
"""


def _late() -> Iterator[Case]:
    """Plugins that keep their promises when they are tried, and break them in the middle of a run."""
    more = ("--steps", "9", "--set", "training.log_every=1", "--set", "training.bad_steps=2")
    calls = {
        "backbone": ("Odd", "run", _train("--config", "@/odd.toml", *more, task="shadow"), 22),
        "enhancer": ("Prior", "forward", _train("--set", "enhancer.name=oddity", *more, task="shadow"), 6),
        "refiner": ("Loss", "forward", _train("--set", "refiner.name=oddity", *more, task="shadow"), 6),
    }
    for kind, (owner, function, call, after) in calls.items():
        gives = {
            "None": "return None",
            "a word": "return 'word'",
            "an empty list": "return []",
            "a tensor of another shape": "return torch.zeros(3, 5)",
        }
        for what, line in {
            **{f"raises {what}": line for what, line in RAISES.items()},
            **{f"gives {what}": line for what, line in gives.items()},
        }.items():
            late = LATE.format(owner=owner, function=function, after=after, line=line)
            named = ("oddity", "memory") if "Memory" in what else ("oddity",)
            yield _network(f"a {kind} that {what} in the middle of training", call, WRONG, change=late, named=named)
    nan = LATE.format(owner="Loss", function="forward", after=6, line="return given[1].mean() * float('nan')")
    refiner = calls["refiner"][2]
    yield _network("a refiner that gives nan in the middle of training", refiner, WRONG, change=nan, named=("refiner",))
    backward = """class Back(torch.autograd.Function):
        @staticmethod
        def forward(context, x):
            return x
        @staticmethod
        def backward(context, gradient):
            raise ValueError('backwards')
    Loss.forward = lambda self, image, mask_logits: Back.apply(mask_logits.float().mean() ** 2)
"""
    yield _network("a refiner that raises in the backward pass", refiner, WRONG, change=backward)
    for when, after in {"from its first call on": 0, "in the middle of training": 4}.items():
        broken = LATE.format(owner="Loss", function="forward", after=after, line="raise ValueError('my own words')")
        one = _network(f"a refiner that raises {when}, in two processes", refiner, WRONG, change=broken)
        words = " ".join(word.replace("@/", "$IN/") for word in refiner if word != "--json")
        launched = (
            f"PYTHONPATH=$IN/site ${{FOCUS%/*}}/python -m torch.distributed.run --standalone --nproc_per_node=2 -m focus_framework {words}"
        )
        # The launcher has its own report of dead processes: ours are the lines that begin with error.
        script = f"{launched} --device cpu 2> all; code=$?; grep -m1 '^error: ' all >&2; exit $code"
        yield replace(one, script=script, arguments=(), named=("raised ValueError: my own words",), limit=240, heavy=True,
                      leaves=(*RUN, "work/all"))  # fmt: skip
    scoring = LATE.format(owner="Odd", function="run", after=4, line="if not self.training: raise ValueError('in scoring')")
    yield _network("a backbone that raises while the run is scored", calls["backbone"][2], WRONG, change=scoring)


def _network(
    what: str,
    call: tuple[str, ...],
    exits: frozenset[int],
    *,
    change: str = "pass",
    backbone: str = "pass",
    enhancer: str = "pass",
    refiner: str = "pass",
    named: tuple[str, ...] = ("oddity",),
) -> Case:
    content = (
        BACKBONE.replace("CHANGE", change).replace("IN_BACKBONE", backbone).replace("IN_ENHANCER", enhancer).replace("IN_REFINER", refiner)
    )

    def make(inputs: Path) -> None:
        _installed_as("focus_odd", content)(inputs)
        tiny = (inputs / "tiny.toml").read_text()
        start, end = tiny.index("[backbone]"), tiny.index("[enhancer]")
        (inputs / "odd.toml").write_text(tiny[:start] + '[backbone]\nname = "oddity"\nweights = "none"\n\n' + tiny[end:])

    return Case(GROUP, what, call, named, exits, make, RUN, path="site")
