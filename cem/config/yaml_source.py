"""YAML text into a ``Tree`` with positions: duplicate keys, merge keys, anchors, ``!include``, ``!env``, ``!secret``.

Only PyYAML's parser is used; what a value means is decided later by the key it belongs to, so YAML 1.1's own guesses
(``12:30`` is 750, ``no`` is false, ``0644`` is 420) never happen.
"""

import pathlib
from collections.abc import Mapping

import yaml

from cem.config.tags import TagError, Tags
from cem.config.tree import Broken, Listing, Mark, Pair, Path, Scalar, Section, Tree, dotted
from cem.errors import Problem

MAX_VALUES = 50_000
"""Values of one document with all aliases and includes written out; more is an alias bomb."""

MAX_DEPTH = 40
MAX_BYTES = 2_000_000

_KNOWN = frozenset(
    f"tag:yaml.org,2002:{name}"
    for name in ["str", "int", "float", "bool", "null", "map", "seq", "timestamp", "value", "merge"]
)


_REMEDIES = (
    ("'\\t'", "a tab; YAML is indented by spaces only", False),
    (
        "mapping values are not allowed",
        "a ':' where none may stand; put the text in quotes or correct the indentation",
        False,
    ),
    ("but found another document", "a second document ('---'); a site file is one document", False),
    ("while scanning a quoted scalar", "quotes that are never closed", True),
    ("while parsing a flow mapping", "a '{' that is not closed, or a ',' missing behind it", True),
    ("while parsing a flow sequence", "a '[' that is not closed, or a ',' missing behind it", True),
    ("while parsing a block", "the indentation does not fit the lines above", False),
    ("could not find expected ':'", "a line without ':' behind its key, or a text that goes on", True),
    ("undefined alias", "an alias (*name) whose anchor (&name) does not stand above it", False),
)
"""A sign of PyYAML's words, what to tell instead, and whether the place where the thing began says more."""


class _TooBigError(Exception):
    """The document, written out, is too large or too deep."""


class YamlSource:
    """Reads one document and everything it includes; what is wrong is kept in ``problems``."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.problems: list[Problem] = []
        self._tags = Tags(environ, self._report)
        self._values = 0

    def read(self, file: pathlib.Path) -> Tree:
        """The whole document; ``Broken`` where it is not even YAML."""
        mark = Mark(str(file), 1, 1)
        try:
            return self._read(file, mark, (), ())
        except _TooBigError:
            self._report(
                mark, (), f"too large: more than {MAX_VALUES} values or {MAX_DEPTH} levels, aliases written out"
            )
            return Broken(mark)

    @property
    def secrets(self) -> set[str]:
        """Every secret that was given out."""
        return self._tags.given

    def _report(self, mark: Mark, path: Path, message: str, severity: str = "error") -> None:
        self.problems.append(Problem(mark.file, mark.line, mark.column, dotted(path), message, severity))

    def _read(self, file: pathlib.Path, mark: Mark, path: Path, stack: tuple[pathlib.Path, ...]) -> Tree:
        try:
            if not file.is_file():
                self._report(mark, path, f"cannot read {file}: {'not a file' if file.exists() else 'no such file'}")
                return Broken(mark)
            with file.open("rb") as stream:
                text = stream.read(MAX_BYTES + 1)
        except (OSError, ValueError) as error:
            self._report(mark, path, f"cannot read {file}: {getattr(error, 'strerror', None) or error}")
            return Broken(mark)
        if len(text) > MAX_BYTES:
            raise _TooBigError
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            self._report_yaml(str(file), error)
            return Broken(mark)
        except RecursionError as error:
            raise _TooBigError from error
        except (yaml.YAMLError, ValueError, OverflowError) as error:  # PyYAML lets bad \U escapes out as ValueError
            self._report(Mark(str(file), 1, 1), (), f"not a text that YAML allows: {' '.join(str(error).split())}")
            return Broken(mark)
        if node is None:
            return Scalar("", quoted=False, mark=Mark(str(file), 1, 1))
        return self._tree(node, str(file), path, (*stack, file.resolve()), ())

    def _report_yaml(self, file: str, error: yaml.MarkedYAMLError) -> None:
        said = f"{error.context or ''} {error.problem or ''}"
        what, at_start = next(
            ((what, at_start) for sign, what, at_start in _REMEDIES if sign in said), (error.problem or said, False)
        )
        at = (error.context_mark if at_start else None) or error.problem_mark or error.context_mark
        mark = Mark(file, at.line + 1, at.column + 1) if at else Mark(file, 1, 1)
        self._report(mark, (), f"not YAML: {what}")

    def _tree(
        self, node: yaml.Node, file: str, path: Path, stack: tuple[pathlib.Path, ...], open_nodes: tuple[int, ...]
    ) -> Tree:
        self._values += 1
        if self._values > MAX_VALUES or len(open_nodes) > MAX_DEPTH or id(node) in open_nodes:
            raise _TooBigError
        mark = Mark(file, node.start_mark.line + 1, node.start_mark.column + 1)
        inside = (*open_nodes, id(node))
        if node.tag not in _KNOWN:
            return self._tagged(node, mark, path, stack)
        if isinstance(node, yaml.ScalarNode):
            return Scalar(node.value, quoted=node.style is not None, mark=mark)
        if isinstance(node, yaml.SequenceNode):
            return Listing(
                tuple(self._tree(item, file, (*path, i), stack, inside) for i, item in enumerate(node.value)), mark
            )
        if isinstance(node, yaml.MappingNode):
            return Section(self._pairs(node, file, path, stack, inside), mark)
        return Broken(mark)

    def _pairs(
        self, node: yaml.MappingNode, file: str, path: Path, stack: tuple[pathlib.Path, ...], inside: tuple[int, ...]
    ) -> tuple[Pair, ...]:
        own: dict[str, Pair] = {}
        merged: dict[str, Pair] = {}
        for key_node, value_node in node.value:
            mark = Mark(file, key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            if not isinstance(key_node, yaml.ScalarNode):
                self._report(mark, path, "a list or section cannot be a key")
                continue
            key = key_node.value
            value_path = (*path, key)
            if key_node.tag == "tag:yaml.org,2002:merge":
                for pair in self._merge(self._tree(value_node, file, path, stack, inside), path):
                    merged.setdefault(pair.key, pair)
                continue
            value = self._tree(value_node, file, value_path, stack, inside)
            if key in own:
                first = own[key].key_mark
                self._report(mark, value_path, f"key '{key}' is given twice; the first is in line {first.line}")
                continue
            own[key] = Pair(key, mark, value)
        return (*own.values(), *(pair for key, pair in merged.items() if key not in own))

    def _merge(self, tree: Tree, path: Path) -> tuple[Pair, ...]:
        if isinstance(tree, Section):
            return tree.pairs
        if isinstance(tree, Listing) and all(isinstance(item, Section) for item in tree.items):
            return tuple(pair for item in tree.items if isinstance(item, Section) for pair in item.pairs)
        if not isinstance(tree, Broken):
            self._report(tree.mark, path, "'<<' takes a section with an anchor, for example '<<: *station'")
        return ()

    def _tagged(self, node: yaml.Node, mark: Mark, path: Path, stack: tuple[pathlib.Path, ...]) -> Tree:
        if not isinstance(node, yaml.ScalarNode) or node.tag not in {"!env", "!secret", "!include"}:
            tag = node.tag.replace("tag:yaml.org,2002:", "!!")
            self._report(mark, path, f"unknown tag {tag}; a site file knows !env NAME, !secret NAME and !include FILE")
            return Broken(mark)
        folder = pathlib.Path(mark.file).parent
        try:
            if node.tag == "!env":
                origin = "!env" if "${" in node.value else f"!env {node.value.partition(':')[0]}"
                return Scalar(self._tags.env(node.value), quoted=False, mark=mark, origin=origin)
            if node.tag == "!secret":
                value = self._tags.secret(node.value, folder, mark, path)
                return Scalar(value, quoted=False, mark=mark, origin=f"!secret {node.value}")
        except TagError as error:
            self._report(mark, path, str(error))
            return Broken(mark)
        if not node.value or pathlib.Path(node.value).is_absolute():
            self._report(mark, path, "!include takes the name of a file beside this one")
            return Broken(mark)
        target = folder / node.value
        try:
            circle = target.resolve() in stack
        except (OSError, ValueError, RuntimeError):  # a name that no file can have, or links in a circle
            self._report(mark, path, "!include takes the name of a file beside this one")
            return Broken(mark)
        if circle:
            self._report(mark, path, f"!include {node.value} goes round in a circle")
            return Broken(mark)
        if len(stack) > MAX_DEPTH:
            raise _TooBigError
        return self._read(target, mark, path, stack)
