"""Formulas of virtual meters: names with + and - between them."""

import re

CARS = "cars"
"""Stands for what all our EVSEs are measured to draw."""

_TERM = re.compile(r"\s*([+-]?)\s*([A-Za-z0-9][A-Za-z0-9_.:]*)")


def terms(formula: str) -> tuple[tuple[int, str], ...]:
    """Each term's sign and name.

    A device whose name holds a ``-`` cannot stand in a formula.

    Raises:
        ValueError: What cannot be read.
    """
    found: list[tuple[int, str]] = []
    at = 0
    text = formula.rstrip()
    while at < len(text):
        term = _TERM.match(text, at)
        if term is None or (found and not term[1]):
            raise ValueError(f"'{text[at : at + 20].strip()}' cannot be read; write names with + and - between them")
        found.append((-1 if term[1] == "-" else 1, term[2]))
        at = term.end()
    if not found:
        raise ValueError("an empty formula; write names with + and - between them")
    return tuple(found)
