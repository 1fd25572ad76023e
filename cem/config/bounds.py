"""What pydantic found (missing keys, bounds, patterns), said in the site file's words."""

from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from cem.config.scalars import plain, unit_of
from cem.config.tree import Path
from cem.config.typed import Typed


def report_bounds(model: type[BaseModel], data: Any, typed: Typed) -> BaseModel | None:
    """Validates; what is wrong goes to ``typed``, but for what was reported there already."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        for found in error.errors(include_url=False, include_context=True):
            if found["type"] == "too_short" and len(found["input"]) >= found["ctx"]["min_length"]:
                continue  # its entries are there, but each is wrong
            path = _path(data, found["loc"])
            if not any(path[:n] in typed.reported for n in range(len(path) + 1)):
                typed.report(path, _message(found, path))
        return None


def _path(data: Any, loc: tuple[int | str, ...]) -> Path:
    """The place in the document: pydantic's own, without the tags of unions."""
    path: list[int | str] = []
    for i, part in enumerate(loc):
        if isinstance(data, dict):
            if part in data:
                data = data[part]
            elif i < len(loc) - 1:
                continue  # the tag of a union
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        path.append(part)
    return tuple(path)


def _message(found: ErrorDetails, path: Path) -> str:
    context = found.get("ctx", {})
    key = str(path[-1]) if path else ""
    seen = found["input"]
    unit = f" {unit_of(key)}" if unit_of(key) else ""
    match found["type"]:
        case "missing":
            return f"key '{key}' is missing"
        case "greater_than":
            return f"{plain(seen)}{unit} is too low; it must be more than {plain(context['gt'])}{unit}"
        case "greater_than_equal":
            return f"{plain(seen)}{unit} is too low; at least {plain(context['ge'])}{unit}"
        case "less_than":
            return f"{plain(seen)}{unit} is too high; it must be less than {plain(context['lt'])}{unit}"
        case "less_than_equal":
            return f"{plain(seen)}{unit} is too high; at most {plain(context['le'])}{unit}"
        case "string_pattern_mismatch":
            return _pattern(str(context["pattern"]), str(seen))
        case "string_too_short":
            return "an empty text; something must be given"
        case "string_too_long":
            return f"the text is longer than {context['max_length']} characters"
        case "too_short":
            return f"at least {context['min_length']} entry is needed"
        case "too_long":
            return f"{context['actual_length']} entries; at most {context['max_length']} may be given"
        case _:
            return found["msg"]


def _pattern(pattern: str, seen: str) -> str:
    if pattern.startswith("^wss?"):
        return "the address must begin with ws:// or wss://"
    if pattern.startswith("^opc"):
        return "the address must begin with opc.tcp://"
    return (
        f"'{seen[:60]}' cannot be a name: use letters, digits and _ . : - (no blanks, at most 48 in all), "
        "a letter or digit first"
    )
