"""``python -m focus_framework`` is ``focus``."""

import sys

try:
    from .cli import main
except KeyboardInterrupt:  # before the command line could say so itself
    sys.exit(130)

main()
