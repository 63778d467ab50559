"""``python -m focus_framework`` is ``focus``."""

from .cli import main

main()
