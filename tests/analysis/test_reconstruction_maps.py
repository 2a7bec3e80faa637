"""Maps of decoded features: accuracy is where the signal is, and nowhere else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GroupKFold

from phosphene.analysis.patterns import pattern_strength
from phosphene.analysis.reconstruction_maps import reconstruction_maps, reconstruction_patterns
from phosphene.data.recording import Recording, Sensors
from phosphene.data.stimuli import StimulusSet
from phosphene.errors import DataError
from phosphene.methods.linear_reconstructor import LinearReconstructor
from phosphene.testing import tiny_images, tiny_problem, tiny_recording

QUIET: dict[str, Any] = {"progress": False}


def fmri() -> Recording:
    """Voxels of a region with the signal of the tiny problem, and of one with noise."""
    single = tiny_problem(snr=2.0).train
    signals = np.asarray(single.signals)[:, :, ::8].reshape(single.n_trials, -1).copy()
    noise = np.random.default_rng(0).standard_normal((single.n_trials, 110))
    signals[:, 60:] = noise
    voxels = pd.DataFrame({"roi_told": np.arange(170) < 60, "roi_noise": np.arange(170) >= 60})
    return Recording.from_arrays(
        signals, single.trials, sensors=Sensors.fmri(voxels), modality="fmri"
    )


@pytest.fixture(scope="module")
def pictures() -> StimulusSet:
    return tiny_images()


@pytest.fixture(scope="module")
def model(pictures: StimulusSet) -> LinearReconstructor:
    return LinearReconstructor(settings={"size": 4}).fit(fmri(), pictures, **QUIET)


def test_regions(model: LinearReconstructor, pictures: StimulusSet) -> None:
    table = reconstruction_maps(model, fmri(), pictures, **QUIET)
    found = table.set_index("place")
    assert found["features"].to_dict() == {"told": 60, "noise": 110}
    assert found.loc["told", "accuracy"] > 0.5
    assert abs(found.loc["noise", "accuracy"]) < 0.15
    assert (table["low"] <= table["high"]).all()
    assert (table["best"] >= table["high"]).all()


def test_accuracy_is_that_of_a_literal_cross_validation(
    model: LinearReconstructor, pictures: StimulusSet
) -> None:
    recording = fmri()
    table = reconstruction_maps(model, recording, pictures, units=10**6, **QUIET)
    average = recording.average()
    X = average.signals[:, :60].astype(float)
    ids, concepts = average.trials["stimulus"].tolist(), average.trials["concept"].to_numpy()
    Y = model.encode(pictures, ids)["latent"].reshape(len(ids), -1).astype(float)
    predicted = np.empty_like(Y)
    for train, test in GroupKFold(5).split(X, groups=concepts):
        x = (X - X[train].mean(axis=0)) / X[train].std(axis=0)
        fit = RidgeCV(model.alphas, alpha_per_target=True).fit(x[train], Y[train])
        predicted[test] = fit.predict(x[test]) - Y[train].mean(axis=0)
    r = [np.corrcoef(p, y)[0, 1] for p, y in zip(predicted.T, Y.T, strict=True)]
    told = table[table["place"] == "told"].iloc[0]
    assert told["units"] == 48
    assert told["accuracy"] == pytest.approx(np.mean(r), abs=2e-3)
    assert told["best"] == pytest.approx(np.max(r), abs=2e-3)


def test_windows_of_time_and_channels(pictures: StimulusSet) -> None:
    single = tiny_recording(snr=2.0).select(split="train")
    signals = np.asarray(single.signals).copy()
    noise = np.random.default_rng(1).standard_normal(signals.shape)
    signals[:, :, :40] = noise[:, :, :40]  # nothing in the first .4 s
    signals[:, 5] = noise[:, 5]  # and nothing at one channel
    late = single.with_signals(signals)
    model = LinearReconstructor(settings={"size": 4}).fit(late, pictures, **QUIET)
    table = reconstruction_maps(model, late, pictures, window=0.2, step=0.2, **QUIET)
    assert table["place"].tolist() == [0.0, 0.2, 0.4, 0.6]
    assert (table["features"] == 17 * 20).all()
    accuracy = table["accuracy"].to_numpy()
    assert np.abs(accuracy[:2]).max() < 0.15
    assert accuracy[2:].min() > 0.5
    channels = reconstruction_maps(model, late, pictures, by="channel", **QUIET)
    assert channels["place"].tolist() == late.channel_names
    worst = channels.set_index("place")["accuracy"]
    assert worst.idxmin() == late.channel_names[5]
    assert worst.drop(late.channel_names[5]).min() > 0.3


def test_patterns_are_where_the_signal_is(model: LinearReconstructor) -> None:
    recording = fmri()
    found = reconstruction_patterns(model, recording)["latent"]
    assert found.shape == (170,)
    assert found[:60].mean() > 2 * found[60:].mean()
    outputs = model.decode(recording)["latent"].reshape(recording.n_trials, -1)
    expected = pattern_strength(recording.signals, outputs, 10)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_what_cannot_be_is_refused(model: LinearReconstructor, pictures: StimulusSet) -> None:
    recording = fmri()
    for by, said in (("time", "time axis"), ("weekday", "roi, channel or time")):
        with pytest.raises(DataError, match=said):
            reconstruction_maps(model, recording, pictures, by=by, **QUIET)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="too few stimuli"):
        reconstruction_maps(model, recording, pictures, folds=200, **QUIET)
    with pytest.raises(DataError, match="too few trials"):
        reconstruction_patterns(model, recording.select(list(range(50))))
