"""The answers in what Label Studio exports: JSON, JSON-MIN, CSV and TSV."""

import contextlib
import json
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit

from jal.session import _annotations, _tables
from jal.session._annotations import Annotation, Vocabulary, shown
from jal.session._tables import expect, located

# Label Studio puts the start of a random number before the name of an upload.
_UPLOAD = re.compile(r"^[0-9a-f]{8}-(?=.)")
_LOCAL_FILE = re.compile(r"/local-files/?\?(?:[^#]*&)?d=([^&#]*)")
# What annotators may say besides a choice.
_REMARKS = {"textarea", "rating", "number", "datetime"}
# What a row of a flat export has.
_FLAT = ("jal_item", "name", "image", "annotator", "annotation_id")
# Folders of a URL that may be part of an item's name.
_DEPTH = 32


class Reader:
    """Finds the answers in what stands for a task."""

    def __init__(self, vocabulary: Vocabulary, control: str, pool: str | None):
        self._vocabulary = vocabulary
        self._control = control
        self._pool = pool
        self.found = False  # whether the control was ever seen
        self.elsewhere: tuple[str, str] | None = None  # a place, and another control
        self.renamed: tuple[str, str] | None = None  # the same, naming a class alone

    def annotations(self, place: str, entry: Any) -> Iterator[Annotation]:
        expect("this", entry, dict, "an object, a task")
        if "annotations" in entry or "completions" in entry:
            answers = entry.get("annotations", entry.get("completions"))
            yield from self._of_task(place, entry.get("data"), answers)
        elif "result" in entry and isinstance(entry.get("task"), dict):
            # One answer a file, as in the target storage of a project.
            yield from self._of_task(place, entry["task"].get("data"), [entry])
        elif isinstance(entry.get("result"), list):
            raise ValueError(
                "this is an annotation without its task, so that nothing says which "
                "item it is about; export the project as JSON"
            )
        elif isinstance(entry.get("data"), dict):
            raise ValueError(
                "it has no annotations: these are tasks to be labelled; export the "
                "project, and read that"
            )
        else:
            yield from self._of_flat(place, entry)

    def _of_task(self, place: str, data: Any, answers: Any) -> Iterator[Annotation]:
        if not expect("annotations", answers, list, "a list"):
            return
        item = self._item(expect("data", data, dict, "an object"))
        numbers = "an object. Export annotations, not only their numbers"
        for answer in answers:
            expect("an annotation", answer, dict, numbers)
            skipped = [
                expect(name, answer.get(name, False), bool | None, "true or false")
                for name in ("was_cancelled", "skipped")
            ]
            choices = self._choices(place, answer.get("result"))
            who = answer.get("completed_by")
            yield self._annotation(item, [] if any(skipped) else choices, who, answer)

    def _of_flat(self, place: str, entry: dict) -> Iterator[Annotation]:
        if not entry.keys() & {self._control, *_FLAT}:
            raise ValueError(
                f"it has {shown(sorted(entry))}, of which nothing says what it is "
                "about; this is no export of Label Studio"
            )
        choices, who = _texts(entry.get(self._control)), entry.get("annotator")
        if self._control in entry:
            self.found = True
        elif self.elsewhere is None:
            classes = self._vocabulary.classes
            named = (k for k, v in entry.items() if isinstance(v, str) and v in classes)
            others = (key for key in named if key not in ("name", "image", "annotator"))
            other = next(others, None)
            self.elsewhere = None if other is None else (place, other)
        if choices or who or entry.get("annotation_id") is not None:
            # Label Studio's own word for nobody.
            who = None if who == "None" else who
            yield self._annotation(self._item(entry), choices, who, entry)

    def _choices(self, place: str, results: Any) -> list:
        choices, others, elsewhere = [], set(), None
        for result in expect("result", results, list | None, "a list") or ():
            expect("result", result, dict, "objects", verb="holds")
            control, kind = result.get("from_name", self._control), result.get("type")
            if kind != "choices":
                others.add(str(kind))
            elif control == self._control:
                self.found = True
                choices += _texts(result.get("value"))
            else:
                self.elsewhere = self.elsewhere or (place, str(control))
                if set(_texts(result.get("value"))) & self._vocabulary.classes.keys():
                    elsewhere = control
        if not choices and elsewhere is not None:
            self.renamed = self.renamed or (place, str(elsewhere))
        if not choices and others - _REMARKS:
            raise ValueError(
                f"result holds {', '.join(sorted(map(shown, others)))} and no choices; "
                "only labels of whole items can be read"
            )
        return choices

    def _annotation(
        self, item: int, choices: list, who: Any, answer: dict
    ) -> Annotation:
        labels = [self._vocabulary.label(choice) for choice in choices]
        if len(set(labels)) > 1:
            raise ValueError(
                f"item {item} has more than one choice, {shown(choices)}; annotators "
                'may choose one class (choice="single")'
            )
        label, time = labels[0] if labels else None, answer.get("lead_time")
        said = Annotation(item, label, _annotator(who), time, at=_time_of(answer))
        with located("lead_time"):
            return self._vocabulary.check(said)

    def _item(self, data: dict) -> int:
        index, name, image = (data.get(key) for key in ("jal_item", "name", "image"))
        known = self._vocabulary.items
        _annotations.same_pool(data.get("jal_pool"), self._pool)
        if index is not None:
            return self._vocabulary.item(index, name if isinstance(name, str) else None)
        if isinstance(name, str) and name in known:
            return known[name]
        for candidate in _paths(image) if isinstance(image, str) else ():
            if candidate in known:
                return known[candidate]
        raise ValueError(
            f"no item of the pool is meant: its data have no jal_item, name is "
            f"{shown(name)} and image {shown(image)}. Import what "
            "jal.session.label_studio_tasks makes, or the files under the names of "
            "the pool"
        )


def _paths(image: str) -> Iterator[str]:
    """What an item may be called whose image has this URL, the longest name first."""
    if image.startswith("data:"):
        return
    local = _LOCAL_FILE.search(image)
    try:
        path = local[1] if local else urlsplit(image).path
    except ValueError:
        path = image
    for text in (image, path, unquote(path), unquote(path).replace("\\", "/")):
        yield text
        parts = text.split("/")[-_DEPTH:]
        for prefix in (re.compile(""), _UPLOAD):
            last = prefix.sub("", parts[-1], count=1)
            for start in range(len(parts)):
                yield "/".join([*parts[start:-1], last])


def _texts(value: Any) -> list:
    """Choices, however they are packed: "a", ["a"], {"choices": ["a"]}."""
    if value is None:
        return []
    if isinstance(value, dict):
        return _texts(value.get("choices"))
    if isinstance(value, list):
        return [text for part in value for text in _texts(part)]
    return [value]


def _time_of(answer: dict) -> float | None:
    """When it was changed last, or made, in seconds since 1970."""
    for name in ("updated_at", "created_at"):
        told = answer.get(name)
        if isinstance(told, str):
            with contextlib.suppress(ValueError, OverflowError):
                moment = datetime.fromisoformat(told)
                # Label Studio writes UTC, and not always says so.
                moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
                return max(moment.timestamp(), 0.0)
    return None


def _annotator(who: Any) -> str:
    if isinstance(who, dict):
        told = (who.get(key) for key in ("email", "username", "id"))
        who = next((value for value in told if value not in (None, "")), None)
    kind = type(None) if isinstance(who, bool) else int | str | None
    told = expect("completed_by", who, kind, "a number or text")
    return "" if told is None else str(told)


def is_json(path: str | os.PathLike) -> bool:
    with _tables.open_text(path) as file:
        try:
            return file.read(4096).lstrip()[:1] in ("[", "{")
        except UnicodeDecodeError:
            return False  # and the reader of CSV files says so


def entries(path: str | os.PathLike) -> Iterator[tuple[str, Any]]:
    """What stands for a task in an export, and how an error calls each."""
    return _json_entries(path) if is_json(path) else _csv_rows(path)


def _json_entries(path: str | os.PathLike) -> Iterator[tuple[str, Any]]:
    """The tasks of a file, and how an error calls each."""
    with _tables.open_text(path) as file:
        try:
            content = json.load(file)
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is no UTF-8 text; export it again") from error
        except ValueError as error:
            raise ValueError(
                f"{path} is no whole JSON file ({error}); export it again"
            ) from error
    for number, entry in enumerate(content if isinstance(content, list) else [content]):
        known = entry.get("id") if isinstance(entry, dict) else None
        yield (
            f"task {number + 1}" + f" (id {shown(known)})" * (known is not None),
            entry,
        )


def _csv_rows(path: str | os.PathLike) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a file, as objects of a JSON-MIN export."""
    for line, cells in _tables.rows(path):
        row: dict[str, Any] = {name: cell for name, cell in cells.items() if cell}
        with located(f"{path}, {line}"):
            row["jal_item"] = _tables.whole("jal_item", row.get("jal_item"))
            row["lead_time"] = _tables.number("lead_time", row.get("lead_time"))
        yield line, row
