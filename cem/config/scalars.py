"""One written value into the number, switch or text that its key wants, with a remedy where it is none."""

import math
import re
from collections.abc import Iterable
from difflib import get_close_matches

from cem.config.tree import Scalar

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,3})?")
_WITH_UNIT = re.compile(r"([-+]?\d+(?:[.,]\d+)?)\s*([A-Za-z%µ]+)")
_SWITCHES = {"yes": True, "on": True, "y": True, "true": True, "no": False, "off": False, "n": False, "false": False}

_FACTORS: dict[str, dict[str, float]] = {
    "A": {"A": 1, "a": 1, "Amp": 1, "amp": 1, "Amps": 1, "amps": 1, "mA": 0.001, "kA": 1000},
    "W": {"W": 1, "w": 1, "kW": 1000, "kw": 1000, "KW": 1000, "MW": 1e6, "VA": 1, "kVA": 1000, "kva": 1000},
    "V": {"V": 1, "v": 1, "kV": 1000},
    "s": {"s": 1, "sec": 1, "seconds": 1, "ms": 0.001, "min": 60, "minutes": 60, "m": 60, "h": 3600, "d": 86_400},
    "days": {"d": 1, "days": 1, "day": 1},
}
_SUFFIXES = {"_a_per_s": "A/s", "_a": "A", "_w": "W", "_v": "V", "_s": "s", "_days": "days"}


class NotThat(ValueError):
    """The value is not what its key wants; the text says why and what would be."""


def unit_of(key: str) -> str | None:
    """The unit in a key's name: ``rating_a`` is in A."""
    return next((unit for suffix, unit in _SUFFIXES.items() if key.endswith(suffix)), None)


def shown(scalar: Scalar) -> str:
    """The value for a message; what came by a tag stays hidden."""
    if scalar.origin:
        return f"the value of {scalar.origin}"
    return f"'{scalar.text[:60]}'" if scalar.text else "an empty text"


def plain(value: float) -> str:
    """A number without needless digits."""
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else f"{value:.6g}"


def number(scalar: Scalar, key: str) -> float:
    """A finite number; ``key`` tells the unit.

    Raises:
        NotThat: With the way it should be written.
    """
    unit = unit_of(key)
    wanted = f"a number in {unit}" if unit else "a number"
    text, seen = scalar.text, shown(scalar)
    if scalar.quoted:
        if _NUMBER.fullmatch(text):
            raise NotThat(f"{seen} is in quotes, which makes it a text: write {text}")
        raise NotThat(f"{seen} is a text; wanted is {wanted}")
    if _NUMBER.fullmatch(text):
        if re.match(r"[-+]?0\d", text):
            if scalar.origin:
                raise NotThat(f"{seen} begins with 0; wanted is {wanted}")
            raise NotThat(f"{seen} begins with 0, which YAML reads as octal: write {text.lstrip('+-0') or '0'}")
        value = float(text)
        if math.isfinite(value):
            return value
    if scalar.origin:
        raise NotThat(f"{seen} is not {wanted}")
    raise NotThat(_remedy(text, seen, unit, wanted))


def _remedy(text: str, seen: str, unit: str | None, wanted: str) -> str:
    if re.fullmatch(r"[-+]?\d+(:\d+)+(\.\d*)?", text):
        return f"{seen} is a time of day, which YAML would read in base 60; wanted is {wanted}"
    if re.fullmatch(r"[-+]?\d+,\d+", text):
        return f"{seen} has a decimal comma: write {text.replace(',', '.')}"
    if re.fullmatch(r"[-+]?0[xob][0-9A-Fa-f_]+", text) or re.fullmatch(r"[-+]?\d[\d_]*(\.\d*)?", text):
        return f"{seen} is not a plain decimal number; wanted is {wanted}"
    if text.lower() in _SWITCHES:
        return f"{seen} is a switch to YAML; wanted is {wanted}"
    if (match := _WITH_UNIT.fullmatch(text)) and unit:
        factor = _FACTORS.get(unit, {}).get(match[2])
        if factor is None:
            return f"{seen} has the wrong unit; wanted is {wanted}, written without the unit"
        value = float(match[1].replace(",", ".")) * factor
        return f"{seen}: write the number alone, in {unit}: {plain(value)}"
    return f"{seen} is not a number; wanted is {wanted}"


def whole(scalar: Scalar, key: str) -> int:
    """A whole number.

    Raises:
        NotThat: With the way it should be written.
    """
    value = number(scalar, key)
    if value != int(value):
        raise NotThat(f"{shown(scalar)} is not a whole number")
    return int(value)


def switch(scalar: Scalar) -> bool:
    """``true`` or ``false``.

    Raises:
        NotThat: With the way it should be written.
    """
    if scalar.text in {"true", "True", "TRUE"} and not scalar.quoted:
        return True
    if scalar.text in {"false", "False", "FALSE"} and not scalar.quoted:
        return False
    meant = _SWITCHES.get(scalar.text.lower())
    if meant is not None and not scalar.origin:
        raise NotThat(f"{shown(scalar)}: write {'true' if meant else 'false'}")
    raise NotThat(f"{shown(scalar)} is neither true nor false")


def one_of(scalar: Scalar, choices: tuple[str | int, ...], key: str) -> str | int:
    """One of a fixed list of words or numbers.

    Raises:
        NotThat: With the list and the nearest word.
    """
    if all(isinstance(choice, int) for choice in choices):
        value: str | int = whole(scalar, key)
    else:
        value = scalar.text
    if value in choices:
        return value
    raise NotThat(f"{shown(scalar)} is not one of {', '.join(map(str, choices))}{did_you_mean(str(value), choices)}")


def nearest(word: str, choices: Iterable[str | int]) -> str | None:
    """The choice that was probably meant."""
    by_small = {str(choice).lower(): str(choice) for choice in choices}
    near = get_close_matches(word.lower()[:100], by_small, n=1)
    return by_small[near[0]] if near else None


def did_you_mean(word: str, choices: Iterable[str | int]) -> str:
    """A guess in brackets, or nothing."""
    guess = nearest(word, choices)
    return f" (did you mean '{guess}'?)" if guess else ""
