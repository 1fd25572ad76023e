"""The device maps that ship with the product."""

import re
from functools import cache
from pathlib import Path

from cem.config.maps import DeviceMap, ModelBook, read_map
from cem.errors import DeviceMisconfigured

FOLDER = Path(__file__).parent.parent / "modbus_maps"
_VERIFIED = re.compile(r"^verified:\s*true\b", re.MULTILINE)


@cache
def known_models() -> ModelBook:
    """Names a device's ``model`` may have in the site file, and whether each was checked against its sources.

    Only that one key is looked for: ``cem check`` should not parse every map.
    """
    found = {path.stem: bool(_VERIFIED.search(path.read_text("utf-8"))) for path in sorted(FOLDER.glob("*.yaml"))}
    return ModelBook(found, load_map)


@cache
def load_map(model: str) -> DeviceMap:
    """The map of that name.

    Raises:
        DeviceMisconfigured: There is none.
        ConfigError: The map itself is wrong.
    """
    if model not in known_models():
        raise DeviceMisconfigured(f"no map for model {model!r}; known models: {', '.join(sorted(known_models()))}")
    return read_map(FOLDER / f"{model}.yaml")
