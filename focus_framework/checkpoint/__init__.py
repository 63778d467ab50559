"""Checkpoints: our own files, and the authors' released ones."""

from .description import describe
from .format import read_checkpoint, read_description, write_checkpoint
from .loading import assembled, load_network, open_checkpoint

__all__ = ["assembled", "describe", "load_network", "open_checkpoint", "read_checkpoint", "read_description", "write_checkpoint"]
