"""Every cycle's picture and decision on disk, bounded, and the same cycles decided again later.

``Recorder`` writes, ``replay`` reads; ``codec`` knows nothing of either, nor of what the core's values mean.
"""

from cem.replay.player import Difference, Replayed, replay
from cem.replay.recorder import Recorder

__all__ = ["Difference", "Recorder", "Replayed", "replay"]
