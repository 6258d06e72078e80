"""Figures that commands draw.

- `learning_curves`: Draws how well each strategy does as labels are bought: a line and
  a band each.
- `cost_accuracy`: Draws accuracy against annotation cost, a panel for each moment of
  the runs.
- `stage_bars`: Draws a quantity by stage: a group of bars a stage, a bar for each
  strategy.
- `histograms`: Draws distributions one below the other, on the same axes.
- `save`: Writes a figure as PNG at 150 dpi, cut to what is drawn; whole or not at all.
- `plan`: Draws what labelling everything costs, by the number of labels to train on.
- `schemes`: Draws what each way of labelling cost: a bar each, the mean over seeds.
- `cost_by_batch`: Draws the total cost against the size of a fixed batch, and MCAL as a
  line.
- `fits`: Draws measured errors by training size, and laws fitted to the first of them.
- `course`: Draws how the plan changed from round to round of a campaign.
"""

from jal.plots._costs import cost_by_batch, course, fits, plan, schemes
from jal.plots._curves import (
    COLORS,
    STYLE,
    cost_accuracy,
    histograms,
    learning_curves,
    save,
    stage_bars,
)

# fmt: off
__all__ = [
    "COLORS", "cost_accuracy", "cost_by_batch", "course", "fits", "histograms",
    "learning_curves", "plan", "save", "schemes", "stage_bars", "STYLE",
]
# fmt: on
