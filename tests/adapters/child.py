"""A peer as a process of its own that answers commands on its standard input: frozen, thawed, killed by its own id."""

import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Child:
    """``python -m MODULE ARGUMENTS``, which prints the port that it listens at first, and ``done`` after each command."""

    def __init__(self, module: str, *arguments: object) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *map(str, arguments)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )  # fmt: skip
        self.port = int(self._process.stdout.readline())

    def tell(self, command: str) -> None:
        """Returns when it is done."""
        self._process.stdin.write(command + "\n")
        assert self._process.stdout.readline() == "done\n"

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()
