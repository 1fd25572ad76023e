"""The command ``cem``. A command's module is imported when that command is named, so that ``cem check`` starts fast."""

import functools
import importlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import typer

from cem.errors import CemError, ConfigError

EXIT_FAILED = 1
EXIT_CONFIG = 78  # EX_CONFIG of sysexits.h; the systemd unit does not restart after it
EXIT_INTERRUPTED = 130

COMMANDS = {
    "run": "cem.cli.run:run",
    "demo": "cem.cli.demo:demo",
    "check": "cem.cli.check:check",
    "schema": "cem.cli.check:schema",
    "status": "cem.cli.ask:status",
    "why": "cem.cli.ask:why",
    "set": "cem.cli.wish:wish",
    "events": "cem.cli.ask:events",
    "simulate": "cem.cli.simulate:simulate",
    "replay": "cem.cli.replay:replay",
    "scan": "cem.cli.scan:scan",
    "version": "cem.cli.version:version",
}
GROUPS = {
    "sessions": {"list": "cem.cli.ask:sessions_list", "export": "cem.cli.export:sessions_export"},
    "queue": {
        "list": "cem.cli.queue:queue_list",
        "retry": "cem.cli.queue:queue_retry",
        "aside": "cem.cli.queue:queue_aside",
        "export": "cem.cli.queue:queue_export",
    },
    "device": {
        "list": "cem.cli.device:device_list",
        "read": "cem.cli.device:device_read",
        "watch": "cem.cli.device:device_watch",
        "test": "cem.cli.device:device_test",
        "write": "cem.cli.device:device_write",
    },
    "station": {
        "list": "cem.cli.station:station_list",
        "show": "cem.cli.station:station_show",
        "approve": "cem.cli.station:station_approve",
        "reject": "cem.cli.station:station_reject",
        "set-password": "cem.cli.station:station_set_password",
        "rotate-credentials": "cem.cli.repoint:station_rotate_credentials",
        "migrate": "cem.cli.repoint:station_migrate",
    },
    "tag": {"add": "cem.cli.tag:tag_add", "list": "cem.cli.tag:tag_list", "remove": "cem.cli.tag:tag_remove"},
    "pki": {
        "init": "cem.cli.pki:pki_init",
        "issue": "cem.cli.pki:pki_issue",
        "revoke": "cem.cli.pki:pki_revoke",
        "list": "cem.cli.pki:pki_list",
    },
    "privacy": {"forget": "cem.cli.privacy:privacy_forget"},
    "audit": {"list": "cem.cli.audit:audit_list", "verify": "cem.cli.audit:audit_verify"},
}
_GROUP_HELP = {
    "sessions": "Charging sessions on record.",
    "queue": "What upstream CSMSs have not heard yet.",
    "device": "Field devices, asked without the controller.",
    "station": "Who waits, who belongs here, and passwords.",
    "tag": "Who may charge where there is no operator's cloud.",
    "pki": "The site's own CA for station certificates.",
    "privacy": "Personal data.",
    "audit": "Events of security, and whether their record is whole.",
}


def main() -> None:
    """Entry point of the command."""
    make_app(sys.argv[1:])()


def make_app(words: Sequence[str]) -> typer.Typer:
    """The command line with what these words need: one command, or all of them for help and for typing errors."""
    app = typer.Typer(
        name="cem",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_about)
    named = words[0] if words else ""
    known = named in COMMANDS or named in GROUPS
    for name, place in COMMANDS.items():
        if name == named or not known:
            app.command(name)(_load(place))
    for group, places in GROUPS.items():
        if group == named or not known:
            members = typer.Typer(no_args_is_help=True, help=_GROUP_HELP[group])
            members.callback()(_nothing)
            for name, place in places.items():
                members.command(name)(_load(place))
            app.add_typer(members, name=group)
    return app


def _about() -> None:
    """Local energy manager and local CSMS for EV charging sites."""


def _nothing() -> None:
    """Keeps a group of one command a group."""


def _load(place: str) -> Callable[..., Any]:
    module, _, function = place.partition(":")
    return _with_exit_codes(getattr(importlib.import_module(module), function))


def _with_exit_codes(command: Callable[..., Any]) -> Callable[..., Any]:
    """Our own errors become a message and an exit code; anything else is a bug and keeps its traceback."""

    @functools.wraps(command)
    def run_command(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except ConfigError as error:
            for problem in error.problems:
                print(problem, file=sys.stderr)
            errors = sum(problem.severity == "error" for problem in error.problems)
            print(f"the site file is refused: {errors} error{'' if errors == 1 else 's'}", file=sys.stderr)
            raise typer.Exit(EXIT_CONFIG) from error
        except CemError as error:
            print(f"cem: {error}", file=sys.stderr)
            raise typer.Exit(EXIT_FAILED) from error
        except KeyboardInterrupt as error:
            raise typer.Exit(EXIT_INTERRUPTED) from error

    return run_command
