"""The first labels, before there is a model: random, far apart, or typical of many.

Each seed draws a pool of its own; all ways of choosing see the same one, as pixels.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from tqdm.auto import tqdm

from experiments.common import datasets, figures, paired
from experiments.common.paired import mean_of, value_text
from jal import selection

METHODS = ("random", "k-center", "typical")
CLASSIFIERS = {
    "nearest neighbour": lambda: KNeighborsClassifier(n_neighbors=1),
    "logistic": lambda: LogisticRegression(max_iter=2000),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """The protocol.

    Attributes:
      data: name of the data set, or path of an .npz file.
      items: of the pool, drawn at random from the training images.
      labels: how many are chosen; for each number the choice begins anew.
    """

    data: str = "mnist"
    items: int = 20_000
    labels: tuple[int, ...] = (10, 20, 50, 100)


def numbers(text: str, size: int) -> tuple[int, ...]:
    """Numbers of labels, separated by commas; ValueError where one is not possible."""
    parts = text.split(",")
    found = tuple(int(part) if part.strip().isdecimal() else 0 for part in parts)
    if not all(0 < number <= size for number in found):
        raise ValueError(
            f"--labels {text}: give numbers from 1 to {size}, the size of the pool"
        )
    return found


def first_picks(method: str, key: jax.Array, features: np.ndarray, k: int):
    """[K] positions of the items that are labelled first.

    Raises:
      ValueError: unknown method.
    """
    nothing = jnp.zeros(len(features), bool)
    if method == "random":
        return np.asarray(jax.random.permutation(key, len(features))[:k])
    if method == "k-center":
        return np.asarray(selection.k_center(jnp.asarray(features), k, centers=nothing))
    if method == "typical":
        rows = jnp.asarray(features)
        return np.asarray(selection.typical(key, rows, k, covered=nothing))
    raise ValueError(f"method = {method!r}, choose one of {', '.join(METHODS)}")


def measure(config: Config, data: datasets.ImageData, seeds: int) -> list[dict]:
    """All pools: a record for each seed, method and number of labels."""
    records = []
    total = seeds * len(config.labels) * len(METHODS)
    with tqdm(total=total, unit="choice") as bar:
        for seed in range(seeds):
            for record in _pool(config, seed, data):
                records.append(record)
                bar.update()
    return records


def _pool(config: Config, seed: int, data: datasets.ImageData):
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(data.labels))[: config.items]
    flat = lambda images: images.reshape(len(images), -1).astype(np.float32) / 255
    features, labels = flat(data.images[rows]), data.labels[rows]
    tested = flat(data.test_images)
    for k in config.labels:
        for method in METHODS:
            picks = first_picks(method, jax.random.key(seed), features, k)
            record = {
                "method": method,
                "seed": seed,
                "labels": k,
                "picks": rows[picks].tolist(),
                "classes": len(np.unique(labels[picks])),
            }
            for name, make in CLASSIFIERS.items():
                # One class alone is what everything is then said to be.
                said = np.full(len(tested), labels[picks[0]])
                if record["classes"] > 1:
                    model = make().fit(features[picks], labels[picks])
                    said = model.predict(tested)
                record[name] = float(np.mean(said == data.test_labels))
            yield record


def summarize(records: list[dict]) -> list[dict]:
    """Each method and number of labels: accuracy, and its difference to random."""
    found = []
    for labels in dict.fromkeys(record["labels"] for record in records):
        arms = paired.by_arm(
            {**record, "arm": record["method"]}
            for record in records
            if record["labels"] == labels
        )
        for method, runs in arms.items():
            row = {"labels": labels, "method": method}
            for name in ("classes", *CLASSIFIERS):
                row[name] = mean_of(runs, name)
                row[f"{name}, less random"] = paired.gap(runs, arms["random"], name)
            found.append(row)
    return found


def table(summary: list[dict]) -> list[str]:
    header, rows = ["labels", "method", "classes"], []
    for name in CLASSIFIERS:
        header += [name, "less random, points"]
    for each in summary:
        row = [str(each["labels"]), each["method"], f"{each['classes']['mean']:.1f}"]
        for name in CLASSIFIERS:
            less = value_text(each[f"{name}, less random"], "+.1f", 100)
            is_random = each["method"] == "random"
            row += [f"{each[name]['mean']:.1%}", "" if is_random else less]
        rows.append(row)
    return paired.table(header, rows)


def figure(summary: list[dict], data: str):
    """Accuracy by number of labels, with intervals, one panel a classifier."""
    ticks = sorted({each["labels"] for each in summary})
    number = len(CLASSIFIERS)
    panels: dict[str, Any] = dict(ncols=number, sharey=True)
    with figures.drawing(4.2 * number, 3.6, **panels) as (drawn, all_axes):
        for axes, name in zip(all_axes, CLASSIFIERS, strict=True):
            for number, method in enumerate(METHODS):
                rows = [each for each in summary if each["method"] == method]
                mean = np.array([each[name]["mean"] for each in rows])
                ends = np.array([each[name]["interval"] for each in rows])
                # Beside each other, so that no interval hides another.
                labels = [each["labels"] * (1 + 0.03 * (number - 1)) for each in rows]
                bars = 100 * np.abs(ends.T - mean)
                axes.errorbar(labels, 100 * mean, bars, label=method, marker="o", ms=4)
            axes.set_xscale("log")
            axes.set_xticks(ticks, [str(tick) for tick in ticks])
            axes.minorticks_off()
            axes.set_xlabel("labels")
            axes.set_title(name)
        all_axes[0].set_ylabel(f"test accuracy, {data}, %")
        all_axes[0].legend(frameon=False)
    return drawn
