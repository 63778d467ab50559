"""What a network makes of an image on its way: recorded by hooks, shown as images."""

from .explanation import Explanation, Looked, explain
from .views import Colours, tiles

__all__ = ["Colours", "Explanation", "Looked", "explain", "tiles"]
