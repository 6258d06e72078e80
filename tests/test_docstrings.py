"""Docstrings are complete: arguments, shapes, an example, and the paper behind it."""

import importlib
import inspect
import re
import typing
from pathlib import Path

import pytest

import jal

ROOT = Path(jal.__file__).parent
PARTS = [name for name in jal.__all__ if inspect.ismodule(getattr(jal, name))]
SHAPE = re.compile(r"\[(\.\.\.|[A-Zn0-9][\w *+/]*|)(, [^\]\n]+)?\]")
SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Examples?|Reference)s?:", re.M)
# What somebody else thought of says who.
PAPERS = {
    "acquisition": "entropy bald mean_std margin least_confidence variation_ratio "
    "predicted_loss shift",
    "cost": "cost_ratio perimeter annotation_cost",
    "learners": "regressor with_ranker",
    "learners.losses": "hinge_ranking logistic_ranking kl_divergence fooling "
    "discrimination",
    "mcal": "adaptive label machine_share search plan spread_rounds advance "
    "error_profile upper_bound fit_law predict_errors rising price_of_rounds",
    "nn": "PlainCNN cnn18 resnet20 resnet50 resnet56 GalCNN Ranker ResNet VAE "
    "Discriminator normalize crop_and_flip",
    "pool": "stream",
    "predictive": "summarize merge predict_passes log_prob_passes predict_members",
    "selection": "power diversify within_budget batch_bald joint_mutual_information "
    "k_center badge typical",
    "strategies": "from_scores learning_loss k_center typical badge batch_bald vaal "
    "ta_vaal epochs_of",
}


def public():
    """part.name -> object, of all functions and classes of jal's that are public."""
    parts = {name: getattr(jal, name) for name in PARTS}
    parts["learners.losses"] = importlib.import_module("jal.learners.losses")
    for part, module in parts.items():
        names = getattr(module, "__all__", None) or [
            name
            for name, member in vars(module).items()
            if not name.startswith("_")
            and getattr(member, "__module__", None) == module.__name__
        ]
        for name in names:
            member = getattr(module, name)
            if inspect.isfunction(member) or inspect.isclass(member):
                yield f"{part}.{name}", member


PUBLIC = dict(public())
FUNCTIONS = [name for name, member in PUBLIC.items() if inspect.isfunction(member)]
CLASSES = [name for name, member in PUBLIC.items() if inspect.isclass(member)]


def text(name: str) -> str:
    return inspect.cleandoc(PUBLIC[name].__doc__ or "")


def section(name: str, title: str) -> str:
    """What stands under a title, up to the next one or the example."""
    found = re.search(rf"^{title}:\n(.*?)(?=^\S|\Z)", text(name), re.M | re.S)
    return found[1] if found else ""


def entries(name: str, title: str) -> set[str]:
    return set(re.findall(r"^  \**(\w+):", section(name, title), re.M))


def takes_or_returns_arrays(function) -> bool:
    hints = function.__annotations__.values()
    return any("jax.Array" in inspect.formatannotation(hint) for hint in hints)


ARRAY_FUNCTIONS = [name for name in FUNCTIONS if takes_or_returns_arrays(PUBLIC[name])]


def failing(names, rule) -> list[str]:
    return [name for name in names if not rule(name)]


def test_public_names_are_found():
    assert {"acquisition.bald", "loop.run", "types.Pool", "plots.save"} <= set(PUBLIC)
    assert {"nn.max_pool", "cost.perimeter"} <= set(ARRAY_FUNCTIONS)
    assert len(FUNCTIONS) > len(ARRAY_FUNCTIONS) > 30


def test_every_file_says_what_it_is():
    def says(path):
        name = ".".join(["jal", *path.relative_to(ROOT).with_suffix("").parts])
        doc = importlib.import_module(name.removesuffix(".__init__")).__doc__
        return doc and doc.strip().split("\n")[0].endswith((".", ":", ","))

    assert not [path for path in ROOT.rglob("*.py") if not says(path)]


def test_packages_list_their_names_with_a_line_each():
    for part in PARTS:
        module = getattr(jal, part)
        if not hasattr(module, "__path__"):
            continue
        listed = set(re.findall(r"^- `(\w+)`: \S", module.__doc__, re.M))
        members = {name: getattr(module, name) for name in module.__all__}
        assert listed == {
            name
            for name, member in members.items()
            if callable(member) and typing.get_origin(member) is None
        }


def test_docstrings_begin_with_one_line():
    def does(name):
        first, *rest = text(name).splitlines()
        return first.endswith((".", ":")) and len(first) > 15 and not (rest and rest[0])

    assert not failing(PUBLIC, does)


def test_methods_have_a_docstring():
    def has(name):
        return all(
            method.__doc__ or method.__module__ != PUBLIC[name].__module__
            for method_name, method in vars(PUBLIC[name]).items()
            if inspect.isfunction(method) and not method_name.startswith("_")
        )

    assert not failing(PUBLIC, has)


def test_functions_say_what_they_take():
    def says(name):
        return entries(name, "Args") == set(inspect.signature(PUBLIC[name]).parameters)

    assert not failing(FUNCTIONS, says)


def test_functions_say_what_they_return():
    def says(name):
        returns = PUBLIC[name].__annotations__.get("return", "missing")
        has_section = bool(section(name, "Returns").strip())
        return returns != "missing" and (returns in (None, "None") or has_section)

    assert not failing(FUNCTIONS, says)


def test_functions_have_an_example():
    assert not failing(
        FUNCTIONS, lambda name: re.search(r"^ *>>> \S", text(name), re.M)
    )


def test_functions_of_arrays_give_shapes():
    described = lambda name: section(name, "Args") + section(name, "Returns")
    assert not failing(ARRAY_FUNCTIONS, lambda name: SHAPE.search(described(name)))


def test_classes_describe_their_fields():
    def fields(name):
        own = vars(PUBLIC[name]).get("__annotations__", {})
        return {
            field
            for field, hint in own.items()
            if field not in ("name", "parent")
            and typing.get_origin(hint) is not typing.ClassVar
        }

    assert not failing(CLASSES, lambda n: entries(n, "Attributes") == fields(n))


def test_what_comes_from_a_paper_names_it():
    def names_it(name):
        _, found, reference = text(name).partition("\nReference:")
        return found and re.search(r"\b(19|20)\d\d\b", reference)

    of_papers = [
        name
        for name in FUNCTIONS + CLASSES
        for part, _, short in [name.rpartition(".")]
        if part in PAPERS and (short in PAPERS[part].split())
    ]
    assert not failing(of_papers, names_it)


def test_papers_are_those_of_functions_that_exist():
    for part, names in PAPERS.items():
        assert not {f"{part}.{name}" for name in names.split()} - set(PUBLIC)
    assert all(SECTION.search(text(name)) for name in FUNCTIONS)


@pytest.mark.parametrize(
    ("shape", "is_one"),
    [
        ("[N]", True),
        ("[]", True),
        ("[..., C]", True),
        ("[S, ..., C]", True),
        ("[C * per_class]", True),
        ("[n0]", True),
        ("[B, H // window, W]", True),
        ("[see below]", False),
        ("N", False),
    ],
)
def test_what_a_shape_looks_like(shape, is_one):
    assert bool(SHAPE.search(shape)) == is_one
