"""``cem run``: the controller of one site, until it is stopped."""

import logging
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class LogLevel(StrEnum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


_SYSLOG = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


class _JournalFormatter(logging.Formatter):
    """One line a record with its syslog level in front; the journal adds the time (sd-daemon(3))."""

    def format(self, record: logging.LogRecord) -> str:
        mark = f"<{_SYSLOG.get(record.levelno, 5)}>"
        return "\n".join(mark + line for line in super().format(record).splitlines())


def run(
    file: Annotated[Path, typer.Argument(help="The site file.", show_default=False)],
    log_level: Annotated[LogLevel, typer.Option(help="How much is logged.")] = LogLevel.INFO,
) -> None:
    """Run the controller of a site until SIGTERM or Ctrl-C; exit 78 where the site file cannot be used."""
    set_up_logging(getattr(logging, log_level.name))
    from cem.app import run_site  # noqa: PLC0415 - a second of imports that `cem run --help` should not pay

    raise typer.Exit(run_site(file))


def set_up_logging(level: int) -> None:
    """Log to standard error, in the journal's own form where it listens."""
    handler = logging.StreamHandler(sys.stderr)
    if os.environ.get("JOURNAL_STREAM"):
        handler.setFormatter(_JournalFormatter("%(name)s: %(message)s"))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
    for noisy in ("asyncua", "pymodbus", "websockets", "httpx", "asyncio", "nicegui"):
        logging.getLogger(noisy).setLevel(max(level, logging.WARNING))
