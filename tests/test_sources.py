"""Sources: arrays, files, shards and data sources read alike, bad ones are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jal import scoring
from jal.scoring import _sources

POOL = np.arange(7 * 6, dtype=np.int16).reshape(7, 2, 3)


class Items:
    """A data source of dicts, got one by one."""

    def __len__(self):
        return len(POOL)

    def __getitem__(self, index):
        return {"image": POOL[index], "id": b"%d" % index}


class Batches(Items):
    """The same, with a way to get many at once, as TFDS has it."""

    def __getitem__(self, index):
        raise AssertionError("items are asked for a batch at a time")

    def __getitems__(self, indices):
        return [Items.__getitem__(self, index) for index in indices]


def as_file(folder):
    np.save(folder / "pool.npy", POOL)
    return folder / "pool.npy"


def as_shards(folder, sizes=(2, 0, 1, 4)):
    (folder / "shards").mkdir()
    ends = np.cumsum(sizes)
    for number, (end, size) in enumerate(zip(ends, sizes, strict=True)):
        # 8, 9, 10, 11: the order of numbers is not that of letters.
        np.save(folder / "shards" / f"part-{number + 8}.npy", POOL[end - size : end])
    (folder / "shards" / "README.txt").write_text("not a shard")
    return folder / "shards"


image = lambda batch: batch["image"]
KINDS = {
    "array": lambda folder: POOL,
    "jax array": lambda folder: jnp.asarray(POOL),
    "file": as_file,
    "path as text": lambda folder: str(as_file(folder)),
    "memory map": lambda folder: np.load(as_file(folder), mmap_mode="r"),
    "shards": as_shards,
    "items": lambda folder: scoring.open_source(Items(), prepare=image),
    "batches": lambda folder: scoring.open_source(Batches(), prepare=image),
    "source": lambda folder: scoring.open_source(POOL),
}


@pytest.mark.parametrize("kind", KINDS)
def test_all_kinds_give_the_same_slices(kind, tmp_path):
    source = scoring.open_source(KINDS[kind](tmp_path))
    assert source.length == 7
    for start in range(7):
        for stop in range(start + 1, 8):
            np.testing.assert_array_equal(source.read(start, stop), POOL[start:stop])


def test_fingerprints_tell_pools_apart_and_not_kinds(tmp_path):
    opened = {
        kind: scoring.open_source(make(tmp_path))
        for kind, make in KINDS.items()
        if kind not in ("path as text", "memory map")
    }
    prints = {kind: _sources.fingerprint(source) for kind, source in opened.items()}
    assert len(set(prints.values())) == 1, prints
    others = [
        POOL[:6],
        POOL + 1,
        POOL.astype(np.int32),
        POOL.reshape(7, 3, 2),
        POOL[::-1],
    ]
    different = {_sources.fingerprint(scoring.open_source(other)) for other in others}
    assert len(different | set(prints.values())) == 6


def test_pytrees_are_sliced_leaf_by_leaf():
    tree = {"a": POOL, "b": (POOL[:, 0], jnp.arange(7))}
    got = scoring.open_source(tree).read(2, 5)
    expected = {"a": POOL[2:5], "b": (POOL[2:5, 0], np.arange(2, 5))}
    jax.tree.map(np.testing.assert_array_equal, got, expected)


def test_tfds_source(mnist_tfds_dir):
    import tensorflow_datasets as tfds

    data = tfds.data_source("mnist", split="test", data_dir=mnist_tfds_dir)
    source = scoring.open_source(data, prepare=image)
    assert source.length == 10_000
    batch = source.read(9_997, 10_000)
    assert batch.shape == (3, 28, 28, 1) and batch.dtype == np.uint8
    np.testing.assert_array_equal(batch[1], data[9_998]["image"])


@given(
    sizes=st.lists(st.integers(0, 4), min_size=1, max_size=6).filter(any),
    cut=st.tuples(st.integers(0, 30), st.integers(0, 30)),
)
@settings(max_examples=60, deadline=None)
def test_shards_of_any_sizes(sizes, cut, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    whole = np.arange(sum(sizes) * 2).reshape(-1, 2)
    for number, part in enumerate(np.split(whole, np.cumsum(sizes)[:-1])):
        np.save(folder / f"{number}.npy", part)
    start, stop = sorted(value % (len(whole) + 1) for value in cut)
    if start < stop:
        got = scoring.open_source(folder).read(start, stop)
        np.testing.assert_array_equal(got, whole[start:stop])


@pytest.mark.parametrize("kind", ["array", "file", "shards"])
def test_items_on_another_axis(kind, tmp_path):
    logits = np.random.default_rng(0).normal(size=(4, 6, 3)).astype(np.float16)
    source = logits
    if kind == "file":
        source = tmp_path / "logits.npy"
        np.save(source, logits)
    if kind == "shards":
        source = tmp_path
        np.save(tmp_path / "1.npy", logits[:, :4])
        np.save(tmp_path / "2.npy", logits[:, 4:])
    for axis in (1, -2):
        opened = scoring.open_source(source, items_axis=axis)
        assert opened.length == 6
        expected = logits.transpose(1, 0, 2)[3:5]
        np.testing.assert_array_equal(opened.read(3, 5), expected)


def test_a_file_is_mapped_and_not_loaded(tmp_path):
    path = tmp_path / "sparse.npy"
    header = {"descr": "|u1", "fortran_order": False, "shape": (1 << 40, 1)}
    with open(path, "wb") as file:  # a terabyte, of which nothing is on the disk
        np.lib.format.write_array_header_2_0(file, header)
        file.truncate(file.tell() + (1 << 40))
    source = scoring.open_source(path)
    assert source.length == 1 << 40
    assert source.read(5, 8).tolist() == [[0], [0], [0]]


def truncated(folder):
    path = as_file(folder)
    path.write_bytes(path.read_bytes()[:-1])
    return path


def text(folder):
    (folder / "pool.npy").write_text("1,2\n")
    return folder / "pool.npy"


def empty_file(folder):
    (folder / "pool.npy").touch()
    return folder / "pool.npy"


def archive(folder):
    np.savez(folder / "pool.npz", POOL)
    return folder / "pool.npz"


def pickled(folder):
    np.save(folder / "pool.npy", np.array([{}]), allow_pickle=True)
    return folder / "pool.npy"


def unlike_shards(folder, other):
    path = as_shards(folder)
    np.save(path / "part-99.npy", other)
    return path


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (truncated, ValueError, "pool.npy is not a whole .npy file"),
        (text, ValueError, "pool.npy is not a whole .npy file"),
        (empty_file, ValueError, "pool.npy is not a whole .npy file"),
        (pickled, ValueError, "pool.npy is not a whole .npy file"),
        (archive, ValueError, "pool.npz is an .npz archive"),
        (lambda folder: folder / "no.npy", FileNotFoundError, "no.npy: there is no"),
        (lambda folder: folder, FileNotFoundError, "holds no .npy file"),
        (lambda f: unlike_shards(f, POOL[:, :1]), ValueError, "shards must agree"),
        (
            lambda f: unlike_shards(f, POOL * 1.0),
            ValueError,
            "part-99.npy has items of",
        ),
        (lambda f: unlike_shards(f, np.int16(1)), ValueError, "no axis 0"),
        (lambda folder: {"a": POOL, "b": POOL[1:]}, ValueError, "lengths \\[6, 7\\]"),
        (lambda folder: np.float32(1), ValueError, "no axis 0"),
        (lambda folder: np.array([{}]), ValueError, "Python objects"),
        (lambda folder: POOL[:0], ValueError, "the source is empty"),
        (lambda folder: [1, 2], TypeError, "source is a list"),
        (lambda folder: 3, TypeError, "source is a int"),
        (lambda folder: None, TypeError, "source is a NoneType"),
    ],
)
def test_bad_sources(make, error, message, tmp_path):
    with pytest.raises(error, match=message):
        scoring.open_source(make(tmp_path))


def test_logits_without_the_axis(tmp_path):
    with pytest.raises(ValueError, match=r"shape \(7,\), and no axis 1"):
        scoring.open_source(POOL[:, 0, 0], items_axis=1)
