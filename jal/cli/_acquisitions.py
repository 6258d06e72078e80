"""`jal acquisitions`: what scores a pool."""

from typing import NamedTuple

from jal.cli._output import print_table


class Entry(NamedTuple):
    """A line of `jal acquisitions`.

    Attributes:
      needs: what a model has to give.
      fewest: the fewest predictions S that tell items apart; 0 for one `Outputs` as it
        is, None where `jal score` cannot compute it.
      bounds: of the scores.
      formula: in a line.
      paper: who thought of it.
    """

    needs: str
    fewest: int | None
    bounds: str
    formula: str
    paper: str


TABLE = {
    "entropy": Entry("logits", 1, "[0, ln C]", "H[mean p]", "Gal et al. 2017"),
    "bald": Entry(
        "logits, S >= 2",
        2,
        "[0, ln C]",
        "H[mean p] - mean H[p]",
        "Houlsby et al. 2011",
    ),
    "mean_std": Entry(
        "logits, S >= 2",
        2,
        "[0, 1/2]",
        "mean over c of the std of p_c",
        "Gal et al. 2017",
    ),
    "margin": Entry("logits", 1, "[0, 1]", "1 - (p_1 - p_2)", "Scheffer et al. 2001"),
    "least_confidence": Entry(
        "logits", 1, "[0, 1 - 1/C]", "1 - p_1", "Lewis and Gale 1994"
    ),
    "variation_ratio": Entry(
        "logits, S >= 2",
        2,
        "[0, 1 - 1/C]",
        "1 - votes for the mode / S",
        "Gal et al. 2017",
    ),
    "predicted_loss": Entry(
        "loss_score", 0, "any number", "loss_score as it is", "Yoo and Kweon 2019"
    ),
    "shift": Entry(
        "two models",
        None,
        "[-1, 1]",
        "(g' - g) / (g' + g)",
        "Aggarwal et al. 2021",
    ),
}


def acquisitions() -> None:
    """List the acquisition functions: needs, range, formula, paper.

    Example: jal acquisitions
    """
    heads = ("name", "needs", "range", "formula", "paper")
    rows = [(name, e.needs, e.bounds, e.formula, e.paper) for name, e in TABLE.items()]
    print_table(heads, rows, justify="left")
    print(
        "\nHigher = label it. S predictions of C classes: passes with dropout, members "
        "of an ensemble,\nor logits made elsewhere. p_1 >= p_2: the two highest of the "
        "mean p. H: entropy in nats.\nNot for jal score: shift, where g' and g are p_1 "
        "- p_2 of the last model and of this one."
    )
