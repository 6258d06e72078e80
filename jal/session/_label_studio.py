"""Tasks for Label Studio, and the answers it exports, on the host.

`config` is the labelling interface of a project and `tasks` what is imported into it;
`read` takes its exports. Nothing named in an export is opened: file names and URLs are
text to be looked up among the names of the pool.
"""

import base64
import io
import os
from collections.abc import Iterable, Sequence
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np

from jal.session import _annotations, _pool, _tables
from jal.session import _label_studio_answers as answers
from jal.session._annotations import Annotation, Vocabulary, shown
from jal.session._tables import located

CONTROL = "choice"

_IMAGES = {
    b"\x89PNG\r\n\x1a\n": "png",
    b"\xff\xd8\xff": "jpeg",
    b"GIF8": "gif",
    b"RIFF": "webp",
}


def label_studio_tasks(
    items: Iterable[int],
    names: Sequence[str],
    classes: Sequence[str],
    *,
    images: Sequence[str | bytes] | None = None,
    probabilities: Any = None,
    model_version: str = "jal",
    pool: str | None = None,
) -> list[dict]:
    """Makes the tasks of a batch, as Label Studio imports them.

    Args:
      items: [K] pool indices, in the order they are to be labelled.
      names: [N] names of the items.
      classes: [C] names of the classes.
      images: [K] what to show: a URL (http, a path that Label Studio serves as
        "/data/local-files/?d=pool/a.png", or what `thumbnail` returns), or the bytes
        of a PNG, JPEG, GIF or WebP file, which go into the task. By default the names.
      probabilities: [K, C] of a model: the likeliest class is shown to annotators as
        a guess, with its probability. Leave it out to not influence them.
      model_version: what made the guess.
      pool: a mark of the pool, so that answers are not taken for those of another pool
        whose items have the same names.

    Returns:
      [K] tasks for `files.write_json`. Their data say which item they are about, and
      Label Studio exports that with the answers.

    Raises:
      ValueError: an item is no pool index, or the others do not fit them.

    >>> names, classes = ["x.png", "y.png"], ["cat", "dog"]
    >>> (task,) = label_studio_tasks([1], names, classes, probabilities=[[0, 1]])
    >>> task["data"]
    {'image': 'y.png', 'jal_item': 1, 'name': 'y.png'}
    >>> task["predictions"][0]["result"][0]["value"]
    {'choices': ['dog']}
    """
    vocabulary = Vocabulary(names, classes)
    indices = [vocabulary.item(item) for item in items]
    if images is None:
        images = [names[index] for index in indices]
    if len(images) != len(indices):
        raise ValueError(f"images: {len(images)} for {len(indices)} items")
    marked = {} if pool is None else {"jal_pool": pool}
    made: list[dict] = [
        {"data": {"image": _url(image), "jal_item": i, "name": names[i], **marked}}
        for i, image in zip(indices, images, strict=True)
    ]
    if probabilities is None or not made:
        return made
    guesses, shape = np.asarray(probabilities, float), (len(indices), len(classes))
    if guesses.shape != shape:
        raise ValueError(
            f"probabilities has shape {guesses.shape}; expected [K, C] = {shape}"
        )
    if not ((guesses >= 0) & (guesses <= 1 + 1e-5)).all():
        raise ValueError("probabilities must lie in [0, 1]; take the softmax of logits")
    for task, guess in zip(made, guesses, strict=True):
        choices = {"choices": [classes[guess.argmax()]]}
        result = {"from_name": CONTROL, "to_name": "image", "type": "choices"}
        made_by = {"model_version": model_version, "score": float(guess.max())}
        task["predictions"] = [made_by | {"result": [result | {"value": choices}]}]
    return made


def label_studio_config(classes: Sequence[str]) -> str:
    """Makes the labelling interface: an image, and one choice among the classes.

    Args:
      classes: [C] names of the classes.

    Returns:
      XML for the settings of the project.

    Raises:
      ValueError: Label Studio would show a class as something else.

    >>> print(label_studio_config(["cat", 'say "<b>"']))
    <View>
      <Image name="image" value="$image"/>
      <Choices name="choice" toName="image" choice="single" showInLine="true">
        <Choice value="cat"/>
        <Choice value='say "&lt;b&gt;"'/>
      </Choices>
    </View>
    """
    for name in Vocabulary([], classes).classes:
        if "$" in name:
            raise ValueError(
                f"classes: Label Studio replaces what follows the $ in {name!r} by a "
                "field of the task; rename it"
            )
    choices = "".join(f"    <Choice value={quoteattr(name)}/>\n" for name in classes)
    return (
        '<View>\n  <Image name="image" value="$image"/>\n'
        f'  <Choices name="{CONTROL}" toName="image" choice="single" '
        f'showInLine="true">\n{choices}  </Choices>\n</View>'
    )


def thumbnail(image: Any, *, size: int = 128) -> str:
    """Draws an array as a small picture that fits into a task.

    Args:
      image: [H, W] grey, or [H, W, 1], [H, W, 3] or [H, W, 4] grey, RGB or RGBA; uint8,
        or float in [0, 1].
      size: the longer side of the picture, in pixels. A smaller image is enlarged.

    Returns:
      A PNG file as a URL, "data:image/png;base64,...".

    Raises:
      ValueError: this is no such array.
      ImportError: Pillow is missing.

    >>> thumbnail(np.zeros((8, 8), np.uint8))[:26]
    'data:image/png;base64,iVBO'
    """
    pixels = np.asarray(image)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim != 2 and pixels.shape[2:] not in ((3,), (4,)) or not pixels.size:
        raise ValueError(
            f"image has shape {pixels.shape}; expected [H, W] or [H, W, C] with C = 1, "
            "3 or 4"
        )
    if size < 1:
        raise ValueError(f"size={size}; it must be at least 1")
    # bfloat16 is no kind of float to NumPy, but can be converted.
    if pixels.dtype != np.uint8 and pixels.dtype.kind in "fV":
        pixels = pixels.astype(float)
        if not ((pixels >= 0) & (pixels <= 1)).all():
            raise ValueError(
                f"image has values from {pixels.min():g} to {pixels.max():g}; scale "
                "floats to [0, 1], or give uint8"
            )
        pixels = np.round(pixels * 255).astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise ValueError(f"image has dtype {pixels.dtype}; expected uint8 or float")
    image_module, _ = _pool.pillow()
    height, width = pixels.shape[:2]
    scale = size / max(height, width)
    # Pixels stay squares where there are few of them.
    how = image_module.Resampling["NEAREST" if scale >= 1 else "BOX"]
    picture = image_module.fromarray(pixels).resize(
        (max(round(width * scale), 1), max(round(height * scale), 1)), how
    )
    file = io.BytesIO()
    picture.save(file, "PNG")
    return _data_url(file.getvalue(), "png")


def read_label_studio(
    path: str | os.PathLike,
    *,
    names: Sequence[str],
    classes: Sequence[str],
    control: str = CONTROL,
    pool: str | None = None,
) -> list[Annotation]:
    """Reads answers that Label Studio exported as JSON, JSON-MIN, CSV or TSV.

    All annotations of a task are read, those marked as ground truth too; predictions
    and drafts are not. A task that was skipped, or submitted without a choice, has the
    label None; only JSON tells of skipped ones. Label Studio writes e-mail addresses
    into some exports and numbers into others, so one annotator may have two names:
    stay with one format.

    Args:
      path: the file, of at most 1 GiB.
      names: [N] names of the items. A task is about the item that `jal_item` in its
        data numbers; else the one whose name is `name`; else the one whose name ends
        the path of `image`, be it a URL, a local file or an upload.
      classes: [C] names of the classes.
      control: the name of the Choices tag, if the interface is not that of `config`.
      pool: the mark of the pool (see `tasks`): a task with another one is refused.

    Returns:
      The annotations, in the order of the file, with the times at which they were last
      changed; what one annotator said again of the same item is left out.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: something in it is wrong; task and value are named.

    Reference:
      Label Studio documentation, "Export annotations" and "Label Studio JSON format of
      annotated tasks", 2021 to 2025, https://labelstud.io/guide/export.

    >>> import json, tempfile
    >>> path = tempfile.mkdtemp() + "/export.json"
    >>> choice = {"type": "choices", "from_name": "choice", "value": {"choices": ["b"]}}
    >>> with open(path, "w") as file:
    ...     json.dump({"data": {"jal_item": 2}, "annotations": [
    ...         {"completed_by": 7, "lead_time": 1.5, "result": [choice]}]}, file)
    >>> read_label_studio(path, names=["x", "y", "z"], classes=["a", "b"])[0][:4]
    (2, 1, '7', 1.5)
    """
    reader = answers.Reader(Vocabulary(names, classes), control, pool)
    said: dict[tuple, Annotation] = {}
    place = "the beginning"
    try:
        for place, entry in answers.entries(path):
            with located(f"{path}, {place}"):
                for annotation in reader.annotations(place, entry):
                    known = said.setdefault(annotation[:3], annotation)
                    if (annotation.at or 0) > (known.at or 0):
                        said[annotation[:3]] = known._replace(at=annotation.at)
    except RecursionError:
        raise ValueError(
            f"{path}, {place}: nested too deeply; this is no export of Label Studio"
        ) from None
    if reader.elsewhere and not reader.found:
        place, other = reader.elsewhere
        raise ValueError(
            f"{path}, {place}: there are no choices called {control!r} but "
            f"{shown(other)}; name that as control (jal tell --control), if it holds "
            "the classes"
        )
    if reader.renamed:
        place, other = reader.renamed
        raise ValueError(
            f"{path}, {place}: here it is {shown(other)} that names a class, elsewhere "
            f"{control!r}; export what is under each name by itself, or rename one"
        )
    return list(said.values())


def read_answers(
    path: str | os.PathLike,
    *,
    names: Sequence[str],
    classes: Sequence[str],
    control: str = CONTROL,
    pool: str | None = None,
) -> list[Annotation]:
    r"""Reads answers from a CSV file of jal's, or an export of Label Studio.

    What it is, the content says, not the name of the file.

    Args:
      path: the file.
      names: [N] names of the items.
      classes: [C] names of the classes.
      control: see `read`.
      pool: the mark of the pool, where one is told.

    Returns:
      The annotations: see `_annotations.read_csv` and `read`.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: something in it is wrong.

    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/a.json"
    >>> with open(path, "w") as file:
    ...     _ = file.write("name,label\ny,b")
    >>> read_answers(path, names=["x", "y"], classes=["a", "b"])[0].label
    1
    """
    if not answers.is_json(path):
        columns = _tables.header(path)
        exported = "annotation_id" in columns or (
            control in columns and "label" not in columns
        )
        if not exported:
            return _annotations.read_csv(path, names=names, classes=classes, pool=pool)
    return read_label_studio(
        path, names=names, classes=classes, control=control, pool=pool
    )


def _url(image: str | bytes) -> str:
    if isinstance(image, str):
        return image
    for signature, kind in _IMAGES.items():
        if image.startswith(signature):
            return _data_url(image, kind)
    raise ValueError(
        f"images: {shown(image[:20])} is no PNG, JPEG, GIF or WebP file; draw arrays "
        "with thumbnail"
    )


def _data_url(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
