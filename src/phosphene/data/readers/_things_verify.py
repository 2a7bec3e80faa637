"""Whether a checksum vouches for a foreign file."""

from __future__ import annotations

from pathlib import Path

from phosphene._manifest import sha256_file
from phosphene.data.datasets import DatasetInfo
from phosphene.errors import DataError


def verified(info: DatasetInfo, root: Path, path: Path) -> bool:
    """Compare a file with its checksum, where the data set knows one.

    Returns
    -------
    bool
        False where none is known.

    Raises
    ------
    DataError
        If the file is another one.
    """
    try:
        name = path.relative_to(root).as_posix()
    except ValueError:
        return False
    if (expected := info.sha256.get(name)) is None:
        return False
    if (found := sha256_file(path)) != expected:
        raise DataError(
            f"{path} is not the file that {info.title} has under this name",
            found=f"sha256 {found}",
            expected=f"sha256 {expected}",
            fix="copy or download it again",
        )
    return True
