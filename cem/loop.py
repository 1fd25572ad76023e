"""The event loop as the product runs it: what a lost TLS peer leaves behind in it is not worth a trace."""

import asyncio
import logging
from typing import Any

_UVLOOP_LOG = logging.getLogger("asyncio")


def quieten(loop: asyncio.AbstractEventLoop) -> None:
    """Has a cut TLS connection told once, by whoever used it, and not by the loop as well."""
    loop.set_exception_handler(_handle)
    _UVLOOP_LOG.addFilter(_no_writes_after_the_end)


def _handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    problem = context.get("exception")
    if str(context.get("message")).startswith("Fatal error on SSL protocol") and _is_a_cut(problem):
        return
    loop.default_exception_handler(context)


def _is_a_cut(problem: object) -> bool:
    """Whether it is the connection that ended, and no fault in what handles its data, which is told the same way."""
    return isinstance(problem, OSError) or (
        isinstance(problem, RuntimeError) and "the handler is closed" in str(problem)  # uvloop's words
    )


def _no_writes_after_the_end(record: logging.LogRecord) -> bool:
    """The loop warns of each write to a connection whose end has not been told yet."""
    return record.msg not in {"SSL connection is closed", "socket.send() raised exception"}
