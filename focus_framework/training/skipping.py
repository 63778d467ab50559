"""Images that could not be read, which others stood in for."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from .processes.team import Team

logger = logging.getLogger(__name__)


class Skipped:
    """Collects them in each process, and tells of each once for all processes."""

    def __init__(self, team: Team) -> None:
        self.team = team
        self.names: list[str] = []
        self._here: dict[str, str] = {}

    def note(self, found: Mapping[str, str]) -> None:
        """Remember images of this process: name to reason."""
        self._here |= found

    def tell(self) -> None:
        """Log what any process has skipped since the last time. All processes have to call it."""
        for found in self.team.gathered(self._here):
            for name, reason in found.items():
                if name not in self.names:
                    self.names.append(name)
                    logger.warning("skipped, replaced by another image: %s", reason)
        self._here.clear()
