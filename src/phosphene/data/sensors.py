"""Sensors: the channels or voxels of a recording, their names, places and regions."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene._registry import did_you_mean
from phosphene._validation import as_int_index, require_columns, require_unique
from phosphene.errors import DataError, listing

if TYPE_CHECKING:
    import mne

Modality = Literal["eeg", "meg", "ecog", "fmri"]
# Types of MNE's channels that each modality is made of.
CHANNEL_TYPES = {"eeg": ("eeg",), "meg": ("mag", "grad"), "ecog": ("ecog", "seeg", "dbs")}
#: The 17 channels over visual cortex that most retrieval studies use.
OCCIPITO_PARIETAL: tuple[str, ...] = (
    *("P7", "P5", "P3", "P1", "Pz", "P2", "P4", "P6", "P8"),
    *("PO7", "PO3", "POz", "PO4", "PO8", "O1", "Oz", "O2"),
)


@dataclass(frozen=True, eq=False)
class Sensors:
    """Names, places and regions of channels or voxels.

    Parameters
    ----------
    modality : {"eeg", "meg", "ecog", "fmri"}
        What was measured.
    names : tuple of str, length n
        Unique names.
    info : mne.Info, optional
        Channel types, positions (metres) and sampling rate, for EEG, MEG and ECoG.
    voxels : DataFrame, optional
        Indexed by name: ``x, y, z`` in mm, boolean columns ``roi_<NAME>``, and if known
        ``noise_ceiling``.
    affine : ndarray, shape (4, 4), optional
        From voxel indices to mm.

    Raises
    ------
    DataError
        If names occur twice, or the parts disagree about them.
    """

    modality: Modality
    names: tuple[str, ...]
    info: mne.Info | None = None
    voxels: pd.DataFrame | None = None
    affine: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        if self.modality not in get_args(Modality):
            raise DataError(
                f"there is no modality {self.modality!r}",
                expected="one of " + ", ".join(get_args(Modality)),
                fix=did_you_mean(str(self.modality), get_args(Modality)),
            )
        object.__setattr__(self, "names", tuple(str(name) for name in self.names))
        require_unique(self.names, "channel name")
        for part, names in (
            ("info", None if self.info is None else self.info["ch_names"]),
            ("voxels", None if self.voxels is None else self.voxels.index),
        ):
            if names is not None and tuple(map(str, names)) != self.names:
                raise DataError(
                    f"the sensors' names differ from those of {part}",
                    found=listing(names),
                    expected=listing(self.names),
                )
        if self.affine is not None and np.shape(self.affine) != (4, 4):
            raise DataError(
                "affine has another shape", found=np.shape(self.affine), expected=(4, 4)
            )

    @classmethod
    def eeg(cls, names: Sequence[str], sfreq: float) -> Sensors:
        """EEG channels at their places in the 10-05 system.

        Parameters
        ----------
        names : sequence of str
            Names of the 10-05 system, e.g. "Oz"; capitals do not matter.
        sfreq : float
            Sampling rate in Hz.

        Raises
        ------
        DataError
            Listing the names that the system does not have, or that name one place.

        Examples
        --------
        >>> Sensors.eeg(["O1", "Oz", "O2"], sfreq=250).positions().shape
        (3, 3)
        """
        import mne

        montage = _montage()
        known = {name.lower() for name in montage.ch_names}
        if unknown := [name for name in names if name.lower() not in known]:
            raise DataError(
                f"channels that the 10-05 system does not have: {listing(map(repr, unknown))}",
                fix=did_you_mean(unknown[0], montage.ch_names)
                or "use Sensors.channels for channels without known places",
            )
        require_unique([name.lower() for name in names], "channel name, whatever its capitals,")
        info = mne.create_info(list(names), float(sfreq), "eeg", verbose=False)
        info.set_montage(montage, match_case=False, verbose=False)
        return cls("eeg", tuple(names), info)

    @classmethod
    def channels(
        cls, names: Sequence[str], sfreq: float | None = None, modality: Modality = "eeg"
    ) -> Sensors:
        """Channels by name; EEG names of the 10-05 system get their places, others none.

        Parameters
        ----------
        names : sequence of str
            Unique names.
        sfreq : float, optional
            Sampling rate in Hz; without one there is no `info`.
        modality : str
            What was measured.
        """
        if sfreq is None or modality == "fmri":
            return cls(modality, tuple(names))
        import mne

        if modality == "eeg":
            known = {name.lower() for name in _montage().ch_names}
            if all(name.lower() in known for name in names):
                return cls.eeg(names, sfreq)
        kind = CHANNEL_TYPES[modality][0] if modality in CHANNEL_TYPES else "misc"
        require_unique(names, "channel name")
        info = mne.create_info(list(names), float(sfreq), kind, verbose=False)
        return cls(modality, tuple(names), info)

    @classmethod
    def fmri(cls, voxels: pd.DataFrame | int, affine: NDArray[np.float64] | None = None) -> Sensors:
        """Voxels, from their table or only their number.

        Parameters
        ----------
        voxels : DataFrame or int
            Table with ``x, y, z`` (mm), ``roi_<NAME>`` and more; the index holds the names, a
            default index is replaced by ``voxel_0`` and so on.
        affine : ndarray, shape (4, 4), optional
            From voxel indices to mm.

        Examples
        --------
        >>> Sensors.fmri(2).names
        ('voxel_0', 'voxel_1')
        """
        table = pd.DataFrame(index=range(voxels)) if isinstance(voxels, int) else voxels.copy()
        if isinstance(table.index, pd.RangeIndex):
            table.index = pd.Index([f"voxel_{i}" for i in range(len(table))], dtype="str")
        table.index = table.index.astype("str").rename("voxel")
        for name in table.columns:
            if str(name).startswith("roi_"):
                table[name] = table[name].astype(bool)
        return cls("fmri", tuple(table.index), None, table, affine)

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        regions = f", rois={self.rois}" if self.rois else ""
        return f"Sensors({self.modality}, {len(self)} {self.unit_name}{regions})"

    @property
    def unit_name(self) -> str:
        """What one of them is called: ``voxels`` or ``channels``."""
        return "voxels" if self.modality == "fmri" else "channels"

    @property
    def sfreq(self) -> float | None:
        """Sampling rate in Hz, if `info` knows it."""
        return None if self.info is None else float(self.info["sfreq"])

    @property
    def rois(self) -> list[str]:
        """Names of the regions of interest."""
        if self.voxels is None:
            return []
        return [str(c).removeprefix("roi_") for c in self.voxels.columns if str(c)[:4] == "roi_"]

    def roi(self, names: str | Sequence[str]) -> NDArray[np.bool_]:
        """Mask of the voxels that lie in any of the regions.

        Raises
        ------
        DataError
            If a region is unknown.
        """
        wanted = [names] if isinstance(names, str) else list(names)
        for name in wanted:
            if name not in self.rois:
                raise DataError(
                    f"there is no region {name!r}",
                    found=", ".join(self.rois) or "no regions",
                    fix=did_you_mean(name, self.rois),
                )
        mask = np.zeros(len(self), dtype=bool)
        if self.voxels is not None:
            for name in wanted:
                mask |= self.voxels[f"roi_{name}"].to_numpy(dtype=bool)
        return mask

    def index(self, which: Any) -> NDArray[np.int64]:
        """Positions of channels given by name, position or mask, in the order given.

        Raises
        ------
        DataError
            If one is unknown.
        """
        if isinstance(which, str):
            which = [which]
        if isinstance(which, slice):
            return as_int_index(which, len(self), self.unit_name[:-1])
        items = list(which)
        if not (items and all(isinstance(item, str) for item in items)):
            return as_int_index(np.asarray(items), len(self), self.unit_name[:-1])
        where = {name: i for i, name in enumerate(self.names)}
        if unknown := [name for name in items if name not in where]:
            raise DataError(
                f"there are no {self.unit_name} named {listing(map(repr, unknown))}",
                found=listing(self.names, 10),
                fix=did_you_mean(unknown[0], self.names),
            )
        return as_int_index(np.array([where[name] for name in items]), len(self), "channel")

    def pick(self, which: Any) -> Sensors:
        """Some of the sensors, by name, position or mask.

        Examples
        --------
        >>> Sensors.eeg(["O1", "Oz", "O2"], sfreq=250).pick(["Oz", "O1"]).names
        ('Oz', 'O1')
        """
        rows = self.index(which)
        info = self.info
        if info is not None:
            import mne

            info = mne.pick_info(info, rows, copy=True, verbose=False)
        voxels = None if self.voxels is None else self.voxels.iloc[rows]
        return Sensors(self.modality, tuple(self.names[i] for i in rows), info, voxels, self.affine)

    def positions(self) -> NDArray[np.float64]:
        """Places of the sensors.

        Returns
        -------
        ndarray, shape (n, 3)
            In metres (head coordinates) for channels, in mm for voxels; NaN where unknown.
        """
        if self.voxels is not None:
            require_columns(self.voxels, ["x", "y", "z"], "the voxel table")
            return self.voxels[["x", "y", "z"]].to_numpy(dtype=np.float64)
        if self.info is None:
            return np.full((len(self), 3), np.nan)
        places = np.array([ch["loc"][:3] for ch in self.info["chs"]], dtype=np.float64)
        places[(places == 0).all(axis=1)] = np.nan  # MNE's older mark of an unknown place
        return places

    def same_as(self, other: Sensors) -> bool:
        """Whether both have the same modality and names in the same order."""
        return self.modality == other.modality and self.names == other.names


@functools.cache
def _montage() -> Any:
    import mne

    # MNE 1.13 renamed the montage and warns about the older name.
    names = mne.channels.get_builtin_montages()
    name = "colin27_1005" if "colin27_1005" in names else "standard_1005"
    return mne.channels.make_standard_montage(name)
