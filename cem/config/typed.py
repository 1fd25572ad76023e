"""A ``Tree`` into plain data, each value read as the type that the model's key wants."""

import re
import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from cem.config import scalars
from cem.config.scalars import NotThat, did_you_mean, nearest, unit_of
from cem.config.tree import Broken, Listing, Mark, Path, Scalar, Section, Tree, dotted
from cem.errors import Problem

UNUSABLE = object()
"""Stands where a value was reported; pydantic's own complaint about it is dropped."""

_UNIT_TAIL = re.compile(
    r"_(?:ma|ka|a|amp|amps|ampere|mw|kw|w|watt|watts|kva|va|mv|kv|v|volt|ms|s|sec|seconds|min|h|wh|kwh)$"
)


class Typed:
    """Converts one document, keeps where everything stood and what was wrong.

    Attributes:
        problems: Findings so far.
        reported: Paths about which something was said already.
    """

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.reported: set[Path] = set()
        self._marks: dict[Path, Mark] = {}

    def mark(self, path: Path) -> Mark:
        """Where ``path`` stands, or the nearest thing around it."""
        while path not in self._marks and path:
            path = path[:-1]
        return self._marks[path]

    def report(self, path: Path, message: str, mark: Mark | None = None) -> Any:
        """Keeps a problem; returns the stand-in for the value."""
        at = mark or self.mark(path)
        self.problems.append(Problem(at.file, at.line, at.column, dotted(path), message))
        self.reported.add(path)
        return UNUSABLE

    def warn(self, path: Path, message: str, mark: Mark) -> None:
        """Keeps a warning; the value stays in use."""
        self.problems.append(Problem(mark.file, mark.line, mark.column, dotted(path), message, "warning"))

    def document(self, tree: Tree, model: type[BaseModel]) -> Any:
        """The whole document as data for ``model``."""
        self._marks[()] = tree.mark
        if isinstance(tree, Scalar) and tree.is_null:
            return self.report((), "the file is empty")
        return self._value(tree, model, ())

    def _value(self, tree: Tree, wanted: Any, path: Path) -> Any:
        self._marks.setdefault(path, tree.mark)
        if isinstance(tree, Broken):
            self.reported.add(path)
            return UNUSABLE
        while get_origin(wanted) is Annotated:
            wanted = get_args(wanted)[0]
        if get_origin(wanted) in {Union, types.UnionType}:
            choices = [choice for choice in get_args(wanted) if choice is not types.NoneType]
            if len(choices) < len(get_args(wanted)) and isinstance(tree, Scalar) and tree.is_null:
                return None
            if len(choices) > 1:
                return self._by_kind(tree, choices, path)
            return self._value(tree, choices[0], path)
        if isinstance(wanted, type) and issubclass(wanted, BaseModel):
            return self._section(tree, wanted, path)
        if get_origin(wanted) is tuple:
            return self._list(tree, get_args(wanted)[0], path)
        if get_origin(wanted) is dict:
            key_type, value_type = get_args(wanted)
            return self._table(tree, key_type, value_type, path)
        return self._scalar(tree, wanted, path)

    def _scalar(self, tree: Tree, wanted: Any, path: Path) -> Any:
        key = next((part for part in reversed(path) if isinstance(part, str)), "")
        if not isinstance(tree, Scalar):
            what = "a list" if isinstance(tree, Listing) else "a section"
            return self.report(path, f"{what} stands here; wanted is {_described(wanted, key)}", tree.mark)
        if tree.is_null:
            return self.report(path, f"nothing is given; wanted is {_described(wanted, key)}")
        try:
            if get_origin(wanted) is Literal:
                return scalars.one_of(tree, get_args(wanted), key)
            if wanted is bool:
                return scalars.switch(tree)
            if wanted is int:
                return scalars.whole(tree, key)
            if wanted is float:
                return scalars.number(tree, key)
        except NotThat as error:
            return self.report(path, str(error), tree.mark)
        if key == "password" and tree.origin is None:
            self.warn(path, "a password in the clear: write '!secret NAME' and put it into secrets.yaml", tree.mark)
        return tree.text

    def _section(self, tree: Tree, model: type[BaseModel], path: Path) -> Any:
        if not isinstance(tree, Section):
            names = ", ".join(list(model.model_fields)[:3])
            empty = "nothing is given; " if isinstance(tree, Scalar) and tree.is_null else ""
            return self.report(path, f"{empty}wanted is a section with keys such as {names}", tree.mark)
        data: dict[str, Any] = {}
        given = {pair.key for pair in tree.pairs}
        for pair in tree.pairs:
            inside = (*path, pair.key)
            field = model.model_fields.get(pair.key)
            if field is None:
                meant = self._unknown_key(inside, pair.key_mark, model.model_fields, given)
                if meant is not None:
                    # what was meant is unknown: neither "missing" nor its default may be concluded from it
                    self.reported.add((*path, meant))
                    data[meant] = UNUSABLE
                continue
            self._marks[inside] = (
                pair.value.mark if isinstance(pair.value, Scalar) and pair.value.text else pair.key_mark
            )
            data[pair.key] = self._value(pair.value, field.annotation, inside)
        return data

    def _unknown_key(self, path: Path, mark: Mark, fields: Mapping[str, FieldInfo], given: set[str]) -> str | None:
        """Reports it; returns the key that was meant where that one is not given as well."""
        key = str(path[-1])
        missing = [name for name in fields if name not in given]
        stem = _UNIT_TAIL.sub("", key.lower())
        meant = next((name for name in missing if unit_of(name) and _UNIT_TAIL.sub("", name) == stem), None)
        meant = meant or nearest(key, missing)
        if re.fullmatch(r"\d+", key):
            hint = " (a decimal comma? write a point)"
        elif meant is None:
            hint = did_you_mean(key, fields)
        elif unit_of(meant) and _UNIT_TAIL.search(meant) and _tail(meant) != _tail(key):
            hint = f" (did you mean '{meant}', in {unit_of(meant)}?)"
        else:
            hint = f" (did you mean '{meant}'?)"
        self.report(path, f"unknown key '{key[:60]}'{hint}", mark)
        return meant

    def _list(self, tree: Tree, item: Any, path: Path) -> Any:
        if not isinstance(tree, Listing):
            empty = "nothing is given; " if isinstance(tree, Scalar) and tree.is_null else ""
            return self.report(path, f"{empty}wanted is a list: lines that begin with '- '", tree.mark)
        return [self._value(entry, item, (*path, i)) for i, entry in enumerate(tree.items)]

    def _table(self, tree: Tree, key_type: Any, value_type: Any, path: Path) -> Any:
        if not isinstance(tree, Section):
            return self.report(path, "wanted is a section: lines 'name: ...'", tree.mark)
        names = get_args(key_type)
        data: dict[str, Any] = {}
        for pair in tree.pairs:
            inside = (*path, pair.key)
            self._marks[inside] = pair.key_mark
            if names and pair.key not in names:
                message = f"unknown key '{pair.key[:60]}'{did_you_mean(pair.key, names)}"
                data[pair.key] = self.report(inside, message)
                continue
            data[pair.key] = self._value(pair.value, value_type, inside)
        return data

    def _by_kind(self, tree: Tree, models: list[type[BaseModel]], path: Path) -> Any:
        by_kind = {get_args(model.model_fields["kind"].annotation)[0]: model for model in models}
        kinds = ", ".join(by_kind)
        if not isinstance(tree, Section):
            return self.report(path, f"wanted is a section with a key 'kind': one of {kinds}", tree.mark)
        pair = next((pair for pair in tree.pairs if pair.key == "kind"), None)
        if pair is None:
            return self.report(path, f"key 'kind' is missing: one of {kinds}")
        if not isinstance(pair.value, Scalar) or pair.value.text not in by_kind:
            seen = scalars.shown(pair.value) if isinstance(pair.value, Scalar) else "this"
            guess = did_you_mean(pair.value.text, list(by_kind)) if isinstance(pair.value, Scalar) else ""
            self.report((*path, "kind"), f"{seen} is not one of {kinds}{guess}", pair.value.mark)
            self.reported.add(path)
            return UNUSABLE
        return self._section(tree, by_kind[pair.value.text], path)


def _tail(key: str) -> str:
    """The unit at the end of a key, however it is written there."""
    match = _UNIT_TAIL.search(key.lower())
    return match[0] if match else ""


def _described(wanted: Any, key: str) -> str:
    unit = unit_of(key)
    if get_origin(wanted) is Literal:
        return "one of " + ", ".join(map(str, get_args(wanted)))
    if wanted is bool:
        return "true or false"
    if wanted is int:
        return "a whole number"
    if wanted is float:
        return f"a number in {unit}" if unit else "a number"
    return "a text"
