"""The public door to multi-scale deformable attention; it lives in `model.ops`."""

from .model.ops import Backend, backend, deform_attn, deform_attn_from_logits, describe

__all__ = ["Backend", "backend", "deform_attn", "deform_attn_from_logits", "describe"]
