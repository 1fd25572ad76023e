"""Names that mean the same for every device, whatever its protocol."""

from typing import Literal

WriteName = Literal[
    "limit_w", "limit_percent", "limit_enable", "limit_revert_s", "limit_revert_percent", "limit_revert_enable",
    "power_w", "power_enable", "power_mode", "power_revert_w", "power_revert_enable", "power_revert_s",
    "charge_limit_w", "discharge_limit_w", "charge_percent", "discharge_percent", "storage_mode", "storage_revert_s",
    "grid_charging", "reserve_soc_percent",
    "current_a", "enable", "watchdog_s", "watchdog_current_a", "alive",
]  # fmt: skip
"""What a map may let us write; one meaning each, the same for every device.

``limit_*`` curtails production; ``power_w`` sets a battery (load convention: charging positive), ``charge_limit_w`` and
``discharge_limit_w`` (both positive) bound what it does by itself; ``current_a`` is what a
wallbox may draw per phase; ``*_revert_*`` and ``watchdog_*`` are what the device falls back to by itself, and when, after nobody
wrote ``alive`` or the set-point again.
"""
