"""Plain YAML files beside the site file, and a site that stands inside one of them."""

import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from cem.config.loader import LoadedSite, load_site_file
from cem.errors import CemError


def read_plain(path: Path) -> Any:
    """What a YAML file says, without a model behind it.

    Raises:
        CemError: It cannot be read or is not YAML.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise CemError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    except yaml.YAMLError as error:
        raise CemError(f"{path}: not YAML: {' '.join(str(error).split())}") from error


def load_site_section(section: Mapping[str, Any], known_models: Collection[str] | None = None) -> LoadedSite:
    """A site that is written inside another file, without its ``version``.

    Raises:
        ConfigError: As of ``load_site_file``; lines are counted as if the section were a file.
    """
    with tempfile.TemporaryDirectory(prefix="cem-site-") as folder:
        path = Path(folder) / "site.yaml"
        path.write_text(yaml.safe_dump({"version": 1, **section}, sort_keys=False), encoding="utf-8")
        return load_site_file(path, known_models=known_models)
