"""How large an image is for the network: the rule that a checkpoint, and a file made from it, carries. Knows no torch."""

from __future__ import annotations

from typing import Protocol


class SizeRule(Protocol):
    """`focus_framework.config.schema.PreprocessingConfig` tells what each means."""

    @property
    def size(self) -> int: ...
    @property
    def resize(self) -> str: ...
    @property
    def longest(self) -> int: ...


def resized_size(height: int, width: int, rule: SizeRule, *, multiple: int, scale: float = 1.0) -> tuple[int, int]:
    """(height, width) of an image before padding: a square, or its short side at `rule.size` unless the long one gets too long;
    all of it times `scale`. A square stays one that needs no padding."""
    if rule.resize == "square":
        side = max(1, round(rule.size * scale / multiple)) * multiple
        return side, side
    scale *= min(rule.size / min(height, width), rule.longest / max(height, width))
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def padded_size(resized: tuple[int, int], *, multiple: int) -> tuple[int, int]:
    """(height, width) that the network sees: rounded up, the padding at the right and the bottom."""
    height, width = resized
    return height + -height % multiple, width + -width % multiple
