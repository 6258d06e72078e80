"""The look of figures, and how they are written.

matplotlib is imported where figures are made and no pyplot state is touched, so they
can be made on machines without a display, and from several threads.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jal._core import files

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind readers tell apart, without the yellow
# that is hard to see on white.
COLORS = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
STYLE: dict[Any, Any] = {
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
}


def save(figure: Figure, path: str | os.PathLike) -> None:
    """Writes a figure as PNG at 150 dpi, cut to what is drawn; whole or not at all.

    The image goes to a temporary name in the same folder, which is then renamed, so
    nobody ever finds half a file and a failure leaves the old one as it was.

    Args:
      figure: of one or several panels; [height, width] inches become
        about [150 height, 150 width] pixels.
      path: where to, ending in ".png"; missing folders are made.

    Raises:
      ValueError: the path does not end in ".png".

    Example:
      >>> import tempfile
      >>> from matplotlib.figure import Figure
      >>> figure = Figure()
      >>> _ = figure.add_subplot().plot([0, 1])
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     save(figure, folder + "/new/curve.png")
      ...     [file.name for file in Path(folder, "new").iterdir()]
      ['curve.png']
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"path = {str(path)!r} must end in .png")
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.writing(path) as file:
        figure.savefig(
            file, format="png", dpi=150, bbox_inches="tight", facecolor="white"
        )
