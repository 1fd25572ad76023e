"""Files that connections in a site file name: relative ones are relative to the site file's folder."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from cem.config.draft import Finding
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


def missing_files(file: SiteFile, folder: Path) -> Iterator[Finding]:
    """Certificates and keys of the OCPP legs that cannot be read here; the file may be meant for another machine."""
    tls = file.csms.listen.tls
    named: list[tuple[tuple[str | int, ...], str | None]] = []
    if tls is not None:
        keys = ("certificate", "key", "second_certificate", "second_key", "client_ca")
        named += [(("csms", "listen", "tls", key), getattr(tls, key)) for key in keys]
    for i, upstream in enumerate(file.csms.upstreams):
        named += [(("csms", "upstreams", i, key), getattr(upstream, key)) for key in ("ca", "certificate", "key")]
    for place, name in named:
        if name is not None and not os.access(folder / name, os.R_OK):
            yield Finding(place, f"{name} cannot be read here; it is looked for from the site file's folder", "warning")


def _absolute(key: str, value: Any, folder: Path) -> Any:
    if isinstance(value, BaseModel):
        return value.model_copy(update={k: _absolute(k, v, folder) for k, v in value})
    if isinstance(value, tuple):
        return tuple(_absolute(key, item, folder) for item in value)
    if key in _KEYS and isinstance(value, str):
        return str((folder / value).resolve())
    return value
