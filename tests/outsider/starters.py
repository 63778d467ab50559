"""Distributions that offer checkpoints and weights as the starter does, broken in every way that an entry point allows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from .broken_plugins import RAISES, _installed_as
from .case import Case
from .checkpoints import FILE, _damage

GROUP = "starters"
OK, WRONG, MAY = frozenset({0}), frozenset({1, 2}), frozenset({0, 1, 2})
LIST = ("checkpoint", "list", "--json")
FETCH = ("checkpoint", "fetch", "odd", "--json")
PREDICT = ("predict", "@/one.png", "--checkpoint", "odd", "--out", "out", "--json")
SERVE = ("serve", "odd", "--port", "0", "--stop-after", "0", "--device", "cpu")
INIT = ("train", "--task-plugin", "shadow", "--init", "odd", "--config", "@/tiny.toml", "--out", "run", "--json")
AUTO = (
    "train",
    "--task-plugin",
    "shadow",
    "--config",
    "@/tiny.toml",
    "--set",
    "backbone.name=auto",
    "--out",
    "run",
    "--show-config",
    "--json",
)

OFFER = """
from pathlib import Path
from focus_framework import Checkpoint, Figures
HERE = Path(__file__).parent.parent
def offered(**changed):
    return Checkpoint(**dict(dict(name="odd", title="Odd", task="shadow", reference=str(HERE / "{file}")), **changed))
def checkpoints():
    {line}
def weights():
    {weights}
"""
POINTS = {
    "checkpoints": "[focus_framework.checkpoints]\nodd = focus_odd:checkpoints\n",
    "weights": "[focus_framework.weights]\nresnet18 = focus_odd:weights\n",
}


def cases() -> Iterator[Case]:
    yield _offer("as it should be", LIST, "return [offered()]", OK)
    yield _offer("as it should be", PREDICT, "return offered()", OK)
    yield from _broken()
    yield from _fields()
    yield from _files()
    yield from _weights()


def _offer(
    what: str,
    call: tuple[str, ...],
    line: str = "return []",
    exits: frozenset[int] = WRONG,
    weights: str = "return ''",
    kind: str = "checkpoints",
) -> Case:
    content = OFFER.format(file=FILE, line=line, weights=weights)
    make = _installed_as("focus_odd", content, points=POINTS[kind])
    return Case(GROUP, f"a distribution that offers {kind}, {what}", call, ("odd",) if exits == WRONG else (), exits, make, path="site")


def _broken() -> Iterator[Case]:
    """What is broken is shown, and stops nobody."""
    lines = {f"raises {what}": line for what, line in RAISES.items()}
    lines |= {
        f"gives {value}": f"return {value}"
        for value in ("None", "7", "[7]", "'odd'", "[None]", "{}", "[[]]", "Checkpoint", "(1 / 0 for _ in [1])")
    }
    lines |= {
        "prints": "print('hello'); return []",
        "closes stdout": "import sys; sys.stdout.close(); return []",
        "gives a name twice": "return [offered(), offered()]",
    }
    for what, line in lines.items():
        yield _offer(f"whose function {what}", LIST, line, OK)
        if "prints" not in what and "closes" not in what and "twice" not in what:
            yield _offer(f"whose function {what}", FETCH, line)
        yield _offer(f"whose function {what}", ("doctor", "--json"), line, OK)
    for what, points in {
        "names nothing": "odd = no_such_module:f",
        "names no attribute": "odd = focus_odd:none",
        "is nonsense": "odd = ]][",
        "has no value": "odd =",
        "names a module": "odd = focus_odd",
    }.items():
        for group in ("checkpoints", "weights"):
            for call in (LIST, AUTO):
                make = _installed_as(
                    "focus_odd",
                    OFFER.format(file=FILE, line="return []", weights="return ''"),
                    points=f"[focus_framework.{group}]\n{points}\n",
                )
                yield Case(GROUP, f"a distribution whose entry point of {group} {what}", call, (), OK, make, path="site")


def _fields() -> Iterator[Case]:
    for field in (
        "name=7", "name=''", "name='../x'", "name='a b'", "name='a\\nb'", "name=None", "title=7", "title=None", "task=7", "task=''", "task=None", "reference=7", "reference=None", "sha256=7", "sha256='abc'", "sha256='g' * 64",
        "size=-1", "size='much'", "size=None", "size=1.5", "figures=7", "figures=[7]", "figures=None", "figures=[Figures(data=7, metrics={})]", "figures=[Figures(data='x', metrics=7)]", "figures=[Figures(data='x', metrics={'mae': 'good'})]",
        "figures=[Figures(data='x', metrics={'mae': float('nan')})]", "licence=7", "weights_licence=None", "data_licence=[]", "no_such=7",
    ):  # fmt: skip
        yield _offer("with a wrong field", LIST, f"return [offered({field})]", OK)
        yield _offer("with a wrong field", FETCH, f"return [offered({field})]")
    for reference in (
        "''",
        "'no/such/file'",
        "'/dev/zero'",
        "'/proc/self/mem'",
        "str(HERE)",
        "str(HERE / 'pipe')",
        "str(HERE / 'note.txt')",
        "str(HERE / 'one.png')",
        "'\\0'",
        "'x' * 10_000",
        "'hf://'",
        "'hf://a'",
        "'hf://a/b/c'",
        "'hf://../..'",
        "'https://example.org/a.safetensors'",
    ):
        yield _offer("with a reference that leads nowhere", LIST, f"return [offered(reference={reference})]", OK)
        for call in (FETCH, PREDICT, SERVE, INIT):
            # A file that is there is given as it is; whoever opens it finds what it is.
            exits = MAY if call == FETCH and any(word in reference for word in ("note", "one", "/proc/self/mem")) else WRONG
            yield replace(_offer("with a reference that leads nowhere", call, f"return [offered(reference={reference})]", exits), named=())
    for call in (FETCH, PREDICT, SERVE, INIT):
        yield replace(_offer("whose checksum is another one", call, "return [offered(sha256='0' * 64)]"), named=("sha256",))
    yield _offer("of a task that nobody has", PREDICT, "return [offered(task='nonsense')]", MAY)


def _files() -> Iterator[Case]:
    """The offered file damaged as checkpoints are."""
    seen = set()
    for damage in _damage():
        if damage.what in seen:
            continue
        seen.add(damage.what)
        for call in (PREDICT, SERVE, INIT):
            install = _offer("", call, "return [offered()]").make
            yield Case(
                GROUP, f"an offered checkpoint that is {damage.what}", call, (FILE, "odd"), WRONG, _both(install, damage.make), path="site"
            )


def _both(first: Callable[[Path], None], second: Callable[[Path], None]) -> Callable[[Path], None]:
    def make(inputs: Path) -> None:
        first(inputs)
        second(inputs)

    return make


def _weights() -> Iterator[Case]:
    """Weights of an encoder; what fails is passed over."""
    lines = {f"raises {what}": line for what, line in RAISES.items()}
    lines |= {
        f"gives {value}": f"return {value}"
        for value in (
            "None",
            "7",
            "''",
            "'no/such'",
            "'/dev/zero'",
            "str(HERE)",
            "str(HERE / 'pipe')",
            "'\\0'",
            "'x' * 10_000",
            "[]",
            "b'x'",
            "object()",
        )
    }
    for what, line in lines.items():
        yield _offer(f"whose function {what}", AUTO, weights=line, exits=OK, kind="weights")
        yield _offer(f"whose function {what}", ("doctor", "--json"), weights=line, exits=OK, kind="weights")
    for file in ("note.txt", "one.png", FILE, "tiny.toml"):
        call = ("train", "--task-plugin", "shadow", "--config", "@/encoder.toml", "--out", "run", "--json")
        offer = _offer("of something else", call, weights=f"return HERE / '{file}'", kind="weights")
        yield replace(offer, make=_both(offer.make, _encoder), named=("resnet18", file))


def _encoder(inputs: Path) -> None:
    tiny = (inputs / "tiny.toml").read_text()
    start, end = tiny.index("[backbone]"), tiny.index("[enhancer]")
    (inputs / "encoder.toml").write_text(tiny[:start] + '[backbone]\nname = "resnet18"\nweights = "pretrained"\n\n' + tiny[end:])
