"""`jal acquisitions`: what scores a pool."""

from jal.acquisition import FACTS
from jal.cli._output import print_table


def acquisitions() -> None:
    """List the acquisition functions: needs, range, formula, paper.

    Example: jal acquisitions
    """
    rows = [
        (
            fact.function.__name__,
            fact.needs,
            "any number" if fact.low == "-inf" else f"[{fact.low}, {fact.high}]",
            fact.formula,
            fact.reference,
        )
        for fact in FACTS
    ]
    heads = ("name", "needs", "range", "formula", "paper")
    print_table(heads, rows, justify="left")
    print(
        "\nHigher = label it. S predictions of C classes: passes with dropout, members "
        "of an ensemble,\nor logits made elsewhere. p_1 >= p_2: the two highest of the "
        "mean p. H: entropy in nats.\nNot for jal score: shift, where g' and g are p_1 "
        "- p_2 of the last model and of this one."
    )
