"""``mne.Info`` as plain data: channels, places, filters; nothing about the person or the date."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import mne

_CHANNEL_FIELDS = ("coil_type", "unit", "unit_mul", "coord_frame")


def info_to_dict(info: mne.Info) -> dict[str, Any]:
    """Plain form of an ``mne.Info``.

    Kept are sampling rate, filter edges, channel names, types, places and units, bad channels,
    digitised points and the device's place. Subject, date and projections are left out.
    """
    montage = info.get_montage()
    positions = None if montage is None else montage.get_positions()
    if positions is not None:
        positions["ch_pos"] = {name: np.asarray(xyz) for name, xyz in positions["ch_pos"].items()}
    transform = info["dev_head_t"]
    return {
        "sfreq": float(info["sfreq"]),
        "highpass": float(info["highpass"]),
        "lowpass": float(info["lowpass"]),
        "line_freq": None if info["line_freq"] is None else float(info["line_freq"]),
        "bads": list(info["bads"]),
        "custom_ref_applied": int(info["custom_ref_applied"]),
        "types": info.get_channel_types(),
        "channels": [
            {
                "name": ch["ch_name"],
                "loc": [None if not np.isfinite(v) else float(v) for v in ch["loc"]],
                "cal": float(ch["cal"]),
                "range": float(ch["range"]),
                **{field: int(ch[field]) for field in _CHANNEL_FIELDS},
            }
            for ch in info["chs"]
        ],
        "montage": positions,
        "dev_head_t": None if transform is None else np.asarray(transform["trans"]).tolist(),
    }


def info_from_dict(plain: dict[str, Any]) -> mne.Info:
    """The ``mne.Info`` that `info_to_dict` described."""
    import mne

    names = [channel["name"] for channel in plain["channels"]]
    info = mne.create_info(names, plain["sfreq"], plain["types"], verbose=False)
    if plain["montage"] is not None:
        parts = {
            key: None if value is None else np.array(value, dtype=float)
            for key, value in plain["montage"].items()
            if key not in ("ch_pos", "coord_frame")
        }
        places = {name: np.array(xyz, float) for name, xyz in plain["montage"]["ch_pos"].items()}
        montage = mne.channels.make_dig_montage(
            ch_pos=places, coord_frame=plain["montage"]["coord_frame"], **parts
        )
        with warnings.catch_warnings():
            # Electrodes in a brain have no fiducials; their places are set below in any case.
            warnings.filterwarnings("ignore", "Fiducial point", RuntimeWarning)
            info.set_montage(montage, on_missing="ignore", verbose=False)
    with info._unlock():
        for channel, stated in zip(info["chs"], plain["channels"], strict=True):
            channel["loc"][:] = [np.nan if v is None else v for v in stated["loc"]]
            channel["cal"], channel["range"] = stated["cal"], stated["range"]
            for field in _CHANNEL_FIELDS:
                # MNE prints and compares its named integers; a plain one would print as a number.
                if int(channel[field]) != stated[field]:
                    channel[field] = stated[field]
        info["highpass"], info["lowpass"] = plain["highpass"], plain["lowpass"]
        info["line_freq"] = plain["line_freq"]
        info["custom_ref_applied"] = plain["custom_ref_applied"]
        if plain["dev_head_t"] is not None:
            matrix = np.array(plain["dev_head_t"], dtype=float)
            info["dev_head_t"] = mne.transforms.Transform("meg", "head", matrix)
    info["bads"] = list(plain["bads"])
    return info
