"""Keep one adapter running: a fault ends its run, a pause follows, then it runs again."""

import asyncio
import logging
import random
from collections.abc import Callable

from cem.errors import AdapterError
from cem.ports import Adapter, Clock

OnState = Callable[[str, bool, str], None]
"""Called with the adapter's name, whether it is up, and why not (empty when up)."""

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0  # FAULTS.md M12: reconnected within 30 s of healing
GOOD_RUN_S = 60.0  # after this long without a fault the next pause is short again
SETTLED_S = 10.0  # longer than any adapter's connect timeout: a run this old is connected

_log = logging.getLogger(__name__)
_random = random.SystemRandom()


async def keep_running(adapter: Adapter, clock: Clock, on_state: OnState | None = None) -> None:
    """Run ``adapter.run()`` for ever; a fault of it never reaches the caller.

    Pauses grow from 1 to 30 s, with jitter so that many adapters do not dial in step, and start over after a
    minute's good run. An outage is logged once when it starts and once when it ends. Cancellation passes.

    Args:
        adapter: What to run.
        clock: For durations.
        on_state: Told once when an outage starts and once when it ends.
    """
    outage = _Outage(adapter.name, clock, on_state)
    pause_s = FIRST_PAUSE_S
    while True:
        started_s = clock.monotonic_s()
        settled = asyncio.get_running_loop().call_later(SETTLED_S, outage.ends, started_s)
        try:
            await adapter.run()
            outage.starts(AdapterError(f"{adapter.name}: stopped by itself; it is started again"))
        except asyncio.CancelledError:
            # Nobody cancelled the adapter: an answer came in the very moment its time was up, for which asyncua raises a
            # CancelledError of its own that asyncio.timeout does not take for its own. As a task of a group the adapter
            # would end without a word, and its limit with it.
            if _cancelled():
                raise
            outage.starts(
                AdapterError(f"{adapter.name}: an answer came too late; is the network or this machine overloaded?")
            )
        except Exception as error:  # noqa: BLE001 - any fault of one adapter stays with that adapter (L14)
            outage.starts(error)
        finally:
            settled.cancel()
        if clock.monotonic_s() - started_s >= GOOD_RUN_S:
            pause_s = FIRST_PAUSE_S
        await asyncio.sleep(pause_s * _random.uniform(0.75, 1.0))
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def obey_cancellation() -> None:
    """Raise the cancellation of this task that a library lost.

    Python 3.11's ``wait_for``, which field libraries use, drops a cancellation that arrives together with the result;
    an adapter that loops on such a library calls this after every await on it, or it would never end.
    """
    if _cancelled():
        raise asyncio.CancelledError


def _cancelled() -> bool:
    """Somebody asked this very task to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class _Outage:
    """Says once that an adapter is down and once that it is back."""

    def __init__(self, name: str, clock: Clock, on_state: OnState | None) -> None:
        self._name = name
        self._clock = clock
        self._on_state = on_state
        self._since_s: float | None = None

    def starts(self, error: Exception) -> None:
        if self._since_s is not None:
            return
        self._since_s = self._clock.monotonic_s()
        if isinstance(error, AdapterError):
            _log.warning("%s; trying again until it works", error)
        else:
            _log.error("%s: a fault of the adapter itself; trying again until it works", self._name, exc_info=error)
        if self._on_state is not None:
            self._on_state(self._name, False, str(error) or type(error).__name__)

    def ends(self, running_since_s: float) -> None:
        if self._since_s is None:
            return
        _log.warning("%s: back after %.0f s", self._name, running_since_s - self._since_s)
        self._since_s = None
        if self._on_state is not None:
            self._on_state(self._name, True, "")
