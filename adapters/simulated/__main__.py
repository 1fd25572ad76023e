"""``python -m adapters.simulated SITE.yaml``: the simulated site as a process of its own.

Events leave on standard output, one JSON object a line, each with ``at_s`` (this machine's monotonic time). With
``--commands`` steps come in on standard input the same way: ``{"do": "cut", "what": "device", "name": "grid_meter"}``.
"""

import argparse
import asyncio
import json
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from adapters.simulated.site import SimulatedSite
from adapters.simulated.story import Step, Story, demo_story, everyday_story
from cem.config.loader import load_site_file
from cem.errors import ConfigError


def emit(event: str, **data: Any) -> None:
    """Says that something happened."""
    sys.stdout.write(json.dumps({"event": event, "at_s": round(time.monotonic(), 4)} | data) + "\n")
    sys.stdout.flush()


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m adapters.simulated", description="A simulated site.")
    parser.add_argument("site", type=Path, help="site file; its addresses are served on this machine")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--for", dest="length_s", type=float, default=3600.0, metavar="SECONDS")
    parser.add_argument("--truth", type=Path, help="CSV of the plant's own truth")
    parser.add_argument(
        "--wait", dest="wait_s", type=float, default=0.0, metavar="SECONDS",
        help="time stands still until every station is connected, at most this long",
    )  # fmt: skip
    parser.add_argument("--story", choices=("demo", "everyday", "none"), default="everyday")
    parser.add_argument("--no-outside-steps", action="store_true", help="the same seed without outside steps")
    parser.add_argument("--commands", action="store_true", help="take steps from standard input")
    return parser.parse_args()


async def listen(simulated: SimulatedSite) -> None:
    """Does what standard input says until it ends."""
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    while line := await reader.readline():
        try:
            data = json.loads(line)
            do = str(data.pop("do"))
            if do == "summary":
                emit("summary", **simulated.summary())
                continue
            await simulated.act(Step(simulated.plant.t_s, do, data))
            emit("done", do=do)
        except (ValueError, KeyError, AttributeError, OSError) as error:
            emit("refused", text=str(error))


async def serve(options: argparse.Namespace) -> int:
    """Runs the site; 0 where nothing would have tripped, 3 where something would."""
    try:
        loaded = load_site_file(options.site)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 78
    story = Story()
    if options.story == "demo":
        story = demo_story(options.length_s)
    elif options.story == "everyday":
        story = everyday_story(tuple(e.evse_id for e in loaded.site.evses))
    simulated = SimulatedSite(
        loaded.file,
        loaded.site,
        seed=options.seed,
        story=story,
        emit=emit,
        truth=options.truth,
        outside=not options.no_outside_steps,
        length_s=max(3600.0, options.length_s),
    )
    life = asyncio.ensure_future(simulated.run(options.length_s, options.wait_s))
    listener = asyncio.ensure_future(listen(simulated)) if options.commands else None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, life.cancel)
    failed: list[str] = []
    try:
        with suppress(asyncio.CancelledError):
            await life
    except* (OSError, RuntimeError) as errors:
        failed = [f"{type(e).__name__}: {e}\n" for e in errors.exceptions]
    if listener is not None:
        listener.cancel()
    if failed:
        sys.stderr.write("".join(failed))
        return 1
    emit("summary", **simulated.summary())
    return 3 if simulated.judge.tripped else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(serve(arguments())))
