"""The first labels, before there is a model: random, far apart, or typical of many.

Each seed draws a pool of its own; all ways of choosing see the same one, as pixels. Run
`python -m experiments.cold_start`.
"""

import dataclasses
import shlex
import sys
from pathlib import Path
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import typer
from matplotlib.figure import Figure
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from tqdm.auto import tqdm

from experiments import datasets, paired, runs
from jal import plots, selection
from jal._core import files

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
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


def measure(config: Config, seed: int, data: datasets.ImageData, bar) -> list[dict]:
    """One pool: a record for each method and number of labels."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(data.labels))[: config.items]
    flat = lambda images: images.reshape(len(images), -1).astype(np.float32) / 255
    features, labels = flat(data.images[rows]), data.labels[rows]
    tested = flat(data.test_images)
    records = []
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
            records.append(record)
            bar.update()
    return records


def summarize(records: list[dict]) -> list[dict]:
    """Each method and number of labels: accuracy, and its difference to random."""
    by_case: dict[tuple[int, str], dict[int, dict]] = {}
    for record in records:
        case = by_case.setdefault((record["labels"], record["method"]), {})
        case[record["seed"]] = record
    found = []
    for (labels, method), case in by_case.items():
        row = {"labels": labels, "method": method}
        base = by_case[labels, "random"]
        for name in ("classes", *CLASSIFIERS):
            of = lambda case, name=name: {s: each[name] for s, each in case.items()}
            row[name] = paired.mean_interval(of(case).values())
            row[f"{name}, less random"] = paired.difference(of(case), of(base))
        found.append(row)
    return found


def table(summary: list[dict]) -> list[str]:
    header = ["labels", "method", "classes"]
    for name in CLASSIFIERS:
        header += [name, "less random, points"]
    rows = []
    for each in summary:
        row = [str(each["labels"]), each["method"], f"{each['classes']['mean']:.1f}"]
        for name in CLASSIFIERS:
            row.append(f"{each[name]['mean']:.1%}")
            less = paired.scaled(each[f"{name}, less random"], 100)
            row.append(
                "" if each["method"] == "random" else paired.value_text(less, "+.1f")
            )
        rows.append(row)
    return paired.table(header, rows)


def figure(summary: list[dict], data: str) -> Figure:
    """Accuracy by number of labels, with intervals, one panel a classifier."""
    drawn = Figure(figsize=(4.2 * len(CLASSIFIERS), 3.6), layout="constrained")
    panels = drawn.subplots(1, len(CLASSIFIERS), sharey=True)
    for axes, name in zip(panels, CLASSIFIERS, strict=True):
        for number, method in enumerate(METHODS):
            rows = [each for each in summary if each["method"] == method]
            mean = np.array([each[name]["mean"] for each in rows])
            ends = np.array([each[name]["interval"] for each in rows])
            # Beside each other, so that no interval hides another.
            labels = [each["labels"] * (1 + 0.03 * (number - 1)) for each in rows]
            bars = np.abs(ends.T - mean)
            axes.errorbar(
                labels, 100 * mean, 100 * bars, label=method, marker="o", ms=4
            )
        axes.set_xscale("log")
        ticks = sorted({each["labels"] for each in summary})
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.set_xlabel("labels")
        axes.set_title(name)
    panels[0].set_ylabel(f"test accuracy, {data}, %")
    panels[0].legend(frameon=False)
    return drawn


@app.command()
def main(
    data: Annotated[str, typer.Argument(help="A name or an .npz file.")] = "mnist",
    items: Annotated[int, typer.Option(min=100, help="Of the pool.")] = Config.items,
    labels: Annotated[str, typer.Option(help="Separated by commas.")] = "10,20,50,100",
    seeds: Annotated[int, typer.Option(min=2, help="Pools.")] = 10,
    out: Annotated[Path, typer.Option(help="Folder of results.")] = Path(
        "outputs/cold_start"
    ),
    data_dir: Annotated[
        str | None, typer.Option(help="TFDS directory; default: TFDS_DATA_DIR.")
    ] = None,
) -> None:
    """Accuracy of the first labels chosen at random, far apart, and typical of many.

    Example: python -m experiments.cold_start mnist --seeds 10
    """
    loaded = datasets.load(data, data_dir=data_dir)
    size = min(items, len(loaded.labels))
    numbers = [int(n) if n.strip().isdecimal() else 0 for n in labels.split(",")]
    if not all(0 < number <= size for number in numbers):
        raise typer.BadParameter(
            f"{labels}: give numbers from 1 to {size}, the size of the pool",
            param_hint="--labels",
        )
    config = Config(data, items, tuple(numbers))
    out.mkdir(parents=True, exist_ok=True)
    records = []
    cases = len(config.labels) * len(METHODS)
    with tqdm(total=seeds * cases, unit="choice") as bar:
        for seed in range(seeds):
            records += measure(config, seed, loaded, bar)
    summary = summarize(records)
    name = Path(data).stem
    content = {
        "command": f"python -m experiments.cold_start {shlex.join(sys.argv[1:])}",
        **runs.provenance(config, range(seeds)),
        "summary": summary,
        "records": records,
    }
    files.write_json(out / f"{name}.json", content)
    print("\n".join(table(summary)))
    plots.save(figure(summary, name), out / f"{name}.png")
    print(f"wrote {out / name}.json and .png")


if __name__ == "__main__":
    app()
