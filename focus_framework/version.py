"""The version of the framework, alone in a file so that any room can name it."""

__version__ = "0.2.0"
