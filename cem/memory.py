"""The garbage collector set up for a process that lives for months and holds thousands of connections."""

import gc

THRESHOLDS = 10_000, 10, 5
"""The usual first one of 700 has the collector walk all connections many times a second, for next to no garbage."""


def settle() -> None:
    """Takes what start-up made out of the collector's sight, and has it look less often; call it before the loop runs."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
