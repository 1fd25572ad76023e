"""The option that names the site file, and the storage directory behind it."""

from pathlib import Path
from typing import Annotated

import typer

from cem.config.loader import LoadedSite, load_site_file

Site = Annotated[Path, typer.Option("--site", envvar="CEM_SITE", help="The site file; its storage directory is used.")]
DEFAULT_SITE = Path("/etc/cem/site.yaml")


def storage_of(site: Path) -> tuple[LoadedSite, Path]:
    """The site and its storage directory.

    Raises:
        ConfigError: The site file cannot be used.
    """
    loaded = load_site_file(site)
    return loaded, (loaded.path.parent / loaded.file.storage.directory).resolve()
