"""Figures that commands draw.

- `save`: Writes a figure as PNG at 150 dpi, cut to what is drawn; whole or not at all.
- `plan`: Draws what labelling everything costs, by the number of labels to train on.
"""

from jal.plots._plan import plan
from jal.plots._save import COLORS, STYLE, save

# fmt: off
__all__ = [
    "COLORS", "plan", "save", "STYLE",
]
# fmt: on
