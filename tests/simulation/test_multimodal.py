"""One scene, many people, three modalities."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from phosphene.errors import DataError
from phosphene.methods.ridge import Ridge
from phosphene.simulation.multimodal import MultimodalStudy, simulate_multimodal
from phosphene.simulation.scene import Scene
from phosphene.simulation.world import World, get_world, in_modality

SMALL = {
    "driver_layer": "driver", "target_layer": "target", "early_uv": 0.0, "meaning_uv": 0.0,
    "object_dims": 12, "train_concepts": 100, "train_exemplars": 2, "test_concepts": 30,
    "voxels_per_roi": 15, "sfreq": 50.0, "n_times": 30, "test_repetitions": 30,
}  # fmt: skip


def quick(**overrides: float) -> World:
    return get_world("multimodal-quick", **{**SMALL, **overrides})


@pytest.fixture(scope="module")
def study(scene_of: Callable[[World], Scene]) -> MultimodalStudy:
    return simulate_multimodal(quick(), scene=scene_of(quick()), averaged=True)


def test_twelve_people_see_the_same_pictures(study: MultimodalStudy) -> None:
    assert study.modalities == ("fmri", "meg", "ecog")
    recordings = {m: study.recordings(m) for m in study.modalities}
    assert {m: len(found) for m, found in recordings.items()} == {"fmri": 5, "meg": 3, "ecog": 4}
    shown = {
        tuple(one.trials["stimulus"]) for found in recordings.values() for one in found.values()
    }
    assert len(shown) == 1
    assert all(one.modality == m for m, found in recordings.items() for one in found.values())
    assert recordings["fmri"]["fmri-05"].sensors.rois[0] == "V1"
    train, test = study.concepts("train"), study.concepts("test")
    assert (len(train), len(test)) == (100, 30)
    assert not set(train) & set(test)
    tested = study.recordings("meg", "test")["meg-02"]
    assert sorted(set(tested.trials["concept"])) == test


def test_unknown_modalities_and_idle_overrides_are_refused(study: MultimodalStudy) -> None:
    with pytest.raises(DataError, match="fmri, meg, ecog"):
        study.recordings("eeg")
    with pytest.raises(DataError, match="meg"):
        simulate_multimodal(
            quick(), subjects={"fmri": 1}, scene=study.scene, overrides={"meg": {"noise": 1.0}}
        )
    with pytest.raises(DataError, match="subject"):
        simulate_multimodal(quick(), subjects={"fmri": 0}, scene=study.scene)


def test_overrides_reach_their_modality_only(study: MultimodalStudy) -> None:
    other = simulate_multimodal(
        quick(), subjects={"meg": 1, "ecog": 1}, scene=study.scene, averaged=True,
        overrides={"ecog": {"noise": 0.25}},
    )  # fmt: skip
    ours = other.recordings("meg")["meg-01"].signals
    np.testing.assert_array_equal(ours, study.recordings("meg")["meg-01"].signals)
    quieter = other.recordings("ecog")["ecog-01"].signals.std()
    assert quieter < study.recordings("ecog")["ecog-01"].signals.std()


def mean_top1(study: MultimodalStudy) -> dict[str, float]:
    found = {}
    for modality in study.modalities:
        one = study.studies[modality]
        tops = [
            Ridge(views=("original",))
            .fit(one.train(subject), one.bank)
            .evaluate(one.test(subject), one.bank)
            .top1
            for subject in one.subjects
        ]
        found[modality] = float(np.mean(tops))
    return found


def test_each_modality_can_be_decoded_and_none_without_signal(study: MultimodalStudy) -> None:
    found = mean_top1(study)
    assert min(found.values()) > 4 / 30, found
    silent = simulate_multimodal(quick(signal=0.0), scene=study.scene, averaged=True)
    # 90 to 150 queries at 1 of 30: three standard errors above chance are at most .09.
    none = mean_top1(silent)
    assert max(none.values()) < 0.09, none


def test_worlds_of_a_modality_keep_the_scene_and_take_its_scale() -> None:
    world = quick()
    ecog = in_modality(world, "ecog")
    assert (ecog.noise, ecog.sfreq) == (get_world("standard-ecog").noise, 100.0)
    volts = in_modality(get_world(world, ecog_signal="voltage"), "ecog")
    assert volts.sfreq == get_world("standard-ecog-voltage").sfreq
    assert in_modality(ecog, "fmri").jitter == 0.0
    assert in_modality(world, "meg") is world
    for one in (ecog, volts, in_modality(world, "fmri")):
        for field in ("train_concepts", "test_concepts", "picture_seed", "seen", "driver_layer"):
            assert getattr(one, field) == getattr(world, field)
    with pytest.raises(DataError, match="meg, ecog"):
        in_modality(world, "nirs")  # type: ignore[arg-type]


def test_parameters_of_one_modality_leave_the_others_hashes_alone() -> None:
    standard, ecog = get_world("standard"), get_world("standard-ecog")
    assert get_world(standard, meg_noise=5.0).hash == standard.hash
    assert get_world(ecog, meg_noise=5.0).hash == ecog.hash
    for name, value in {"ecog_reach": 4.0, "ecog_log_power": 2.0, "ecog_signal": "voltage"}.items():
        assert get_world(ecog, **{name: value}).hash != ecog.hash
    with pytest.raises(DataError, match="ecog_signal"):
        get_world(ecog, ecog_signal="volts")
    with pytest.raises(DataError, match="ecog_reach"):
        get_world(ecog, ecog_reach=0.0)
