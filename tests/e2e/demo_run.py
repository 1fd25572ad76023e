"""``cem demo`` as a process, its output in a file."""

import os
import signal
import subprocess
from pathlib import Path

from tests.e2e.controller import CEM

LENGTH_S = 120
END_S = 60.0


class DemoProcess:
    """A run that has begun.

    Attributes:
        report: Its figures, once it is over.
        truth: The plant's own truth, once it is over.
    """

    def __init__(self, folder: Path, seed: int, *more: str) -> None:
        self.report, self.truth, self._output = folder / "r.json", folder / "t.csv", folder / "output.txt"
        words = ["--for", str(LENGTH_S), "--seed", str(seed), "--report", str(self.report), "--truth", str(self.truth)]
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [*CEM, "demo", *words, *more],
                stdout=output, stderr=output, cwd=folder, env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )  # fmt: skip

    def wait(self) -> tuple[int, str]:
        """Its exit code and what it printed."""
        code = self._process.wait(LENGTH_S + END_S)
        return code, self._output.read_text(errors="replace")

    def end(self) -> None:
        """Ends it where it still runs; it ends its own two processes."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(30)
