"""DC outlets: W at the output, A per phase at the AC input. The engine knows the input alone.

An output limit divided by the efficiency is what the input may take; at the highest voltage that is the least current
that could exceed it, at the lowest voltage the most that an input can draw for it.
"""

from cem.core.units import HIGHEST_V, LOWEST_V


def output_w(input_a: float, phases: int, efficiency: float, volts: float = HIGHEST_V) -> float:
    """The most that an input current can give at the output."""
    return input_a * phases * volts * efficiency


def input_a(power_w: float, phases: int, efficiency: float, volts: float = LOWEST_V) -> float:
    """The most current per phase that an output power can take at the input."""
    return power_w / efficiency / phases / volts
