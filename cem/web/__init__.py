"""HTTP API and the live page, on an event loop and a thread of their own: nothing here can delay a control cycle."""

from cem.web.server import WebServer
from cem.web.snapshot import SiteView, SnapshotCell

__all__ = ["SiteView", "SnapshotCell", "WebServer"]
