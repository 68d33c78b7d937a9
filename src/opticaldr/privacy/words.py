"""Words and numbers of the privacy card: what may not be said, and how a limit is rounded."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

from opticaldr.types import InputError

_FORBIDDEN = re.compile(r"(?:ir|non-?)reversib|un-?break|anonym|guarant", re.IGNORECASE)
"""Stems of words that no attack ladder can earn: irreversible, anonymous, guaranteed, .."""
_REMOVED = "[word removed]"


def check_words(content: Any) -> None:
    """InputError if any string in `content`, keys included, makes a promise nobody can keep."""
    for text in _strings(content):
        found = _FORBIDDEN.search(_plain(text))
        if found:
            raise InputError(
                f"Expected a card that promises no more than was attacked, found '{found[0]}' in "
                f"'{text[:80]}'; say which attacks were tried and what they reached."
            )


def scrub(content: Any) -> Any:
    """The same content with forbidden words cut out of its strings; for names that users give."""
    if isinstance(content, dict):
        return {scrub(key): scrub(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [scrub(value) for value in content]
    if isinstance(content, str) and _FORBIDDEN.search(_plain(content)):
        whole = re.compile(rf"\w*(?:{_FORBIDDEN.pattern})\w*", re.IGNORECASE)
        return whole.sub(_REMOVED, _plain(content))
    return content


def _plain(text: str) -> str:
    """Compatibility letters unified, invisible characters (soft hyphens, joiners) dropped."""
    unified = unicodedata.normalize("NFKC", text)
    return "".join(c for c in unified if unicodedata.category(c) != "Cf")


def _strings(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict):
        for key, value in content.items():
            yield from _strings(key)
            yield from _strings(value)
    elif isinstance(content, list | tuple):
        for value in content:
            yield from _strings(value)


def share(value: float) -> str:
    """A number in [0, 1] with two digits, three where the third is not 0: .55, .551, 1.00."""
    text = f"{value:.3f}".removesuffix("0")
    return text[1:] if text.startswith("0") else text


def above(limit: float) -> str:
    """An upper limit, rounded up: what is printed is never smaller than what was measured."""
    return share(math.ceil(round(1e3 * limit, 6)) / 1e3)


def below(limit: float) -> str:
    """A lower limit, rounded down."""
    return share(math.floor(round(1e3 * limit, 6)) / 1e3)


def interval(figure: dict[str, Any]) -> str:
    """A figure in [0, 1] with its 95 % interval: .93 [.91, .95]."""
    low, high = figure["ci95"]
    return f"{share(figure['value'])} [{below(low)}, {above(high)}]"
