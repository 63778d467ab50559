"""What reports are made of: one page of HTML that needs nothing beside it, with tables, drawings and small images.

Whatever text goes in is escaped here; only `body`, put together of what these functions return, is HTML already.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Mapping
from html import escape
from string import Template
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..version import __version__

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TILE = 240
"""Pixels of the longer side of a small image."""
PHOTOGRAPHS = ("image", "errors")
"""Kinds of small images that become JPEG; all others stay as they are."""
GREY = "#808080"
"""Readable on a light page and on a dark one."""
DRAWING: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "focus",
    "text.parse_math": False,  # a data set may be called $x$
    **dict.fromkeys(["text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"], GREY),
    "legend.frameon": False,
    "font.size": 9,
}

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1180px; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; } h3 { font-size: 1rem; margin: 1rem 0 .4rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .55rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child, .text { text-align: left; }
tbody tr:hover { background: var(--soft); }
svg { max-width: 100%; height: auto; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(440px, 1fr)); gap: .8rem; }
.card { border: 1px solid var(--line); border-radius: 6px; padding: .5rem .7rem; overflow: hidden; }
.tiles { display: flex; gap: .4rem; margin-top: .3rem; }
figure { margin: 0; flex: 1 1 0; min-width: 0; }
figure img { width: 100%; height: 150px; object-fit: contain; object-position: left; display: block; }
figcaption { font-size: .75rem; opacity: .7; }
.wide { overflow-x: auto; }
.every { max-height: 34rem; overflow: auto; border: 1px solid var(--line); border-radius: 6px; }
.every thead th { position: sticky; top: 0; background: Canvas; }
.every button { all: unset; cursor: pointer; font-weight: 600; }
.every button:focus-visible { outline: 2px solid Highlight; }
th[aria-sort=ascending] button::after { content: " ↑"; } th[aria-sort=descending] button::after { content: " ↓"; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.2rem; }
dt { opacity: .7; } dd { margin: 0; overflow-wrap: anywhere; }
pre { max-height: 34rem; overflow: auto; border: 1px solid var(--line); border-radius: 6px; padding: .7rem; font-size: .85rem; }
footer { margin: 3rem 0 1rem; font-size: .8rem; opacity: .7; }
</style>
</head>
<body>
<h1>$title</h1>
$body
<footer>focus-framework $version</footer>
<script>
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  table.querySelectorAll("th").forEach((head, column) => head.firstChild.addEventListener("click", () => {
    const ascending = head.getAttribute("aria-sort") !== "ascending";
    for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const text = row => row.cells[column].textContent;
    const missing = row => text(row) === "-";
    const compare = (a, b) => column === 0 ? text(a).localeCompare(text(b), undefined, {numeric: true}) : text(a) - text(b);
    const rows = [...body.rows].sort((a, b) => missing(a) - missing(b) || (ascending ? 1 : -1) * compare(a, b));
    body.append(...rows);
  }));
}
</script>
</body>
</html>
""")


def page(title: str, body: Iterable[str]) -> str:
    """A whole page."""
    return _PAGE.substitute(title=escape(title), body="\n".join(body), version=__version__)


def heading(text: str, level: int = 2) -> str:
    """A heading."""
    return f"<h{level}>{escape(text)}</h{level}>"


def paragraph(text: str) -> str:
    """A paragraph."""
    return f"<p>{escape(text)}</p>"


def table(header: Iterable[str], rows: Iterable[Iterable[str]], *, names: int = 1) -> str:
    """Rows below a header; the first `names` columns are words, the others numbers."""

    def cells(tag: str, texts: Iterable[str]) -> str:
        return "".join(f"<{tag}{' class=text' if index < names else ''}>{escape(text)}</{tag}>" for index, text in enumerate(texts))

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f"<div class='wide'><table><thead><tr>{cells('th', header)}</tr></thead><tbody>{body}</tbody></table></div>"


def facts(named: Mapping[str, str]) -> str:
    """Names and what they stand for, one below the other."""
    return "<dl>" + "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in named.items()) + "</dl>"


def listing(text: str) -> str:
    """Text as it stands, line by line."""
    return f"<pre>{escape(text)}</pre>"


def details(summary: str, body: str) -> str:
    """What is shown on a click."""
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"


def card(caption: str, tiles: Mapping[str, NDArray[np.uint8]], strong: str = "") -> str:
    """Small images side by side, each named, below one caption."""
    figures = "".join(f"<figure>{_picture(array, kind)}<figcaption>{escape(kind)}</figcaption></figure>" for kind, array in tiles.items())
    return f"<div class='card'><div>{escape(caption)} <b>{escape(strong)}</b></div><div class='tiles'>{figures}</div></div>"


def cards(made: Iterable[str]) -> str:
    """Cards, as many in a row as the page is wide."""
    return f"<div class='cards'>{''.join(made)}</div>"


def drawing(size: tuple[float, float], draw: Callable[[Figure], None]) -> str:
    """A figure of `size` inches that `draw` fills with axes, as SVG."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(DRAWING):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        for axes in figure.axes:
            axes.grid(color=GREY, alpha=0.25, linewidth=0.5)
            axes.patch.set_visible(False)
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]


def _picture(array: NDArray[np.uint8], kind: str) -> str:
    scale = TILE / max(array.shape[:2])
    size = (max(1, round(array.shape[1] * scale)), max(1, round(array.shape[0] * scale)))
    small = cv2.resize(array, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)
    form = "jpeg" if kind in PHOTOGRAPHS else "png"
    _, data = cv2.imencode(f".{form}", small[..., ::-1] if small.ndim == 3 else small)
    code = base64.b64encode(data.tobytes()).decode()
    return f'<img alt="{escape(kind)}" width="{size[0]}" height="{size[1]}" src="data:image/{form};base64,{code}">'
