"""Feature banks from the command line's words: pictures in, a saved bank out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from phosphene.errors import DataError

if TYPE_CHECKING:
    from phosphene.data.stimuli import StimulusSet
    from phosphene.stimuli.bank import FeatureBank

DEMO = "demo"


def read_stimuli(source: str | Path) -> StimulusSet:
    """Pictures of a folder, of a CSV file, or of the demo.

    Parameters
    ----------
    source : str or path
        A folder, a CSV file with columns ``stimulus`` and ``path``, NSD's ``nsd_stimuli.hdf5``, or
        the word ``demo`` for one picture of each of the demo's objects.

    Raises
    ------
    DataError
        If it is neither.
    """
    from phosphene.data.stimuli import StimulusSet

    path = Path(source)
    if path.is_dir():
        return StimulusSet.from_folder(path)
    if path.is_file():
        if path.suffix.lower() in (".hdf5", ".h5"):
            from phosphene.data.readers.nsd import read_nsd_stimuli

            return read_nsd_stimuli(path)
        if path.suffix.lower() != ".csv":
            raise DataError(
                f"{path} is not a list of pictures",
                found=f"a {path.suffix or 'nameless'} file",
                expected="a folder of pictures, or a CSV file with columns stimulus and path",
            )
        return StimulusSet.from_csv(path)
    if str(source) == DEMO:
        from phosphene.simulation.pictures import picture_set

        return picture_set(exemplars=1)
    raise DataError(
        f"there are no pictures at {source}",
        expected="a folder of pictures, a CSV file with columns stimulus and path, or 'demo'",
    )


def read_ids(path: str | Path) -> list[str]:
    """Stimulus ids of a text file, one per line.

    Raises
    ------
    DataError
        If there is no such file, or it is no text.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"the ids cannot be read from {path}",
            found=error,
            expected="a text file with one stimulus id per line",
        ) from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def load_bank(folder: str | Path) -> FeatureBank:
    """The bank saved in a folder.

    Raises
    ------
    DataError
        If there is none.
    ArtefactError
        If it is damaged.
    """
    from phosphene.stimuli.bank import FeatureBank

    if not (Path(folder) / "bank.json").is_file():
        raise DataError(
            f"there is no saved FeatureBank in {folder}",
            expected="a folder that `phosphene features extract` or FeatureBank.save wrote",
        )
    return FeatureBank.load(folder)


def extract_bank(
    source: str | Path,
    out: str | Path,
    *,
    encoder: str,
    views: Sequence[str],
    layers: Sequence[str] | None = None,
    dtype: Literal["float32", "float16"] = "float32",
    on_error: Literal["raise", "skip"] = "raise",
    precision: str = "auto",
    device: str = "auto",
    batch_size: int = 32,
    progress: bool = True,
) -> FeatureBank:
    """Extract features of pictures into a folder; what is known already is not computed again.

    Parameters
    ----------
    source : str or path
        See :func:`read_stimuli`.
    out : path
        Folder of the bank; replaced when it holds one.
    encoder, views, layers, dtype, on_error, precision, device, batch_size, progress
        As in :meth:`phosphene.FeatureBank.extract`.
    """
    from phosphene.stimuli.bank import FeatureBank

    return FeatureBank.extract(
        read_stimuli(source),
        encoder,
        list(views),
        None if layers is None else list(layers),
        dtype=dtype,
        on_error=on_error,
        out=out,
        batch_size=batch_size,
        precision=precision,
        device=device,
        progress=progress,
    )


def bank_facts(bank: FeatureBank) -> dict[str, Any]:
    """What is known of a bank, in plain values for JSON.

    Returns
    -------
    dict
        ``stimuli``, ``concepts``, ``encoder``, ``views``, ``layers`` (name: width), ``dtype``,
        ``megabytes``, ``hash``, ``skipped``, ``provenance``.
    """
    arrays = bank.arrays.values()
    return {
        "stimuli": len(bank),
        "concepts": int(bank.stimuli["concept"].nunique()),
        "encoder": (bank.provenance.get("encoder") or {}).get("id", "undeclared"),
        "views": list(bank.views),
        "layers": {layer: bank.dim(layer) for layer in bank.layers},
        "default_layer": bank.default_layer,
        "dtype": sorted({str(array.dtype) for array in arrays}),
        "megabytes": round(
            sum(array.dtype.itemsize * array.shape[0] * array.shape[1] for array in arrays) / 1e6, 3
        ),
        "hash": bank.hash,
        "skipped": bank.provenance.get("skipped") or {},
        "timings": bank.timings,
        "provenance": bank.provenance,
    }
