import doctest
import gzip
import io
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from experiments.common import datasets
from experiments.common.datasets import ImageData, load


def rows(images, labels):
    """The multiset of (image, label)."""
    return Counter((x.tobytes(), int(y)) for x, y in zip(images, labels, strict=True))


def assert_same(a: ImageData, b: ImageData):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


# Digits


def test_digits_have_the_stated_shapes_and_types():
    data = load("digits")
    assert data.name == "digits" and data.num_classes == 10 and data.costs is None
    assert data.images.shape == (1297, 8, 8, 1) and data.images.dtype == np.uint8
    assert data.test_images.shape == (500, 8, 8, 1)
    assert data.test_images.dtype == np.uint8
    assert data.labels.shape == (1297,) and data.labels.dtype == np.int32
    assert data.test_labels.shape == (500,) and data.test_labels.dtype == np.int32
    assert set(data.labels) == set(data.test_labels) == set(range(10))


def test_digits_split_is_disjoint_complete_and_scaled():
    from sklearn.datasets import load_digits

    data, source = load("digits", test_size=300, seed=3), load_digits()
    scaled = np.array([[round(v * 255 / 16) for v in x.flat] for x in source.images])
    assert scaled.min() == 0 and scaled.max() == 255
    # Every (image, label) as often as in the source, wherever it went.
    parts = rows(data.images, data.labels) + rows(data.test_images, data.test_labels)
    assert parts == rows(scaled.astype(np.uint8), source.target)
    assert len(data.labels) == 1497 and len(data.test_labels) == 300


def test_digits_split_depends_on_the_seed_alone():
    assert_same(load("digits", seed=1), load("digits", seed=1))
    assert not np.array_equal(load("digits").labels, load("digits", seed=1).labels)


@pytest.mark.parametrize("size", [1, 1796, np.int64(20)])
def test_any_possible_test_size_is_accepted(size):
    data = load("digits", test_size=size)
    assert len(data.test_labels) == size and len(data.labels) == 1797 - size


@pytest.mark.parametrize("size", [0, -1, 1797, 5000, 0.2])
def test_impossible_test_size(size):
    with pytest.raises(ValueError, match=f"test_size .* 1 to 1796.*got {size}"):
        load("digits", test_size=size)


@pytest.mark.parametrize("name", ["cifar-10", "", "data.npy", None, 3])
def test_unknown_name(name):
    allowed = "name must be digits, mnist, fashion_mnist, cifar10 or a path.*npz, got "
    with pytest.raises(ValueError, match=allowed + re.escape(repr(name))):
        load(name)


def test_docstring_example():
    assert doctest.testmod(datasets).failed == 0


def test_importing_the_module_imports_no_data_package():
    code = (
        "import sys, experiments.common.datasets; "
        "print({'sklearn', 'tensorflow_datasets', 'tqdm', 'jax'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert out.strip() == "set()"


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [
        ("digits", "sklearn.datasets", "experiments"),
        ("mnist", "tensorflow_datasets", "data"),
        ("mnist", "array_record", "data"),
    ],
)
def test_missing_package_names_the_extra(monkeypatch, name, package, extra):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"'{name}'.*pip install 'jal\[{extra}\]'"):
        load(name)


# .npz files

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 4, 5, 3), np.uint8)
LABELS = np.arange(12) % 3
COSTS = np.linspace(0.5, 9, 12)
GOOD = {"images": IMAGES, "labels": LABELS, "costs": COSTS}


@pytest.fixture
def write(tmp_path):
    def write(**changes):
        """Write GOOD with the changes (None: left out); return the path."""
        arrays = {k: v for k, v in (GOOD | changes).items() if v is not None}
        np.savez(tmp_path / "mine.npz", **arrays)
        return tmp_path / "mine.npz"

    return write


def test_npz_with_a_test_set_and_costs(write):
    path = write(test_images=IMAGES[:5], test_labels=LABELS[:5].astype(np.uint8))
    data = load(path, test_size=10**6)  # not needed, so not looked at
    assert data.name == "mine" and data.num_classes == 3
    for got, expected in [
        (data.images, IMAGES),
        (data.labels, LABELS.astype(np.int32)),
        (data.test_images, IMAGES[:5]),
        (data.test_labels, LABELS[:5].astype(np.int32)),
        (data.costs, COSTS.astype(np.float32)),
    ]:
        assert got is not None and got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)
    assert_same(data, load(str(path)))


def test_npz_without_a_test_set_is_split_with_its_costs(write):
    data = load(write(), test_size=4, seed=2)
    assert data.images.shape == (8, 4, 5, 3) and data.test_images.shape == (4, 4, 5, 3)
    parts = rows(data.images, data.labels) + rows(data.test_images, data.test_labels)
    assert parts == rows(IMAGES, LABELS)
    position = [np.flatnonzero((IMAGES == x).all((1, 2, 3)))[0] for x in data.images]
    assert data.costs is not None and data.costs.dtype == np.float32
    np.testing.assert_array_equal(data.costs, COSTS[position].astype(np.float32))
    assert_same(data, load(write(), test_size=4, seed=2))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_npz_grey_floats_become_uint8(write, dtype):
    grey = np.arange(12 * 22).reshape(12, 2, 11) % 256
    path = write(images=(grey / 255).astype(dtype), costs=None, labels=LABELS)
    data = load(path, test_size=1)
    both = np.concatenate([data.images, data.test_images])
    assert both.dtype == np.uint8 and both.shape == (12, 2, 11, 1)
    assert rows(both, both[:, 0, 0, 0]) == rows(grey.astype(np.uint8), grey[:, 0, 0])
    assert data.costs is None


def test_npz_labels_may_have_gaps_and_the_test_set_further_classes(write):
    data = load(
        write(labels=LABELS * 3, test_images=IMAGES[:1], test_labels=np.array([9]))
    )
    assert set(data.labels) == {0, 3, 6} and data.num_classes == 10


def test_npz_other_arrays_are_ignored_even_pickled_ones(write):
    assert len(load(write(comment=np.array(["a", None])), test_size=2).labels) == 10


def changed(array, index, value):
    array = array.copy()
    array[index] = value
    return array


FLOATS = IMAGES / 255
NO_TEST = {"test_images": None}
TESTS = {"test_images": IMAGES[:2], "test_labels": LABELS[:2]}
BAD_ARRAYS = {
    "no images": ({"images": None}, r"mine\.npz lacks images; it holds labels, costs"),
    "no labels": (
        {"labels": None, "y": LABELS},
        r"lacks labels; it holds images, costs, y\. Needed are images and labels",
    ),
    "nothing": (dict.fromkeys(GOOD), "lacks images, labels; it holds no arrays"),
    "no test labels": ({"test_images": IMAGES}, "lacks test_labels; it holds images"),
    "no test images": ({"test_labels": LABELS}, "lacks test_images; .* go together"),
    "pickled images": (
        {"images": np.array([{"a": 1}] * 12)},
        "Object arrays.*holds Python objects. Write plain arrays with np.savez",
    ),
    "flat images": ({"images": IMAGES[:, 0, :, 0]}, r"images must be.*shape \(12, 5\)"),
    "video": ({"images": IMAGES[None]}, r"images must be.*shape \(1, 12, 4, 5, 3\)"),
    "no image": (
        {"images": IMAGES[:0], "labels": LABELS[:0]},
        r"images must be.*not empty, got shape \(0, 4, 5, 3\)",
    ),
    "images without pixels": ({"images": IMAGES[:, :0]}, "images must be.*not empty"),
    "int images": ({"images": IMAGES.astype(int)}, "uint8 or floats.*got int64.*astyp"),
    "bool images": ({"images": IMAGES > 9}, "uint8 or floats.*got bool"),
    "text images": ({"images": IMAGES.astype(str)}, "uint8 or floats.*got <U"),
    "floats to 255": ({"images": IMAGES / 1}, r"\[0, 1\].*got 0.0 to 255.0. Scale"),
    "floats below 0": ({"images": FLOATS - 0.5}, "images .*got -0.5 to 0.5"),
    "NaN pixel": ({"images": changed(FLOATS, 3, np.nan)}, "without NaN, got nan"),
    "infinite pixel": ({"images": changed(FLOATS, 3, np.inf)}, "got 0.0 to inf"),
    "fewer labels": ({"labels": LABELS[1:]}, r"labels must be 12 .*shape \(11,\)"),
    "one-hot labels": ({"labels": np.eye(12, dtype=int)}, r"\(12, 12\).*argmax"),
    "float labels": ({"labels": LABELS / 1}, "labels must be.*of float64"),
    "named labels": ({"labels": LABELS.astype(str)}, "of <U.*np.unique"),
    "no label": ({"labels": changed(LABELS, 5, -1)}, "labels .* from 0, got -1 to 2"),
    "huge label": ({"labels": changed(LABELS, 5, 2**40)}, f"got 0 to {2**40}"),
    "one class": ({"labels": LABELS * 0 + 7}, "labels must hold 2 classes, all are 7"),
    "fewer costs": ({"costs": COSTS[1:]}, r"costs must be 12 .*shape \(11,\)"),
    "a column of costs": ({"costs": COSTS[:, None]}, r"costs must be.*\(12, 1\)"),
    "text costs": ({"costs": COSTS.astype(str)}, "costs must be.*of <U"),
    "NaN cost": ({"costs": changed(COSTS, 3, np.nan)}, "costs .*got nan at index 3"),
    "endless cost": ({"costs": changed(COSTS, 3, np.inf)}, "got inf at index 3"),
    "negative cost": ({"costs": changed(COSTS, 3, -2)}, "> 0 .*got -2.0 at index 3 "),
    "free": ({"costs": COSTS * 0}, r"costs .*got 0.0 at index 0 \(12 such\)"),
    "cost that float32 rounds to 0": ({"costs": COSTS * 1e-60}, "as float32"),
    "cost beyond float32": ({"costs": COSTS * 1e60}, "as float32"),
    "test images of another size": (
        TESTS | {"test_images": IMAGES[:2, :3]},
        r"test_images must have.*\(4, 5, 3\), got \(3, 5, 3\)",
    ),
    "test images of another type": (
        TESTS | {"test_images": IMAGES[:2] + 300.0},
        "test_images given as floats",
    ),
    "empty test set": (TESTS | {"test_images": IMAGES[:0]}, "test_images.*not empty"),
    "fewer test labels": (TESTS | {"test_labels": LABELS[:1]}, "test_labels must be 2"),
    "negative test label": (TESTS | {"test_labels": -LABELS[:2]}, "got -1 to 0"),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_bad_arrays_are_named(write, case):
    changes, message = BAD_ARRAYS[case]
    with pytest.raises(ValueError, match=message):
        load(write(**changes), test_size=4)


def test_npz_smaller_than_the_test_size(write):
    with pytest.raises(ValueError, match="from 1 to 11, because mine has 12 images"):
        load(write())


def npy():
    file = io.BytesIO()
    np.save(file, IMAGES)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"a,b\n1,2\n", "another format"), (b"", "damaged"), (npy(), "a single array")],
    ids=["text", "empty", "npy"],
)
def test_file_of_another_format(tmp_path, content, message):
    (tmp_path / "mine.npz").write_bytes(content)
    with pytest.raises(ValueError, match=f"mine.npz cannot be read as.*{message}"):
        load(tmp_path / "mine.npz")


def test_truncated_npz(write):
    content = write().read_bytes()
    for size in range(0, len(content), 37):
        path = write()
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match="mine.npz cannot be read as.*damaged"):
            load(path)


def test_npz_with_a_flipped_byte(write):
    path = write()
    content = bytearray(path.read_bytes())
    content[400] ^= 255
    path.write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read.*CRC.*damaged"):
        load(path)


def test_missing_npz(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.npz does not exist"):
        load(tmp_path / "none.npz")
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(FileNotFoundError, match="folder.npz .* is not a file"):
        load(tmp_path / "folder.npz")


# TensorFlow Datasets


@pytest.fixture(scope="module")
def mnist(mnist_tfds_dir):
    return load("mnist", data_dir=mnist_tfds_dir, progress=False)


@pytest.mark.slow
def test_mnist_is_all_there(mnist):
    assert mnist.name == "mnist" and mnist.num_classes == 10 and mnist.costs is None
    assert mnist.images.shape == (60_000, 28, 28, 1)
    assert mnist.test_images.shape == (10_000, 28, 28, 1)
    assert mnist.images.dtype == mnist.test_images.dtype == np.uint8
    assert mnist.labels.dtype == mnist.test_labels.dtype == np.int32
    per_class = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(mnist.labels).tolist() == per_class
    per_class = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(mnist.test_labels).tolist() == per_class


@pytest.mark.slow
def test_mnist_images_have_their_labels(mnist):
    # (sum of the pixels, label) of the first ten images of the original training set.
    first = [(27525, 5), (31095, 0), (19443, 4), (17135, 1), (23214, 9)]
    first += [(29601, 2), (17646, 1), (35867, 3), (10874, 1), (21904, 4)]
    sums = mnist.images.sum((1, 2, 3), dtype=int).tolist()
    assert set(first) <= set(zip(sums, mnist.labels.tolist(), strict=True))


@pytest.mark.slow
def test_mnist_equals_the_original_files(mnist):
    folder = Path(__file__).resolve().parents[2] / "shared" / "data" / "mnist"
    if not folder.is_dir():
        pytest.skip("the original MNIST files are not in shared/data")

    def original(name, header):
        with gzip.open(folder / name) as file:
            return np.frombuffer(file.read(), np.uint8, offset=header)

    for prefix, images, labels in [
        ("train", mnist.images, mnist.labels),
        ("t10k", mnist.test_images, mnist.test_labels),
    ]:
        pixels = original(f"{prefix}-images-idx3-ubyte.gz", 16).reshape(-1, 784)
        classes = original(f"{prefix}-labels-idx1-ubyte.gz", 8)
        assert images.sum(dtype=int) == pixels.sum(dtype=int)
        assert rows(images, labels) == rows(pixels, classes)


def test_set_that_is_not_prepared(tmp_path, monkeypatch):
    pytest.importorskip("tensorflow_datasets")
    remedy = r".*data_dir.*TFDS_DATA_DIR.*tfds.builder\('cifar10'.*TensorFlow"
    with pytest.raises(FileNotFoundError, match=f"cifar10 .*{tmp_path}{remedy}"):
        load("cifar10", data_dir=tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "variable"))
    with pytest.raises(FileNotFoundError, match="mnist is not .*variable"):
        load("mnist")
    monkeypatch.delenv("TFDS_DATA_DIR")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with pytest.raises(FileNotFoundError, match="mnist .*home/tensorflow_datasets"):
        load("mnist")


@pytest.fixture
def mnist_copy(mnist_tfds_dir, tmp_path):
    """The folder <tmp_path>/mnist/<version>, to be damaged."""
    folder = max(mnist_tfds_dir.glob("mnist/[0-9]*"))
    return Path(shutil.copytree(folder, tmp_path / "mnist" / folder.name))


@pytest.mark.slow
def test_set_prepared_in_the_wrong_format(mnist_copy, tmp_path):
    info = mnist_copy / "dataset_info.json"
    info.write_text(info.read_text().replace('"array_record"', '"tfrecord"'))
    with pytest.raises(FileNotFoundError, match="but not as ArrayRecord. Remove that"):
        load("mnist", data_dir=tmp_path)


@pytest.mark.slow
def test_damaged_set(mnist_copy, tmp_path):
    (file,) = mnist_copy.glob("mnist-test*")
    file.write_bytes(file.read_bytes()[:100_000])
    with pytest.raises(ValueError, match="mnist in .* is damaged .*Remove that folder"):
        load("mnist", data_dir=tmp_path)
    file.unlink()
    with pytest.raises(ValueError, match="mnist in .* is damaged .*No such file"):
        load("mnist", data_dir=tmp_path)
