"""Multi-scale deformable attention behind two functions, with two implementations: compiled (`focus_ops`) and plain PyTorch."""

from .choice import Backend, backend, describe
from .functional import deform_attn, deform_attn_from_logits

__all__ = ["Backend", "backend", "deform_attn", "deform_attn_from_logits", "describe"]
