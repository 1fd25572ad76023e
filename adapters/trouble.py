"""What is wrong with one device or channel, told once when it starts and once when it ends."""

import logging

from cem.ports import Clock, News

SETTLED_S = 5.0  # good for this long ends a trouble; a flapping device does not fill the log

_log = logging.getLogger(__name__)


class Trouble:
    """The present problem of one thing.

    Args:
        subject: Its name, for the log.
        clock: Monotonic time.
        news: Called when a trouble starts and when it ends.
        after: Bad outcomes in a row before it is told.
    """

    def __init__(self, subject: str, clock: Clock, news: News, *, after: int = 1) -> None:
        self.problem: str | None = None
        self.in_a_row = 0
        self._subject = subject
        self._clock = clock
        self._news = news
        self._after = after
        self._told = False
        self._last_bad_s = 0.0

    def bad(self, problem: str, *, quiet: bool = False) -> None:
        """It went wrong (again).

        Args:
            problem: For an installer; names the device.
            quiet: Somebody else tells this outage.
        """
        self.problem = problem
        self.in_a_row += 1
        self._last_bad_s = self._clock.monotonic_s()
        if self.in_a_row >= self._after and not self._told and not quiet:
            self._told = True
            _log.warning("%s; trying again until it works", problem)
            self._news()

    def good(self) -> None:
        """It went well."""
        self.problem = None
        self.in_a_row = 0
        if self._told and self._clock.monotonic_s() - self._last_bad_s >= SETTLED_S:
            self._told = False
            _log.warning("%s: gives good values again", self._subject)
            self._news()
