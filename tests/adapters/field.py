"""Run an adapter under the supervisor, and wait for what it hears."""

import asyncio
import time
from contextlib import asynccontextmanager

from cem.clock import SystemClock
from cem.supervise import keep_running

CLOCK = SystemClock()


@asynccontextmanager
async def running(adapter):
    task = asyncio.create_task(keep_running(adapter, CLOCK))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition, timeout_s=5.0):
    """Wait for a condition; returns how long it took."""
    started = time.monotonic()
    while not (result := condition()):
        assert time.monotonic() - started < timeout_s, "did not happen in time"
        await asyncio.sleep(0.01)
    del result
    return time.monotonic() - started


async def fresh(adapter, name="meter", timeout_s=5.0):
    """A measurement whose read began after now."""
    now = time.monotonic()
    await until(lambda: (m := adapter.measurements().get(name)) and m.taken_s > now, timeout_s)
    return adapter.measurements()[name]
