"""Anybody's words, and numbers, as text of an HTML page."""

import html
import math
import unicodedata

UNKNOWN = "–"


def shown(text: str, limit: int) -> str:
    """One line of visible characters, without its middle where it is too long."""
    text = " ".join(str(text).split())
    if len(text) > limit:
        end = limit // 3
        text = f"{text[: limit - end - 1]}…{text[-end:]}"
    return "".join(map(visible, text))


def visible(character: str) -> str:
    # Two joiners are invisible, too, but Persian and emoji are wrong without them.
    hidden = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co")
    return "\ufffd" if hidden and character not in "\u200c\u200d" else character


def escape(text: str) -> str:
    return html.escape(text, quote=True)


def text(text: str, limit: int = 80, kind: str | None = None) -> str:
    """Anybody's text as HTML, whose direction of writing ends where it ends."""
    # Where it was cut, or is cut by the style, a pointer shows more.
    more = "" if kind is None else f' class="{kind}" title="{escape(shown(text, 200))}"'
    return f"<bdi{more}>{escape(shown(text, limit))}</bdi>"


def number(count: int, one: str, many: str | None = None) -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def percent(share: float | None) -> str:
    return UNKNOWN if share is None else f"{100 * share:.1f}%"


def interval(low: float | None, high: float | None) -> str:
    low, high = finite(low), finite(high)
    if low is None or high is None:
        return UNKNOWN
    return f"{percent(low)} to {percent(high)}"


def duration(seconds: float | None) -> str:
    if seconds is None:
        return UNKNOWN
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60:,} h {minutes % 60} min"


def amount(value: float, unit: str) -> str:
    if unit == "seconds":
        return duration(value)
    # Less than a tenth of a unit is a price for which two decimals are too few.
    number = f"{value:.3g}" if 0 < value < 0.1 else f"{value:,.2f}"
    if unit == "money":
        return number
    if "." in number and "e" not in number:
        number = number.rstrip("0").rstrip(".")
    return f"{number} {unit}"
