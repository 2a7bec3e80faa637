"""Channels, voxels and regions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from phosphene.data.sensors import Sensors
from phosphene.errors import DataError


@pytest.fixture
def voxels() -> Sensors:
    table = pd.DataFrame(
        {
            "x": [1.0, 2, 3],
            "y": 0.0,
            "z": [5.0, 5, 6],
            "roi_V1": [1, 0, 0],
            "roi_LOC": [0, 1, 0],
            "noise_ceiling": [0.1, 0.2, 0.3],
        }
    )
    return Sensors.fmri(table, affine=np.eye(4))


def test_eeg_channels_have_places() -> None:
    sensors = Sensors.eeg(["Oz", "fz"], 250)
    places = sensors.positions()
    assert sensors.sfreq == 250
    assert places[0, 1] < -0.05  # Oz lies behind, Fz in front
    assert places[1, 1] > 0.03
    with pytest.raises(DataError, match="'O77'"):
        Sensors.eeg(["Oz", "O77"], 250)


def test_one_place_twice_is_named() -> None:
    for make in (Sensors.eeg, Sensors.channels):
        with pytest.raises(DataError, match=r"whatever its capitals, occurs more than once: 'oz'"):
            make(["OZ", "Fz", "oz"], 100)


def test_channels_without_known_places() -> None:
    sensors = Sensors.channels(["Oz", "MISC9"], 100)
    assert sensors.info is not None
    assert np.isnan(sensors.positions()).all()
    assert Sensors.channels(["a", "b"]).info is None
    ecog = Sensors.channels(["g1", "g2"], 100, "ecog")
    assert ecog.info is not None
    assert ecog.info.get_channel_types() == ["ecog", "ecog"]


def test_voxels_and_regions(voxels: Sensors) -> None:
    assert voxels.rois == ["V1", "LOC"]
    assert voxels.roi(["V1", "LOC"]).tolist() == [True, True, False]
    np.testing.assert_array_equal(voxels.positions()[2], [3, 0, 6])
    picked = voxels.pick(["voxel_2", "voxel_0"])
    assert picked.names == ("voxel_2", "voxel_0")
    assert picked.voxels is not None
    assert picked.voxels["noise_ceiling"].tolist() == [0.3, 0.1]
    with pytest.raises(DataError, match=r"no region 'V2'[\s\S]*V1"):
        voxels.roi("V2")
    with pytest.raises(DataError, match="lacks the columns 'x', 'y', 'z'"):
        Sensors.fmri(2).positions()


def test_picking_by_name_position_and_mask() -> None:
    sensors = Sensors.eeg(["O1", "Oz", "O2"], 250)
    assert sensors.pick("Oz").names == ("Oz",)
    assert sensors.pick([2, 0]).names == ("O2", "O1")
    assert sensors.pick(np.array([True, False, True])).names == ("O1", "O2")
    assert sensors.pick(slice(1)).names == ("O1",)
    picked = sensors.pick(["O2", "O1"])
    assert picked.info is not None
    assert picked.info["ch_names"] == ["O2", "O1"]
    np.testing.assert_array_equal(picked.positions(), sensors.positions()[[2, 0]])
    with pytest.raises(DataError, match=r"named 'Ox'[\s\S]*found: O1, Oz, O2"):
        sensors.pick(["Ox"])


def test_parts_that_disagree() -> None:
    info = Sensors.eeg(["O1", "Oz"], 250).info
    with pytest.raises(DataError, match="differ from those of info"):
        Sensors("eeg", ("Oz", "O1"), info)
    with pytest.raises(DataError, match=r"channel name occurs more than once: 'Oz'"):
        Sensors("eeg", ("Oz", "Oz"))
    with pytest.raises(DataError, match="no modality 'egg'"):
        Sensors("egg", ("Oz",))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="affine"):
        Sensors("fmri", ("v",), affine=np.eye(3))


def test_repr(voxels: Sensors) -> None:
    assert repr(voxels) == "Sensors(fmri, 3 voxels, rois=['V1', 'LOC'])"
