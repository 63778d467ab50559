"""The documentation against the program: commands, options, links and code that it shows exist.

``python tests/test_docs.py`` writes ``docs/command-line.md`` anew.
"""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from focus_framework.cli import focus

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "examples").glob("*/README.md"))]
OF_RIGHT_CALLS = [page for page in PAGES if page.name != "what-happens-when.md"]  # which shows wrong ones on purpose
COMMAND_LINE = ROOT / "docs" / "command-line.md"


def commands(command: click.Command, path: str = "focus") -> Iterator[tuple[str, click.Command]]:
    """A command and all below it, each with what one types to call it."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from commands(child, f"{path} {name}")


def reference() -> str:
    """The page of all commands: what their help says, without the line breaks, which differ between versions of click."""
    parts = ["# Command line\n\nEvery command and option. `--help` and `--debug` go with all of them."]
    for path, command in commands(focus):
        arguments = [parameter for parameter in command.params if isinstance(parameter, click.Argument)]
        names = " ".join([path, *(argument.metavar or (argument.name or "").upper() for argument in arguments)])
        text = [" ".join(paragraph.split()) for paragraph in inspect.cleandoc(command.help or "").split("\n\n")]
        parts += [f"## {path}", f"`{names}`", *text]
        options = [
            option for option in command.params if isinstance(option, click.Option) and "--debug" not in option.opts and not option.hidden
        ]
        if options:
            escaped = [(option, (option.help or "").replace("|", r"\|")) for option in options]
            rows = [f"| `{', '.join(option.opts)}` | {help_text} |" for option, help_text in escaped]
            parts.append("\n".join(["| option | what it does |", "|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def shown_calls(text: str) -> list[list[str]]:
    """The words of every call of ``focus`` in code blocks and inline code."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    inline = re.findall(r"`(focus [^`\n]+)`", without_code(text))
    lines = [line.strip().removeprefix("$ ") for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line, comments=True) for line in [*lines, *inline] if re.match(r"focus [a-z-]", line)]


def check_call(words: list[str]) -> None:
    """Raise `AssertionError` unless the command and each of its long options exist."""
    command: click.Command = focus
    context = click.Context(focus)
    options = {"--help", "--debug", "--version"}
    for word in words[1:]:
        if isinstance(command, click.Group) and not word.startswith("-"):
            names = word.split("|")  # a list such as `focus data list|check`
            found = [command.get_command(context, name) for name in names]
            assert None not in found, f"{' '.join(words)}: there is no command {word}"
            command = found[0]  # type: ignore[assignment]
            options |= {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        elif word.startswith("--"):
            assert word.split("=")[0] in options, f"{' '.join(words)}: there is no option {word}"


@pytest.mark.parametrize("page", OF_RIGHT_CALLS, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_call_that_a_page_shows_exists(page: Path) -> None:
    for words in shown_calls(page.read_text("utf-8")):
        check_call(words)


def test_calls_are_found_and_wrong_ones_told() -> None:
    text = "Use `focus plugins lst` or\n\n```\nfocus plugins info x --jsn  # why\n$ focus plugins list \\\n  --json\npip install .\n```\n"
    calls = shown_calls(text)
    assert calls == [
        ["focus", "plugins", "info", "x", "--jsn"],
        ["focus", "plugins", "list", "--json"],
        ["focus", "plugins", "lst"],
    ]
    check_call(calls[1])
    for wrong in (calls[0], calls[2]):
        with pytest.raises(AssertionError, match="there is no"):
            check_call(wrong)


@pytest.mark.parametrize("page", OF_RIGHT_CALLS, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_option_named_in_the_text_exists_somewhere(page: Path) -> None:
    known = {
        name for _, command in commands(focus) for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)
    }
    known |= {"--help", "--version"}
    prose = without_code(page.read_text("utf-8"))
    calls = [code for code in re.findall(r"`([^`]+)`", prose) if not code.startswith(("pip ", "make ", "python ", "torchrun "))]
    named = {option for code in calls for option in re.findall(r"(?:^|\s)(--[a-z][a-z-]+)", code)}
    assert named <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", without_code(page.read_text("utf-8"))):
        assert "://" in target or (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_on_a_page_is_python(page: Path) -> None:
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE):
        compile(block, str(page), "exec")


ONE_WORD_FOR_ONE_THING = {
    "picture": "image",
    "go on with": "resume",
    "goes on with": "resumes",
    "shared out": "sharded",
    "made by procedure": "procedurally generated",
    "on the way back": "in the backward pass",
    "not finite": "NaN or infinite",
    "needs no learning": "a non-learned baseline",
}


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "CHANGELOG.md", ROOT / "benchmarks" / "README.md"], ids=lambda page: str(page.relative_to(ROOT))
)
def test_pages_use_the_words_of_the_field(page: Path) -> None:
    text = " ".join(page.read_text("utf-8").lower().split())
    assert {wrong: right for wrong, right in ONE_WORD_FOR_ONE_THING.items() if wrong in text} == {}


def test_the_two_commands_stand_at_the_top_of_the_readme() -> None:
    top = (ROOT / "README.md").read_text("utf-8").splitlines()[:8]
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    for target in ("demo", "test"):
        assert any(line.startswith(f"make {target}") for line in top)
        assert target in targets


def test_the_page_of_all_commands_is_what_help_says() -> None:
    assert COMMAND_LINE.read_text("utf-8") == reference(), "python tests/test_docs.py writes it anew"


if __name__ == "__main__":
    COMMAND_LINE.write_text(reference(), "utf-8")
