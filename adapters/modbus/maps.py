"""The device maps that ship with the product."""

from functools import cache
from pathlib import Path

from cem.config.maps import DeviceMap, read_map
from cem.errors import DeviceMisconfigured

FOLDER = Path(__file__).parent.parent / "modbus_maps"


@cache
def known_models() -> frozenset[str]:
    """Names a device's ``model`` may have in the site file."""
    return frozenset(path.stem for path in FOLDER.glob("*.yaml"))


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
