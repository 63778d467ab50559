"""The page "What happens when", made from the cases. ``python -m outsider.page`` in ``tests`` writes it anew."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from . import broken_plugins, calls, checkpoints, exports, films, hub, pictures, starters, starts, surroundings, uploads
from .case import Case
from .uploads import Upload

PAGE = Path(__file__).parents[2] / "docs" / "what-happens-when.md"
HEAD = """# What happens when

What the program answers where something is wrong: with the call, with images, masks and films, with a checkpoint, with an exported file, with what a
service is sent, with a plugin, with the machine. This page is made from the tests in `tests/outsider`; `make outsider` runs every case of each row.

Whatever it is, the answer keeps these rules:

- exit code 2 where the call was wrong, 1 where the work or a part of it failed, 130 after Ctrl-C;
- at most three lines on stderr, which name the value, the file or the plugin, and no traceback (unless `--debug`);
- with `--json`, stdout holds one JSON object or nothing;
- a call that fails leaves no file behind, and never replaces or changes a file that is not its own;
- nothing waits for ever.

A service answers with an error of one line in JSON, never with a status of 500 or above for what it was sent, and then answers the next
request; 0 is a connection that is closed without an answer, as it may be where what came is no HTTP or its sender is gone.

In the examples `pairs/` is a folder with `images/` and `masks/`, `tiny.toml` a configuration. Several exit codes in a row belong to
several cases of it; 0 is among them where a case may also be right.
"""


def cases() -> list[Case]:
    return [
        case
        for source in (calls, pictures, films, checkpoints, exports, broken_plugins, starters, starts, hub, surroundings)
        for case in source.cases()
    ]


def render(every: Iterable[Case | Upload]) -> str:
    groups: dict[str, dict[str, list[Case | Upload]]] = {}
    for case in every:
        groups.setdefault(case.group, {}).setdefault(case.what, []).append(case)
    lines = [HEAD]
    for group, kinds in groups.items():
        lines += [
            f"## {group[0].upper()}{group[1:]}",
            "",
            f"| what is wrong | for example | {'status' if group == uploads.GROUP else 'exit code'} |",
            "|---|---|---|",
        ]
        for what, alike in kinds.items():
            codes = ", ".join(str(code) for code in sorted({code for case in alike for code in case.exits}))
            lines.append(f"| {_cell(what)} | `{_example(alike[0])}` | {codes} |")
        lines.append("")
    return "\n".join(lines)


def _example(case: Case | Upload) -> str:
    words = case.script.replace("$FOCUS", "focus").replace("$IN/", "") or " ".join(word.replace("@/", "") or "''" for word in case.words)
    return _cell(words if len(words) <= 160 else f"{words[:160]} ...")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(render([*cases(), *uploads.cases()]), encoding="utf-8")
