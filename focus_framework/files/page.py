"""What reports are made of: one page of HTML that needs nothing beside it, with tables, drawings and small images.

Whatever text goes in is escaped by jinja2; only what these functions return is HTML already, and marked as such.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
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


@cache
def _templates() -> Environment:
    return Environment(loader=PackageLoader("focus_framework.files", "."), autoescape=True, undefined=StrictUndefined)


@cache
def _parts() -> Any:
    return _templates().get_template("parts.html").module


def page(title: str, body: Iterable[str]) -> str:
    """A whole page; `body` is what the functions below return, anything else in it is text."""
    return _templates().get_template("page.html").render(title=title, body=body, version=__version__)


def heading(text: str, level: int = 2) -> Markup:
    """A heading."""
    return _parts().heading(text, level)


def paragraph(text: str) -> Markup:
    """A paragraph."""
    return _parts().paragraph(text)


def table(header: Iterable[str], rows: Iterable[Iterable[str]], *, names: int = 1) -> Markup:
    """Rows below a header; the first `names` columns are words, the others numbers."""
    return _parts().table(header, rows, names)


def sortable(header: Iterable[str], rows: Iterable[Iterable[str]]) -> Markup:
    """A long table in a frame of its own; a click on a column sorts by it. The first column is words, the others numbers."""
    return _parts().sortable(header, rows)


def facts(named: Mapping[str, str]) -> Markup:
    """Names and what they stand for, one below the other."""
    return _parts().facts(named)


def listing(text: str) -> Markup:
    """Text as it stands, line by line."""
    return _parts().listing(text)


def details(summary: str, body: Markup) -> Markup:
    """What is shown on a click."""
    return _parts().details(summary, body)


def card(caption: str, tiles: Mapping[str, NDArray[np.uint8]], strong: str = "") -> Markup:
    """Small images side by side, each named, below one caption."""
    return _parts().card(caption, strong, [_image(array, kind) for kind, array in tiles.items()])


def joined(parts: Iterable[Markup]) -> Markup:
    """Parts one after the other."""
    return Markup("").join(parts)


def cards(made: Iterable[Markup]) -> Markup:
    """Cards, as many in a row as the page is wide."""
    return _parts().cards(made)


def strip(heading: str, images: Iterable[tuple[str, NDArray[np.uint8]]]) -> Markup:
    """Small images in a row below a heading, each with its caption; their pixels stay sharp."""
    return _parts().strip(heading, [_image(array, caption) for caption, array in images])


def clickable(caption: str, image: NDArray[np.uint8], places: NDArray[np.float32], samples: NDArray[np.float32]) -> Markup:
    """An image on which a click, or the arrow keys, choose one of `places` `[N, 2]`, a square grid row by row, and show what is sampled
    from there: `samples` `[N, M, 4]`, x, y, a level and a weight. Places and samples are in 0..1 of the image; samples beyond it are
    left at its edge."""

    def coded(values: NDArray[np.float32]) -> str:
        return base64.b64encode(np.rint(values.clip(0, 1) * 255).astype(np.uint8).tobytes()).decode()

    scaled = samples.copy()
    scaled[..., 2] /= 255
    scaled[..., 3] /= max(float(samples[..., 3].max()), 1e-6)
    _, data = cv2.imencode(".jpeg", image[..., ::-1])
    source = f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"
    height, width = image.shape[:2]
    return _parts().clickable(caption, width, height, source, coded(places), coded(scaled), samples.shape[1])


def drawing(size: tuple[float, float], draw: Callable[[Figure], None]) -> Markup:
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
    drawn = Markup(text.getvalue()[text.getvalue().index("<svg") :])
    return Markup("<div class='drawing'>{}</div>").format(drawn)


def _image(array: NDArray[np.uint8], kind: str) -> tuple[str, int, int, str]:
    """Kind, width, height and the data of a small image as an address."""
    scale = TILE / max(array.shape[:2])
    width, height = max(1, round(array.shape[1] * scale)), max(1, round(array.shape[0] * scale))
    small = cv2.resize(array, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)
    form = "jpeg" if kind in PHOTOGRAPHS else "png"
    _, data = cv2.imencode(f".{form}", small[..., ::-1] if small.ndim == 3 else small)
    return kind, width, height, f"data:image/{form};base64,{base64.b64encode(data.tobytes()).decode()}"
