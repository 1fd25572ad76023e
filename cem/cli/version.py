"""``cem version``."""

import json
import platform
from importlib import metadata
from typing import Annotated

import typer


def version(
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print the version of the product and of Python."""
    own, python = metadata.version("cem-site-controller"), platform.python_version()
    if json_output:
        print(json.dumps({"version": own, "python": python}))
    else:
        print(f"cem-site-controller {own} (Python {python})")
