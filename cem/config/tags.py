"""What ``!env`` and ``!secret`` stand for."""

import pathlib
import re
import stat
from collections.abc import Callable, Mapping

import yaml

from cem.config.tree import Mark, Path

SECRETS_FILE = "secrets.yaml"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLACE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::([^}]*))?\}")

Report = Callable[[Mark, Path, str, str], None]


class TagError(Exception):
    """A tag that cannot be answered; its text is the problem's message."""


class Tags:
    """Looks up environment variables and secrets; each secrets file is read once.

    Attributes:
        given: Every secret given out, so that none of them is ever printed.
    """

    def __init__(self, environ: Mapping[str, str], report: Report) -> None:
        self._environ = environ
        self._report = report
        self.given: set[str] = set()
        self._secrets: dict[pathlib.Path, Mapping[str, str]] = {}

    def env(self, text: str) -> str:
        """``NAME``, ``NAME:default``, or a text with ``${NAME}`` and ``${NAME:default}`` in it."""
        if "${" in text:
            return _PLACE.sub(lambda place: self._variable(place[1], place[2]), text)
        name, colon, default = text.partition(":")
        if not _NAME.fullmatch(name):
            raise TagError("!env takes NAME, NAME:default or a text with ${NAME:default} in it")
        return self._variable(name, default if colon else None)

    def _variable(self, name: str, default: str | None) -> str:
        value = self._environ.get(name, default)
        if value is None:
            raise TagError(
                f"the environment variable {name} is not set; set it, or give a default: !env {name}:default"
            )
        return value

    def secret(self, name: str, folder: pathlib.Path, mark: Mark, path: Path) -> str:
        """The secret of that name from ``secrets.yaml`` in the folder of the file that asks."""
        file = folder / SECRETS_FILE
        if file not in self._secrets:
            self._secrets[file] = {}
            self._secrets[file] = self._read(file, mark, path)
        value = self._secrets[file].get(name)
        if value is None:
            raise TagError(f"no secret '{name}' in {file}; add a line '{name}: ...' there")
        self.given.add(value)
        return value

    def _read(self, file: pathlib.Path, mark: Mark, path: Path) -> Mapping[str, str]:
        try:
            if file.stat().st_mode & stat.S_IROTH:
                self._report(mark, path, f"everybody on this machine can read {file}; run: chmod 640 {file}", "warning")
            node = yaml.compose(file.read_bytes(), Loader=yaml.SafeLoader)
        except OSError as error:
            raise TagError(f"cannot read {file}: {error.strerror}") from error
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            # the parser's own words may quote the secret
            raise TagError(f"{file} is not YAML; write lines 'name: value'") from error
        if not isinstance(node, yaml.MappingNode):
            raise TagError(f"{file} holds no secrets; write lines 'name: value'")
        return {
            key.value: value.value
            for key, value in node.value
            if isinstance(key, yaml.ScalarNode) and isinstance(value, yaml.ScalarNode)
        }
