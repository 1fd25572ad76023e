"""Files that connections in a site file name: relative ones are relative to the site file's folder."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from cem.config.models import SiteFile

_SECTIONS = ("devices", "contacts", "external_limits", "mqtt_out")
_KEYS = ("ca_file", "certificate_file", "key_file", "pki_folder")


def with_absolute_paths(file: SiteFile, folder: Path) -> SiteFile:
    """The site file as it stands, its connections with absolute paths.

    Args:
        file: As written.
        folder: Where it was read.
    """
    found = {key: _absolute(key, getattr(file, key), folder) for key in _SECTIONS if hasattr(file, key)}
    return file.model_copy(update=found)


def _absolute(key: str, value: Any, folder: Path) -> Any:
    if isinstance(value, BaseModel):
        return value.model_copy(update={k: _absolute(k, v, folder) for k, v in value})
    if isinstance(value, tuple):
        return tuple(_absolute(key, item, folder) for item in value)
    if key in _KEYS and isinstance(value, str):
        return str((folder / value).resolve())
    return value
