"""The report is one file, whole, and nobody's words are more than words in it."""

import base64
import io
import os
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from jal.session import _report
from jal.session._report import Campaign, Picture, Round, render, write

escape = pytest.importorskip("markupsafe").escape
pytest.importorskip("jinja2")
Image = pytest.importorskip("PIL.Image")

VOID = {"meta", "img", "br", "hr", "input", "link", "source", "col", "wbr", "area"}
HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)> ' onload='x",
    "</style></title><svg onload=alert(1)>",
    "../../etc/passwd &amp; &lt;",
    "http://evil.example/x.png url(//evil.example)",
    "$\\frac{1$ {0} %s",
    "{{ 7 * 7 }}{% raw %}{# note #}",
    "\u202egnp.exe\u2066\u200f",
    "line\nbreak\ttab\x00\x1b[0m",
    "broken \udcff surrogate",
    "日本語 صورة 👩\u200d🔬",
    "x" * 100_000,
    "",
]


class Page(HTMLParser):
    """What a document holds: its tags, attributes and texts; or why it is broken."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.texts: list[str] = []
        self.within: list[tuple[str, str]] = []  # (enclosing tag, text)
        self.feed(text)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        assert len(attrs) == len(dict(attrs)), f"attribute given twice: {attrs}"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> in {self.open}"
        self.open.pop()

    def handle_data(self, data):
        self.texts.append(data)
        if self.open:
            self.within.append((self.open[-1], data))

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self):
        hidden = ("style", "title", "text")  # the last is of a drawing
        words = " ".join(text for tag, text in self.within if tag not in hidden)
        return " ".join(words.split())


def images_of(page, kind):
    """Contents of the data: URLs of a kind."""
    start = f"data:image/{kind};base64,"
    sources = [image["src"] for image in page.all("img")]
    return [
        base64.b64decode(source[len(start) :], validate=True)
        for source in sources
        if source.startswith(start)
    ]


def full(**changes):
    grey = np.arange(28 * 28, dtype=np.uint8).reshape(28, 28)
    campaign = Campaign(
        title="Birds",
        pool=1_234_567,
        classes=["owl", "wren", "kite"],
        counts=[1_500, 700, 0],
        rounds=[
            Round(0, 100, 0.5, 0.41, 0.59),
            Round(1, 1_100, None),
            Round(2, 2_200, 0.8125, 0.771, 0.8465),
        ],
        spend=[(100, 900.0), (2_200, 17_640.0)],
        unit="seconds",
        annotators=[("Ada", 1_900, 12, 15_000.0, 7.25), ("Bob", 300, 0, None, None)],
        waiting=50,
        skipped=1_013,
        disputed=[("17.png", "Ada: owl; Bob: kite")],
        last_batch=[
            Picture(7_001, "7.png", "owl", 0.6931, grey),
            Picture(8, "8.png", "", None, None),
        ],
        next_cost=470.0,
        notes=["Learner: a small network."],
    )
    return campaign._replace(**changes)


@pytest.fixture(scope="module")
def text():
    return render(full())


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def empty():
    return Campaign("New", 5_000, ["owl", "wren"], [0, 0])


# --- the document ---------------------------------------------------------------------


def check_closed(text):
    """No script, and nothing that is fetched: from elsewhere or from here."""
    page = Page(text)
    allowed = set(
        "html head meta title style body header h1 bdi main section h2 dl div dt dd "
        "small p strong code figure figcaption img ol ul li span details summary table "
        "caption thead tbody tr th td".split()
    )
    drawn = set("svg g path text polyline polygon circle".split())
    assert {tag for tag, _ in page.tags} <= allowed | drawn
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        assert not {"href", "srcset", "action", "srcdoc", "background"} & {*attributes}
        if "src" in attributes:
            assert tag == "img"
            assert re.match("data:image/(png|jpeg);base64,", attributes["src"])
        if tag in drawn:
            assert not {"style", "xlink:href"} & {*attributes}
            assert not [value for value in attributes.values() if "url(" in value]
        assert re.fullmatch(r"(width:[0-9.]+%)?", attributes.get("style", ""))
    (style,) = (text for tag, text in page.within if tag == "style")
    assert "url(" not in style and "@import" not in style and "//" not in style
    for image in page.all("img"):
        assert image["alt"]
    for drawing in page.all("svg"):
        assert drawing["role"] == "img" and drawing["aria-label"]
    return page


def test_it_is_closed_and_balanced(text):
    page = check_closed(text)
    assert len(page.all("svg")) == 2
    assert text.startswith('<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset')
    policies = [m["content"] for m in page.all("meta") if "http-equiv" in m]
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in policies[0]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in (
        page.all("meta")
    )


def test_it_says_the_numbers(page):
    for words in (
        "2,200 of 1,234,567 (0.2%)",
        "81.2% 77.1% to 84.7% on held-out labels",
        "Time spent 4 h 54 min",
        "50 about 7 min 50 s more",
        "1,013",
        "3 classes, with 0 to 1,500 labels each; 1 without any.",
        "Ada 1,900 12 4 h 10 min 7.2 s",
        "Bob 300 0 – –",
        "4 h 54 min for 2,200 labels: 8.0 s a label.",
        "0 100 50.0% 41.0% to 59.0%",
        "1 1,100 – –",
        "17.png Ada: owl; Bob: kite",
        "8.png no label yet",
        "7.png owl score 0.6931",
        "Learner: a small network.",
        "50 items wait for an answer.",
    ):
        assert words in page.text, words


def test_headings_captions_and_alternatives(page):
    headings = [text for tag, text in page.within if tag == "h2"]
    assert headings == [
        "Learning curve",
        "Spend",
        "Labels of each class",
        "Annotators",
        "Disputed",
        "Last batch: 2 items",
        "Notes",
    ]
    assert len(page.all("h1")) == 1
    assert len(page.all("caption")) == len(page.all("table")) == 3
    assert {cell.get("scope") for cell in page.all("th")} == {"col", "row"}
    assert [drawing["aria-label"] for drawing in page.all("svg")] == [
        "Accuracy from 50.0% with 100 labels to 81.2% with 2,200 labels, in 2 rounds",
        "4 h 54 min for 2,200 labels",
    ]
    assert [image["alt"] for image in page.all("img")] == ["Item 7001, 7.png, owl"]


def test_the_same_campaign_gives_the_same_bytes(text):
    assert render(full()) == text


def test_hostile_words_are_only_words():
    pictures = [Picture(i, word, word, 0.5, None) for i, word in enumerate(HOSTILE)]
    pictures[0] = pictures[0]._replace(image=np.zeros((2, 2), np.uint8))
    text = ""
    for word in HOSTILE:
        campaign = full(
            title=word,
            classes=HOSTILE,
            counts=range(len(HOSTILE)),
            unit=word,
            annotators=[(w, 1, 2, 3.0, 4.0) for w in HOSTILE],
            disputed=[(w, w) for w in HOSTILE],
            last_batch=pictures,
            notes=HOSTILE,
        )
        if word == HOSTILE[0]:
            text = render(campaign)
        else:
            check_closed(render(campaign._replace(last_batch=[], rounds=[])))
    page = check_closed(text)
    text.encode("utf-8")
    for word in HOSTILE[:7]:
        assert page.texts.count(word) > 3, "whole, in text"
        if escape(word) != word:
            assert word not in text
            assert escape(word) in text
    for hidden in ("\u202e", "\u2066", "\u200f", "\x00", "\x1b", "\udcff"):
        assert hidden not in text
    assert "\ufffdgnp.exe\ufffd\ufffd" in page.texts
    assert "line break tab\ufffd\ufffd[0m" in page.texts
    assert "日本語 صورة 👩\u200d🔬" in page.texts
    longest = max(word.count("x") for word in re.findall("[x…]+", text))
    assert 100 < longest <= 1000
    assert "(not named)" in page.texts and "item 12" in page.texts


def test_long_words_keep_both_ends():
    shown = _report._shown("a" * 50 + "middle" + "b" * 50, 30)
    assert shown == "a" * 19 + "…" + "b" * 10


# --- little, and much -----------------------------------------------------------------


def test_an_empty_campaign_says_what_to_do():
    page = check_closed(render(empty()))
    assert not page.all("img") and not page.all("svg")
    assert "Nothing is labelled yet." in page.text
    assert [words for tag, words in page.within if tag == "code"] == ["jal ask"] * 3
    assert "Annotators" not in page.text and "Notes" not in page.text
    check_closed(render(Campaign("", 0, [], [])))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"waiting": 1}, "1 item waits for an answer."),
        ({"waiting": 0}, "Everything asked for is answered."),
        ({"waiting": 0, "pool": 2_200}, "Every item has a label."),
        ({"rounds": [Round(0, 5, None)]}, "1 round of training, but no accuracy"),
        ({"rounds": [Round(0, 5, float("nan"))]}, "no held-out labels yet"),
        ({"rounds": [Round(0, 5, 0.5, 0.4, None)]}, "50.0% on held-out labels"),
        ({"rounds": [Round(0, 5, 0.5, 0.4, 0.6)]}, "with its interval."),
        ({"spend": [(5, float("nan"))]}, "nothing recorded"),
        ({"spend": [(0, 0.0)], "unit": "money"}, "0.00 for 0 labels"),
        ({"spend": [(40, 1.0)], "unit": "money"}, "1.00 for 40 labels: 0.025 a label"),
        ({"spend": [(8, 20_000.5)], "unit": "clicks"}, "20,000.5 clicks for 8 labels"),
        ({"spend": [(8, 20_000.0)], "unit": "clicks"}, "20,000 clicks for 8 labels"),
    ],
)
def test_states_on_the_way(changes, words):
    changes = {"rounds": [], "spend": [], "last_batch": [], **changes}
    page = check_closed(render(full(**changes)))
    assert words in page.text


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 0 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 0 min"),
        (3_600_000, "1,000 h 0 min"),
        (None, "–"),
    ],
)
def test_durations(seconds, shown):
    assert _report._duration(seconds) == shown


def test_a_hundred_classes_and_a_thousand():
    counts = [(37 * i) % 100 for i in range(100)]
    campaign = empty()._replace(classes=[f"c{i}" for i in range(100)], counts=counts)
    page = check_closed(render(campaign))
    bars = [span["style"] for span in page.all("span") if "style" in span]
    assert len(bars) == 100 and bars[0] == "width:100.0%" and bars[-1] == "width:0.0%"
    widths = [float(bar[6:-1]) for bar in bars]
    np.testing.assert_allclose(widths, np.arange(99, -1, -1) / 0.99, atol=0.051)
    names = [text for tag, text in page.within if tag == "bdi" and text[0] == "c"]
    assert names == [f"c{counts.index(n)}" for n in range(99, -1, -1)]

    thousand = [f"c{i}" for i in range(1000)]
    page = Page(render(empty()._replace(classes=thousand, counts=range(1000))))
    assert "And 800 classes more, with at most 799 labels each." in page.text


def test_long_tables_are_cut():
    rounds = [Round(i, 10 * i + 10, 0.5) for i in range(1_200)]
    people = [(f"p{i}", i, 0, None, None) for i in range(150)]
    page = Page(render(full(rounds=rounds, annotators=people)))
    text = page.text
    assert "Accuracy after each round: the last 100 of 1,200" in text
    assert "12,000" in text and "p99" in text and "p100" not in text


# --- curves ---------------------------------------------------------------------------


class Drawing:
    """A curve of a page: what its axes say, and where its parts are by them."""

    def __init__(self, page, kind):
        (start,) = (i for i, (tag, a) in enumerate(page.tags) if a.get("class") == kind)
        parts = page.tags[start + 1 :]
        ends = (i for i, (tag, _) in enumerate(parts) if tag == "figcaption")
        self.parts = parts[: next(ends)]
        texts = [text for tag, text in page.within if tag == "text"]
        before = [tag for tag, _ in page.tags[:start]].count("text")
        texts = texts[before : before + len(self.all("text"))]
        self.x, self.y = {}, {}
        for text, attributes in zip(texts, self.all("text"), strict=True):
            if "dy" in attributes:
                self.y[text] = float(attributes["y"])
            elif re.match("[0-9]", text):
                self.x[text] = float(attributes["x"])
        self.labels = [text for text in texts if not re.match("[0-9]", text)]
        across, up = [*self.x.values()], [*self.y.values()]
        assert across == sorted(across) and up == sorted(up, reverse=True)

    def all(self, tag):
        return [attributes for name, attributes in self.parts if name == tag]

    def points(self, tag):
        """[points, 2] labels and values of a line or a band, read off the axes."""
        (shape,) = self.all(tag)
        places = np.array([pair.split(",") for pair in shape["points"].split()], float)
        return np.stack([read(self.x, places[:, 0]), read(self.y, places[:, 1])], 1)


def read(ticks, places):
    values = [float(text.rstrip("%").replace(",", "")) for text in ticks]
    assert 2 <= len(values) <= 9
    slope, start = np.polyfit(list(ticks.values()), values, 1)
    on_ticks = slope * np.array(list(ticks.values())) + start
    np.testing.assert_allclose(on_ticks, values, atol=0.2 * abs(slope))
    return slope * places + start


def test_curves_say_what_was_measured(page):
    drawing = Drawing(page, "accuracy")
    assert drawing.labels == ["labels", "accuracy"]
    line = [[100, 50], [2_200, 81.25]]
    np.testing.assert_allclose(drawing.points("polyline"), line, rtol=0.02)
    band = [[100, 41], [2_200, 77.1], [2_200, 84.65], [100, 59]]
    np.testing.assert_allclose(drawing.points("polygon"), band, rtol=0.02)
    assert len(drawing.all("circle")) == 2

    drawing = Drawing(page, "spend")
    assert drawing.labels == ["labels", "hours"]
    line = [[100, 0.25], [2_200, 4.9]]
    np.testing.assert_allclose(drawing.points("polyline"), line, rtol=0.02, atol=2)
    assert "0" in drawing.y and not drawing.all("polygon")


@pytest.mark.parametrize(
    ("rounds", "x", "y"),
    [
        ([Round(0, 40, 0.5)], ["40"], [f"{y}%" for y in range(48, 53)]),
        ([Round(0, 0, 0.0)], ["0"], ["0%", "10%", "20%", "30%", "40%", "50%"]),
        ([Round(0, 1, 0.2), Round(1, 3, 0.9)], ["1", "2", "3"], None),
        ([Round(0, 9, 0.9), Round(1, 9, 0.905)], ["9"], None),
        ([Round(i, 10**i, 0.1 * i) for i in range(8)], None, None),
        ([Round(0, 5, 1.0), Round(1, 7, 1.0)], None, None),
    ],
)
def test_axes_have_few_round_numbers(rounds, x, y):
    drawing = Drawing(Page(render(full(rounds=rounds))), "accuracy")
    assert x is None or list(drawing.x) == x
    assert y is None or list(drawing.y) == y
    assert 1 <= len(drawing.x) <= 6 and 2 <= len(drawing.y) <= 9
    assert all(50 <= float(dot["cx"]) <= 360 for dot in drawing.all("circle"))
    assert all(8 <= float(dot["cy"]) <= 198 for dot in drawing.all("circle"))


def test_a_single_interval_is_a_line():
    rounds = [Round(0, 5, 0.5, 0.4, 0.6), Round(1, 8, 0.6, 0.5, None)]
    drawing = Drawing(Page(render(full(rounds=rounds))), "accuracy")
    (end,) = (a["d"] for a in drawing.all("path") if a.get("class") == "end")
    x, low, high = map(float, re.fullmatch(r"M(\S+) (\S+)V(\S+)", end).groups())
    assert read(drawing.x, x) == pytest.approx(5, abs=0.02)
    assert read(drawing.y, np.array([low, high])) == pytest.approx([40, 60], abs=0.2)
    assert not drawing.all("polygon")


@pytest.mark.parametrize(
    ("unit", "total", "label", "value"),
    [
        ("seconds", 119.0, "seconds", 119),
        ("seconds", 120.0, "minutes", 2),
        ("seconds", 7_199.0, "minutes", 119.98),
        ("seconds", 7_200.0, "hours", 2),
        ("money", 7_200.0, "money spent", 7_200),
        ("<b>clicks</b>", 7_200.0, "spent", 7_200),
        ("seconds", 0.0, "seconds", 0),
    ],
)
def test_units_of_the_spend(unit, total, label, value):
    page = check_closed(render(full(spend=[(10, total), (20, total)], unit=unit)))
    drawing = Drawing(page, "spend")
    assert drawing.labels == ["labels", label]
    spent = drawing.points("polyline")[:, 1]
    np.testing.assert_allclose(spent, value, rtol=0.01, atol=0.01)


def test_long_curves_are_thinned():
    rounds = [Round(i, 10 * i, 0.5 + i / 3_000, 0.4, 0.9) for i in range(1_200)]
    drawing = Drawing(Page(render(full(rounds=rounds))), "accuracy")
    line = drawing.points("polyline")
    assert len(line) == 400 and len(drawing.points("polygon")) == 800
    assert not drawing.all("circle")
    np.testing.assert_allclose(line[[0, -1], 0], [0, 11_990], atol=60)


# --- images ---------------------------------------------------------------------------


def one_picture(image):
    batch = [Picture(5, "5.png", "", None, image)]
    return Page(render(empty()._replace(last_batch=batch)))


@pytest.mark.parametrize("shape", [(7, 9), (7, 9, 1), (7, 9, 3)])
def test_small_images_are_kept_as_they_are(shape):
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    (stored,) = images_of(one_picture(image), "png")
    shown = np.asarray(Image.open(io.BytesIO(stored)))
    np.testing.assert_array_equal(shown, image.reshape(shown.shape))


def test_transparency_is_on_white():
    image = np.zeros((4, 4, 4), np.uint8)
    image[:2, :, 3] = 255
    (stored,) = images_of(one_picture(image), "png")
    shown = np.asarray(Image.open(io.BytesIO(stored)))
    assert shown.shape == (4, 4, 3)
    assert (shown[:2] == 0).all() and (shown[2:] == 255).all()


@pytest.mark.parametrize("shape", [(200, 400, 3), (400, 200), (97, 3000, 4), (1, 3000)])
def test_large_images_shrink(shape):
    (stored,) = images_of(one_picture(np.full(shape, 90, np.uint8)), "jpeg")
    size = Image.open(io.BytesIO(stored)).size
    assert max(size) == 96
    wanted = np.array([shape[1], shape[0]]) * 96 / max(shape[:2])
    np.testing.assert_allclose(size, np.maximum(wanted, 1), atol=1)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((4, 4)), "item 5 has dtype float64; give uint8"),
        (np.zeros((4, 4), np.int32), "item 5 has dtype int32"),
        (np.zeros((4, 4, 2), np.uint8), r"item 5 has shape \(4, 4, 2\); give \[H, W\]"),
        (np.zeros((3, 32, 32), np.uint8), r"item 5 has shape \(3, 32, 32\)"),
        (np.zeros((0, 4), np.uint8), "at least one pixel"),
        (np.zeros(4, np.uint8), r"item 5 has shape \(4,\)"),
    ],
)
def test_other_images_are_refused(image, words):
    with pytest.raises(ValueError, match=words):
        one_picture(image)


def test_sixty_thumbnails_are_less_than_two_megabytes():
    """Of noise, which no format makes small."""
    rng = np.random.default_rng(0)
    for side in (64, 96):
        noise = rng.integers(0, 256, (60, side, side, 3)).astype(np.uint8)
        batch = [
            Picture(i, f"{i}.png", "", 0.1, image) for i, image in enumerate(noise)
        ]
        batch += [Picture(60 + i, "", "", None, None) for i in range(1_002)]
        text = render(empty()._replace(last_batch=batch))
        assert len(text.encode()) < 2_000_000
        page = Page(text)
        assert len(page.all("img")) == 60
        assert "And 1,002 more." in page.text


# --- the file -------------------------------------------------------------------------


def test_it_is_written_whole(tmp_path):
    path = tmp_path / "new" / "report.html"
    campaign = empty()._replace(title="Ünïcode 日本")
    write(str(path), campaign)
    assert path.read_bytes().decode("utf-8") == render(campaign)
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_a_failure_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    write(path, empty())
    before = path.read_bytes()
    bad = [Picture(0, "", "", None, np.zeros((2, 2)))]
    with pytest.raises(ValueError, match="dtype"):
        write(path, empty()._replace(last_batch=bad))

    def full_disk(_):
        raise OSError("no space")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="no space"):
        write(path, empty()._replace(title="other"))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_a_count_for_each_class():
    with pytest.raises(ValueError, match="3 entries for 2 classes"):
        render(empty()._replace(counts=[1, 2, 3]))


def test_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ImportError, match=r"needs Jinja2: pip install 'jal\[label\]'"):
        render(empty())
