"""A folder of finished parts, kept as long as the settings that made them stay the same."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from phosphene._logging import get_logger
from phosphene._saving import read_json, write_json
from phosphene.errors import ArtefactError

logger = get_logger(__name__)

SETTINGS = "settings.json"


def keep_if_same(folder: Path, settings: dict[str, Any]) -> None:
    """Keep what ``folder`` holds if it was made by the same settings; else begin it anew.

    Parameters
    ----------
    folder : Path
        Made when it is not there.
    settings : dict
        As JSON would give them back; written into the folder.
    """
    known = None
    if (folder / SETTINGS).is_file():
        try:
            known = read_json(folder / SETTINGS)
        except ArtefactError:
            logger.warning("%s is damaged; everything is made anew", folder / SETTINGS)
    if known == settings:
        return
    if folder.is_dir():
        logger.info("%s holds results of other settings; they are made anew", folder)
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    write_json(folder / SETTINGS, settings)
