"""Docstrings are complete: arguments, shapes, an example, and the paper behind it."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

MODULES = sorted(
    path.stem for path in (Path(__file__).parent.parent / "jal").glob("*.py")
)
MODULES = [name for name in MODULES if not name.startswith("_")]
SHAPE = re.compile(r"\[(\.\.\.|[A-Zn0-9][\w *+/]*|)(, [^\]\n]+)?\]")
SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Examples?|Reference)s?:", re.M)
# What somebody else thought of says who.
PAPERS = {
    "acquisition": None,  # all of it
    "augmentation": ["crop_and_flip"],
    "batchbald": ["batch_bald", "joint_mutual_information"],
    "cost": ["cost_ratio", "perimeter", "annotation_cost"],
    "diversity": ["k_center", "badge"],
    "error_laws": ["profile", "upper_bound", "fit", "predict", "rising"],
    "labelling": ["adaptive", "label"],
    "learners": ["regressor", "with_ranker"],
    "losses": [
        "hinge_ranking",
        "logistic_ranking",
        "kl_divergence",
        "fooling",
        "discrimination",
    ],
    "min_cost": ["machine_share", "search", "plan", "spread_rounds", "advance"],
    "networks": [
        "PlainCNN",
        "cnn18",
        "resnet20",
        "resnet50",
        "resnet56",
        "GalCNN",
        "Ranker",
        "ResNet",
        "VAE",
        "Discriminator",
    ],
    "normalization": ["normalize"],
    "numerics": ["merge_moments"],
    "pool": ["stream"],
    "predictive": [
        "summarize",
        "merge",
        "predict_passes",
        "log_prob_passes",
        "predict_members",
    ],
    "selection": ["power", "diversify", "within_budget"],
    "strategies": [
        "from_scores",
        "learning_loss",
        "coreset",
        "typical",
        "badge",
        "batch_bald",
    ],
    "training_price": ["by_rounds"],
    "typicality": ["typical"],
    "vaal": ["make_step", "vaal", "ta_vaal", "epochs_of"],
}


def public():
    """(module.name, object) of all functions and classes that jal defines."""
    for module_name in MODULES:
        module = importlib.import_module(f"jal.{module_name}")
        for name, member in vars(module).items():
            if name.startswith("_") or not (
                inspect.isfunction(member) or inspect.isclass(member)
            ):
                continue
            if member.__module__ == module.__name__:
                yield f"{module_name}.{name}", member


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


def test_public_names_are_found():
    assert {"acquisition.bald", "loop.run", "types.Pool", "plots.save"} <= set(PUBLIC)
    assert {"networks.max_pool", "cost.perimeter"} <= set(ARRAY_FUNCTIONS)
    assert len(FUNCTIONS) > len(ARRAY_FUNCTIONS) > 30


@pytest.mark.parametrize("name", MODULES)
def test_a_module_says_what_it_is(name):
    assert importlib.import_module(f"jal.{name}").__doc__.strip().endswith(".")


@pytest.mark.parametrize("name", PUBLIC)
def test_docstrings_begin_with_one_line(name):
    first, *rest = text(name).splitlines()
    assert first.endswith((".", ":")) and len(first) > 15
    assert not rest or rest[0] == ""
    for method_name, method in vars(PUBLIC[name]).items():
        if inspect.isfunction(method) and not method_name.startswith("_"):
            assert method.__doc__ or method.__module__ != PUBLIC[name].__module__


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_say_what_they_take_and_return(name):
    function = PUBLIC[name]
    assert entries(name, "Args") == set(inspect.signature(function).parameters)
    returns = function.__annotations__.get("return", "missing")
    assert returns != "missing", "the return value has no type"
    if returns not in (None, "None"):
        assert section(name, "Returns").strip()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_have_an_example(name):
    assert re.search(r"^ *>>> \S", text(name), re.M)


@pytest.mark.parametrize("name", ARRAY_FUNCTIONS)
def test_functions_of_arrays_give_shapes(name):
    described = section(name, "Args") + section(name, "Returns")
    assert SHAPE.search(described)


@pytest.mark.parametrize("name", CLASSES)
def test_classes_describe_their_fields(name):
    fields = getattr(PUBLIC[name], "__annotations__", {})
    own = {field for field in fields if field not in ("name", "parent")}
    assert entries(name, "Attributes") == own


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in PUBLIC
        for module, _, short in [name.partition(".")]
        if module in PAPERS and (PAPERS[module] is None or short in PAPERS[module])
    ],
)
def test_what_comes_from_a_paper_names_it(name):
    assert re.search(r"^Reference:", text(name), re.M)
    assert re.search(r"\b(19|20)\d\d\b", text(name).split("Reference:")[1])


def test_papers_are_those_of_functions_that_exist():
    for module, names in PAPERS.items():
        for name in names or []:
            assert f"{module}.{name}" in PUBLIC
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
