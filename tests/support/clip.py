"""Models of open_clip of toy size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write_model(
    folder: Path, *, embed_dim: int = 32, vision: dict[str, Any] | None = None, text: dict[str, Any] | None = None, **more: Any
) -> str:
    """A small CLIP that open_clip knows as ``local-dir:FOLDER``."""
    folder.mkdir(parents=True, exist_ok=True)
    vision = vision or {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8}
    text = text or {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    model = {"embed_dim": embed_dim, "vision_cfg": vision, "text_cfg": text, **more}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model, "preprocess_cfg": {}}))
    return f"local-dir:{folder}"
