"""A journal that is read by whoever asks what there was. Before the first window there is no file: that is no error.

Who looks for a guest that may be frozen reads the journal itself: there an absent file is worth a thought.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from snapshot.journal import file, schema
from snapshot.journal.store import Journal


class JournalReader(Journal):
    """Read only, and empty for as long as there is no file: the one that comes meanwhile is read from then on.

    JournalError as for Journal, and where no journal can ever be.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, read_only=True)

    def _open(self) -> None:
        if not file.is_absent(self.path):
            super()._open()
            return
        with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as nothing:
            self._replace(file.in_memory(nothing))
        schema.migrate(self._db, self.path)
        self._file = None
