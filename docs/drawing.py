"""Boxes and arrows as SVG: just enough for the drawings of the page Architecture."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape

COLOURS = {"data": "#eef2f7", "plugin": "#fdf1dc", "model": "#e3f0e6", "result": "#f6e4e8"}
LINE = 18


@dataclass(frozen=True)
class Box:
    x: float
    y: float
    width: float
    height: float


@dataclass
class Drawing:
    width: int
    height: int
    parts: list[str] = field(default_factory=list)

    def box(self, kind: str, x: float, y: float, width: float, title: str, *lines: str) -> Box:
        """A box with a bold first line; shapes, in square brackets, are set in a fixed width."""
        height = LINE * (len(lines) + 1) + 14
        self.parts.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="{COLOURS[kind]}" stroke="#5b6570" stroke-width="1"/>'
        )
        self.text(x + width / 2, y + LINE, title, weight="bold")
        for number, line in enumerate(lines, 2):
            self.text(x + width / 2, y + LINE * number, line, fixed=line.startswith("["))
        return Box(x, y, width, height)

    def text(self, x: float, y: float, text: str, *, weight: str = "normal", fixed: bool = False, anchor: str = "middle") -> None:
        family = "ui-monospace, Consolas, monospace" if fixed else "system-ui, sans-serif"
        self.parts.append(
            f'<text x="{x}" y="{y}" font-family="{family}" font-size="{12 if fixed else 13}" font-weight="{weight}" '
            f'text-anchor="{anchor}" fill="#1d2329">{escape(text)}</text>'
        )

    def arrow(self, *points: tuple[float, float], dashed: bool = False) -> None:
        """A line through the points with a head at its end."""
        path = " ".join(f"{'M' if i == 0 else 'L'}{x:g} {y:g}" for i, (x, y) in enumerate(points))
        dash = ' stroke-dasharray="4 3"' if dashed else ""
        self.parts.append(f'<path d="{path}" fill="none" stroke="#5b6570" stroke-width="1.4"{dash} marker-end="url(#head)"/>')

    def down(self, above: Box, below: Box) -> None:
        """An arrow from the lower edge of a box straight down to another one, where they overlap."""
        x = (max(above.x, below.x) + min(above.x + above.width, below.x + below.width)) / 2
        self.arrow((x, above.y + above.height), (x, below.y))

    def legend(self, y: float) -> None:
        """What the colours mean, in one line."""
        for number, (kind, meaning) in enumerate(
            (("data", "input, settings"), ("plugin", "plugin"), ("model", "model"), ("result", "result"))
        ):
            x = 60 + 140 * number
            self.parts.append(f'<rect x="{x}" y="{y}" width="16" height="12" rx="3" fill="{COLOURS[kind]}" stroke="#5b6570"/>')
            self.text(x + 24, y + 11, meaning, anchor="start")

    def svg(self) -> str:
        head = (
            '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            '<path d="M0 0L8 4L0 8z" fill="#5b6570"/></marker></defs>'
        )
        ground = f'<rect width="{self.width}" height="{self.height}" rx="8" fill="#ffffff"/>'
        size = f'viewBox="0 0 {self.width} {self.height}" width="{self.width}" height="{self.height}"'
        return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size}>', head, ground, *self.parts, "</svg>", ""])
