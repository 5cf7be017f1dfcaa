"""Who reads the metrics on this node, and where they go for that: a running node_exporter's folder, or Debian's."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from snapshot.config.settings import Config, MetricsConfig
from snapshot.doctor.exporter import RunningExporter, running
from snapshot.setup import configuring
from snapshot.setup.node import Places


class Readers(NamedTuple):
    """What becomes of the textfile."""

    folder: Path | None = None
    """Where it is to go from now on; None: it stays where the configuration has it."""
    made: Path | None = None
    """The folder that is made where it is missing."""
    note: str = ""
    """Why nobody reads it, and where it goes all the same; empty where somebody does, or nobody is there to."""


def look_for_readers(places: Places, raw: bytes | None, config: Config) -> Readers:
    """By the node_exporters that run. ``raw``: the configuration's file; a textfile that it names stays."""
    textfile = config.metrics.textfile
    if textfile is None:
        return Readers()
    is_default = textfile == MetricsConfig().textfile
    goes_to = places.textfiles if is_default else textfile.parent
    exporters = running(places.proc)
    if exporters and any(one.reads(textfile.parent) for one in exporters):
        return Readers(made=goes_to)
    stays = Readers(made=goes_to if is_default else None)
    if exporters is not None and (not exporters or configuring.says(raw, "metrics", "textfile")):
        return stays
    folder = next((one.folder for one in exporters or () if one.folder is not None), None)
    if folder is not None:
        return Readers(folder, folder)
    why = "whether a node_exporter runs cannot be seen in /proc" if exporters is None else _why(exporters[0])
    return stays._replace(note=f"{why}: the metrics go to {goes_to}, where nobody may read them (docs/install.md)")


def _why(one: RunningExporter) -> str:
    """Why nothing can be written for it."""
    name = f"node_exporter (pid {one.pid})"
    if one.is_off:
        return f"{name} runs with its textfile collector switched off"
    if not one.folders:
        return f"{name} runs without --collector.textfile.directory"
    if one.is_elsewhere is not False:
        return f"{name} runs in a container, and its folders are not this node's"
    return f"{name} reads {', '.join(one.folders)}, and [metrics] textfile must name one such folder"
