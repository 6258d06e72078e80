"""The claims about Figure 1, and whether runs bear them out.

A claim that speaks of several things (both rounds, several betas) is "replicated" if
all hold, "not replicated" if the opposite of one is shown, else "not resolved"; "not
tried" where arms that it needs are missing. A thing holds, or its opposite is shown, if
the 95 % t interval over seeds of the paired difference excludes 0, but:
(b) the slope of accuracy over beta is that of a least-squares line in each seed;
(c) of some beta, the mean accuracy is not below random's and the interval of the cost
is (the best of several betas: no allowance is made for the choice);
(e) the accuracy range is that of beta = 0 minus that of 0.5, per seed;
(f) "minimal" is a mean loss to beta = 0 below 1 point, whatever its interval;
(h) the bias is the mean of predicted minus true cost over all candidates offered before
the last of the rounds.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.common import paired
from experiments.common.paired import is_above, is_below, seeds_text, value_text

CLAIMS = {
    "b": "accuracy falls as beta grows",
    "c": "some beta is at least as accurate as random at a considerably lower cost",
    "d": "beta < 0.2 costs more than random at the same number of labels",
    "e": "beta trades less accuracy for cost at the end than halfway",
    "f": "beta = 0.3 costs less than random with a minimal loss of accuracy",
    "g": "a learned cost (beta = 0.3) is cheaper than random and than beta = 0",
    "h": "the predicted cost is too low, and a learned cost dearer than a known one",
}
_LEARNED = "learned beta=0.3"
Moments = Sequence[Any]
Found = tuple[list[bool | None], str]


class _NotTried(Exception):
    """Why nothing can be said."""


def judge(moments: Moments, bias: Mapping) -> dict[str, dict]:
    """Verdicts on all claims.

    Args:
      moments: `figure1.Moment`, rising.
      bias: of the predicted cost, over all of the rounds.

    Returns:
      letter -> "claim", "verdict" and "evidence".
    """
    verdicts = {}
    for letter, claim in CLAIMS.items():
        try:
            answers, evidence = _JUDGES[letter](moments, bias)
            verdict = paired.verdict(paired.all_of(answers))
        except _NotTried as reason:
            verdict, evidence = "not tried", str(reason)
        verdicts[letter] = dict(claim=claim, verdict=verdict, evidence=evidence)
    return verdicts


def rounds_text(number: int) -> str:
    return f"{number} round{'' if number == 1 else 's'}"


def _by_moment(lead: str, moments: Moments, judged: Callable[[Any], Found]) -> Found:
    """The answers of all moments, and a sentence of their evidence."""
    found = [judged(moment) for moment in moments]
    texts = [
        f"after {rounds_text(moment.used)} {text}"
        for moment, (_, text) in zip(moments, found, strict=True)
    ]
    evidence = "; ".join(dict.fromkeys(texts))
    return [a for answers, _ in found for a in answers], f"{lead}: {evidence}."


def _lacks(moment, *arms: str) -> str:
    """What is missing to compare these arms, or nothing."""
    missing = [arm for arm in arms if arm not in moment.cost]
    if missing:
        return f"No runs of {', '.join(missing)}."
    if not set.intersection(*(set(moment.cost[arm]) for arm in arms)):
        return f"No seed was run with all of {', '.join(arms)}."
    return ""


def _need(moments: Moments, *arms: str) -> None:
    if lack := _lacks(moments[0], *arms):
        raise _NotTried(lack)


def _need_betas(moments: Moments, *betas: float) -> list[str]:
    """Their arms with known cost."""
    arms = [moments[0].betas.get(beta) for beta in betas]
    if None in arms:
        names = " and ".join(f"beta = {beta:g}" for beta in betas)
        raise _NotTried(f"It needs runs of {names} with known cost.")
    return arms


def _cost(moment, arm: str, other: str = "random") -> str:
    """Difference of the costs in per cent of the other's mean."""
    return f"{value_text(moment.cost_change(arm, other), '+.1f', 100)} %"


def _short(arm: str) -> str:
    return f"beta = {float(arm.rpartition('=')[2]):g}"


def _accuracy_falls(moments: Moments, bias) -> Found:
    betas, arms = list(moments[0].betas), list(moments[0].betas.values())
    if len(arms) < 2:
        raise _NotTried("A slope needs at least two values of beta with known cost.")
    _need(moments, *arms)

    def judged(moment):
        seeds = set.intersection(*(set(moment.accuracy[arm]) for arm in arms))
        slope = paired.mean_interval(
            np.polyfit(betas, [100 * moment.accuracy[arm][s] for arm in arms], 1)[0]
            for s in sorted(seeds)
        )
        return [is_below(slope)], f"{value_text(slope, '+.2f')} ({seeds_text(slope)})"

    span = f"beta = {betas[0]:g} to {betas[-1]:g}"
    lead = f"Slope of accuracy over {span}, in points per unit"
    return _by_moment(lead, moments, judged)


def _cheaper_and_as_good(moments: Moments, bias) -> Found:
    arms = moments[0].betas.values()
    usable = [arm for arm in arms if not _lacks(moments[0], "random", arm)]
    if not usable:
        raise _NotTried("It needs random and a beta with known cost in the same seed.")

    def judged(moment):
        cost = {arm: moment.cost_difference(arm) for arm in usable}
        gain = {arm: moment.accuracy_difference(arm) for arm in usable}
        cheap = [arm for arm in usable if is_below(cost[arm])]
        good = [arm for arm in cheap if gain[arm]["mean"] >= 0]
        excluded = all(is_above(cost[arm]) or is_below(gain[arm]) for arm in usable)
        answer = True if good else False if excluded else None
        if cheap and not good:
            shown = max(cheap, key=lambda arm: gain[arm]["mean"])
            lead = "of those clearly cheaper the most accurate is"
        else:
            shown = min(good or usable, key=lambda arm: cost[arm]["mean"])
            lead = "none is clearly cheaper, the cheapest is"
            lead = "the cheapest such is" if good else lead
        return [answer], (
            f"{lead} {_short(shown)}, cost {_cost(moment, shown)}, accuracy "
            f"{value_text(gain[shown], '+.2f', 100)} points ({seeds_text(gain[shown])})"
        )

    lead = f"Of {len(usable)} values of beta, against random"
    return _by_moment(lead, moments, judged)


def _small_beta_is_dear(moments: Moments, bias) -> Found:
    arms = [arm for beta, arm in moments[0].betas.items() if beta < 0.2]
    if not arms:
        raise _NotTried("No runs of a beta below 0.2 with known cost.")
    _need(moments, "random", *arms)

    def judged(moment):
        costs = " and ".join(f"{_cost(moment, arm)} at {_short(arm)}" for arm in arms)
        crossover = moment.crossover()
        crossing = "at no beta" if crossover is None else f"at beta = {crossover:.2f}"
        answers = [is_above(moment.cost_difference(arm)) for arm in arms]
        return answers, f"{costs} (equal {crossing})"

    seeds = seeds_text(moments[0].cost_difference(arms[0]))
    return _by_moment(f"Cost against random ({seeds})", moments, judged)


def _weaker_at_the_end(moments: Moments, bias) -> Found:
    low, high = _need_betas(moments, 0.0, 0.5)
    _need(moments, low, high)
    first, last = moments[0], moments[-1]
    if first.used == last.used:
        raise _NotTried(f"Only one moment is at hand, after {first.used} rounds.")
    before, after = (
        {
            s: value - moment.accuracy[high][s]
            for s, value in moment.accuracy[low].items()
            if s in moment.accuracy[high]
        }
        for moment in (first, last)
    )
    change = paired.difference(after, before)
    mean = lambda falls: 100 * paired.mean_interval(falls.values())["mean"]
    return [is_below(change)], (
        f"From beta = 0 to 0.5 the accuracy falls by {mean(before):.2f} points after "
        f"{first.used} rounds and by {mean(after):.2f} after {last.used}, a change of "
        f"{value_text(change, '+.2f', 100)} points ({seeds_text(change)})."
    )


def _minimal_loss(moments: Moments, bias) -> Found:
    base, arm = _need_betas(moments, 0.0, 0.3)
    _need(moments, "random", arm, base)

    def judged(moment):
        loss = moment.accuracy_difference(base, arm)
        minimal = True if loss["mean"] < 0.01 else None
        if is_above(loss, 0.01):
            minimal = False
        return [is_below(moment.cost_difference(arm)), minimal], (
            f"cost {_cost(moment, arm)} against random, loss of accuracy against "
            f"beta = 0 {value_text(loss, '.2f', 100)} points ({seeds_text(loss)})"
        )

    return _by_moment("At beta = 0.3", moments, judged)


def _learning_pays(moments: Moments, bias) -> Found:
    base = moments[0].betas.get(0.0)
    if base is None:
        raise _NotTried("It needs runs of beta = 0.")
    _need(moments, _LEARNED, "random", base)

    def judged(moment):
        costs = [moment.cost_difference(_LEARNED, other) for other in ("random", base)]
        return [is_below(cost) for cost in costs], (
            f"{_cost(moment, _LEARNED)} against random and "
            f"{_cost(moment, _LEARNED, base)} against beta = 0 ({seeds_text(costs[0])})"
        )

    return _by_moment("Cost with a learned cost", moments, judged)


def _bias_costs(moments: Moments, bias) -> Found:
    (known,) = _need_betas(moments, 0.3)
    _need(moments, _LEARNED, known)
    if not bias["n"]:
        raise _NotTried("The runs with a learned cost did not record its bias.")
    relative = "" if bias["relative"] is None else f", {100 * bias['relative']:+.1f} %"
    answers, evidence = _by_moment(
        f"Predicted minus true cost is {value_text(bias, '+,.2f')} units on average"
        f"{relative} ({seeds_text(bias)}); cost of the labels against a known cost",
        moments,
        lambda moment: (
            [is_above(moment.cost_difference(_LEARNED, known))],
            _cost(moment, _LEARNED, known),
        ),
    )
    return [is_below(bias), *answers], evidence


_JUDGES = {
    "b": _accuracy_falls,
    "c": _cheaper_and_as_good,
    "d": _small_beta_is_dear,
    "e": _weaker_at_the_end,
    "f": _minimal_loss,
    "g": _learning_pays,
    "h": _bias_costs,
}
