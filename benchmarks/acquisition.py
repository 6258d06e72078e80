"""Scores from the logits of S passes over a pool, beside NumPy, PyTorch and others.

Everyone starts from float32 logits, in the layout that suits them, and ends with [N]
scores. Libraries that want probabilities are given those of a softmax, in their time.
"""

import contextlib
import gc
import io
import os

import jax.numpy as jnp
import numpy as np

from benchmarks import peers, timing
from benchmarks.timing import Program, row
from jal import acquisition, predictive

POOL = 10_000
# (S, C)
SETTINGS = ((20, 10), (100, 10), (20, 100), (100, 100))
SCORES = {
    "BALD": acquisition.bald,
    "mean STD": acquisition.mean_std,
    "entropy": acquisition.entropy,
}
# scikit-activeml raises probabilities to at least 1e-7, which is worth this a class.
TOLERANCE = 2e-6


def measure(repeats: int, *, pool: int = POOL, settings=SETTINGS, limit=30.0) -> list:
    """All measurements of this file, one row each."""
    rows = timing.bounds_rows()
    for num_samples, num_classes in settings:
        name = f"S={num_samples}, C={num_classes}"
        needed = 12 * 4 * pool * num_samples * num_classes
        if needed > available_memory():
            gigabytes = needed / 1e9
            rows.append(row(f"{name}: left out, memory needed", gigabytes, "GB"))
            continue
        logits = make_logits(num_samples, pool, num_classes)
        rows += one_setting(name, logits, repeats, limit)
    return rows


def make_logits(num_samples, pool, num_classes):
    """[S, N, C] logits whose passes agree on some items and not on others."""
    rng = np.random.default_rng(0)
    shape = (num_samples, pool, num_classes)
    mean = 2 * rng.standard_normal((1, pool, num_classes), np.float32)
    spread = rng.gamma(2.0, 0.5, (1, pool, 1)).astype(np.float32)
    return mean + spread * rng.standard_normal(shape, np.float32)


def one_setting(name, logits, repeats, limit):
    """All scores for one S and C."""
    device_logits = jnp.asarray(logits)
    # NumPy arrays in the layouts of the others, made outside of the times.
    by_item = np.ascontiguousarray(logits.transpose(1, 2, 0))  # [N, C, S]
    bandwidth = timing.bounds().bandwidth
    rows = []
    for score, function in SCORES.items():
        ours = timing.compiled(
            lambda logits, f=function: f(predictive.summarize(logits)), device_logits
        )
        programs = {
            "jal": timing.calling(ours.call, device_logits),
            "NumPy": Program(lambda s=score: NUMPY[s](logits)),
            "PyTorch": torch_program(score, logits),
            **others(score, logits, by_item),
        }
        what = f"{score}, {name}"
        same = {
            key: program.run()
            for key, program in programs.items()
            if program.run is not None and "another number" not in program.note
        }
        tolerance = max(5e-5, TOLERANCE * logits.shape[2])
        unit = "" if score == "mean STD" else "nats"
        rows.append(timing.agreement(what, same, tolerance, unit))
        timings = timing.side_by_side(programs, repeats, limit=limit)
        rows += timing.comparison(what, timings)
        moved = logits.nbytes + 4 * logits.shape[1]
        share = moved / bandwidth / timings["jal"].seconds
        rows += [
            row(f"{what}: logits read once / copy bandwidth / time", share, "of bound"),
            row(f"{what}: compilation", ours.seconds, "s", by="jal"),
            row(f"{what}: temporary memory", ours.temporary / 1e6, "MB", by="jal"),
        ]
    return rows


def numpy_log_softmax(logits):
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def numpy_bald(logits):
    log_p = numpy_log_softmax(logits)
    p = np.exp(log_p)
    mean = p.mean(0)
    return (p * log_p).sum(-1).mean(0) - (mean * np.log(mean)).sum(-1)


def numpy_mean_std(logits):
    return np.exp(numpy_log_softmax(logits)).std(0).mean(-1)


def numpy_entropy(logits):
    mean = np.exp(numpy_log_softmax(logits)).mean(0)
    return -(mean * np.log(mean)).sum(-1)


NUMPY = {"BALD": numpy_bald, "mean STD": numpy_mean_std, "entropy": numpy_entropy}


def torch_program(score, logits) -> Program:
    """PyTorch on the same [S, N, C] logits."""

    def variants():
        import torch

        tensor = torch.from_numpy(logits)

        def bald():
            log_p = torch.log_softmax(tensor, -1)
            p = log_p.exp()
            mean = p.mean(0)
            return (p * log_p).sum(-1).mean(0) - torch.xlogy(mean, mean).sum(-1)

        def mean_std():
            return torch.softmax(tensor, -1).std(0, correction=0).mean(-1)

        def entropy():
            mean = torch.softmax(tensor, -1).mean(0)
            return -torch.xlogy(mean, mean).sum(-1)

        runs = {"BALD": bald, "mean STD": mean_std, "entropy": entropy}
        return peers.with_threads(runs[score])

    return peers.program("PyTorch", variants)


def others(score, logits, by_item) -> dict[str, Program]:
    """The libraries that offer this score."""

    def baal():
        from baal.active import heuristics

        heuristic = {"BALD": heuristics.BALD, "entropy": heuristics.Entropy}[score]()
        note = "another number: averages the logits" if score == "entropy" else ""
        return {note: lambda: heuristic.get_uncertainties(by_item)}

    def scikit_activeml():
        from scipy.special import softmax
        from skactiveml import pool

        # `batch_bald` clips what it is given in place: the softmax makes a new array.
        bald = lambda: pool.batch_bald(softmax(logits, -1), batch_size=1)[0]
        entropy = lambda: pool.uncertainty_scores(
            softmax(logits, -1).mean(0), method="entropy"
        )
        return {"softmax included": {"BALD": bald, "entropy": entropy}[score]}

    def batchbald_redux():
        import torch
        from batchbald_redux import batchbald

        tensor = torch.from_numpy(np.ascontiguousarray(logits.transpose(1, 0, 2)))
        # It collects garbage for each chunk; what is frozen need not be searched.
        gc.freeze()

        def run():
            log_p = torch.log_softmax(tensor, -1)
            # Its progress bars would interrupt ours.
            with contextlib.redirect_stderr(io.StringIO()):
                conditional = batchbald.compute_conditional_entropy(log_p)
                return batchbald.compute_entropy(log_p) - conditional

        return peers.with_threads(run, "log-softmax included")

    found = {}
    if score in ("BALD", "entropy"):
        found["Baal"] = peers.program("Baal", baal)
        found["scikit-activeml"] = peers.program("scikit-activeml", scikit_activeml)
    if score == "BALD":
        found["batchbald_redux"] = peers.program("batchbald_redux", batchbald_redux)
    return found


def available_memory() -> float:
    """Bytes that can be had without swapping; infinite where it is not known."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return float("inf")
