"""Metrics of reconstructions against hand-worked values, literal loops and scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage import data, transform
from skimage.color import rgb2gray
from skimage.metrics import structural_similarity

from phosphene.data.stimuli import StimulusSet
from phosphene.errors import DataError, UnknownNameError
from phosphene.evaluation._pictures import grey, resized, shown
from phosphene.evaluation.image_metrics import (
    METRICS,
    Network,
    correlation_distance,
    image_metrics,
    image_scores,
    offline_networks,
    pixcorr,
    ssim,
    two_way,
)
from phosphene.evaluation.memorisation import nearest_training_pictures
from phosphene.evaluation.published_images import published_reconstructions
from phosphene.evaluation.statistics import bootstrap_interval

# Stored: scikit-image 0.26, the settings of `reference`, photographs brought to 425 pixels.
STORED_SSIM = {"same": 1.0, "noise": 0.130632, "blur": 0.689509, "other": 0.267833}
STORED_PIXCORR = {"same": 1.0, "noise": 0.632479, "blur": 0.931653, "other": 0.298542}


def reference(x: np.ndarray, y: np.ndarray) -> float:
    """SSIM as MindEye2 asks scikit-image for it."""
    return float(
        structural_similarity(
            rgb2gray(x), rgb2gray(y), gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False, data_range=1.0,
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def photographs() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Pairs of photographs, float64, (425, 425, 3), on 256 levels."""
    cat = transform.resize(data.chelsea(), (425, 425), anti_aliasing=True)
    cup = transform.resize(data.coffee(), (425, 425), anti_aliasing=True)
    noise = np.random.default_rng(0).normal(0, 0.2, cat.shape)
    kernel = np.ones(15) / 15
    blur = cat
    for axis in (0, 1):
        blur = np.apply_along_axis(lambda v: np.convolve(v, kernel, "same"), axis, blur)
    pairs = {"same": (cat, cat), "noise": (cat + noise, cat), "blur": (blur, cat),
             "other": (cup, cat)}  # fmt: skip
    return {
        name: tuple(np.rint(np.clip(v, 0, 1) * 255) / 255 for v in pair)
        for name, pair in pairs.items()
    }


def test_ssim_equals_scikit_image_and_stored_values(photographs) -> None:
    for name, (x, y) in photographs.items():
        ours = ssim(x[None], y[None])[0]
        assert ours == pytest.approx(reference(x, y), abs=1e-6), name
        assert ours == pytest.approx(STORED_SSIM[name], abs=1e-5), name
        assert pixcorr(x[None], y[None])[0] == pytest.approx(STORED_PIXCORR[name], abs=1e-5), name
        assert pixcorr(x[None], y[None])[0] == pytest.approx(
            np.corrcoef(x.ravel(), y.ravel())[0, 1], abs=1e-6
        )


def test_ssim_by_hand_on_flat_pictures() -> None:
    """Of two flat pictures a and b only the luminance is left: (2ab + c1) / (a^2 + b^2 + c1)."""
    a, b = np.full((1, 20, 20, 3), 0.2), np.full((1, 20, 20, 3), 0.6)
    assert ssim(a, b, size=None)[0] == pytest.approx((0.24 + 1e-4) / (0.4 + 1e-4), abs=1e-6)
    assert pixcorr(a, b, size=None)[0] == 0.0


def test_batches_change_nothing_and_sizes_may_differ() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.random((35, 24, 24, 3)), rng.random((35, 30, 40, 3))
    for measure in (ssim, pixcorr):
        single = [measure(x[i : i + 1], y[i : i + 1], size=32)[0] for i in range(35)]
        np.testing.assert_allclose(measure(x, y, size=32), single, atol=1e-9)
    with pytest.raises(DataError, match="differ in size"):
        ssim(x, y, size=None)
    with pytest.raises(DataError, match="window"):
        ssim(x[:, :10], x[:, :10], size=None)


def test_resizing_is_pillows_bilinear_filter() -> None:
    from PIL import Image

    picture = data.chelsea()[:200, :260]
    for size in (64, 425):
        ours = resized(shown(picture[None]), size)[0]
        theirs = [
            Image.fromarray(np.ascontiguousarray(picture[..., c]).astype(np.float32)).resize(
                (size, size), Image.Resampling.BILINEAR
            )
            for c in range(3)
        ]
        np.testing.assert_allclose(255 * ours, np.stack(theirs, axis=-1), atol=2e-2)
    np.testing.assert_allclose(grey(shown(picture[None]))[0], rgb2gray(picture), atol=1e-6)


# ------------------------------------------------------------------------------- identification
def test_two_way_by_hand() -> None:
    """Three reconstructions of three features; all nine correlations by hand.

    Truths A = (1, 0, 0), B = (0, 1, 0), C = (0, 0, 1) less their means are (2, -1, -1) / 3 and so
    on. Reconstruction 1 = (3, 1, 2): r with A, B, C is sqrt(3)/2, -sqrt(3)/2, 0: right of both.
    2 = (3, 2, 1): sqrt(3)/2, 0, -sqrt(3)/2, truth B: right of C only. 3 = (2, 2, 5): C wins over
    both. 3' = (2, 5, 2): -1/2, 1, -1/2, truth C: behind B, level with A.
    """
    real = np.eye(3)
    made = np.array([[3.0, 1, 2], [3, 2, 1], [2, 2, 5]])
    np.testing.assert_allclose(two_way(made, real), [1, 0.5, 1])
    made[2] = [2, 5, 2]
    np.testing.assert_allclose(two_way(made, real), [1, 0.5, 0.25])
    np.testing.assert_allclose(two_way(made, real, ties="strict"), [1, 0.5, 0])
    np.testing.assert_allclose(
        correlation_distance(made, real), [1 - 3**0.5 / 2, 1, 1.5], atol=1e-12
    )


def literal(made: np.ndarray, real: np.ndarray, tie: float) -> float:
    """Mean over all ordered pairs, as EVALUATION says it."""
    total, n = 0.0, len(real)
    for i in range(n):
        for j in range(n):
            if i != j:
                wrong = np.corrcoef(made[j], real[i])[0, 1]
                right = np.corrcoef(made[j], real[j])[0, 1]
                total += tie if abs(wrong - right) < 1e-10 else float(wrong < right)
    return total / (n * (n - 1))


def test_two_way_equals_a_literal_loop(monkeypatch) -> None:
    rng = np.random.default_rng(2)
    real = rng.normal(size=(13, 40))
    made = real + 2.5 * rng.normal(size=real.shape)
    real[5] = real[3]  # the same picture twice: a tie
    for blocks in (1 << 24, 200):
        monkeypatch.setattr("phosphene.evaluation.image_metrics._CHUNK", blocks)
        for ties, tie in (("half", 0.5), ("strict", 0.0)):
            expected = literal(made, real, tie)
            assert two_way(made, real, ties=ties).mean() == pytest.approx(expected, abs=1e-12)
    assert literal(made, real, 0.5) != literal(made, real, 0.0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_signal_is_a_half_by_ties_and_nothing_strictly(dtype) -> None:
    rng = np.random.default_rng(3)
    real = rng.normal(size=(9, 50)).astype(dtype)
    flat = np.full_like(real, 0.3)
    assert two_way(flat, real).tolist() == [0.5] * 9
    assert two_way(flat, real, ties="strict").tolist() == [0.0] * 9
    assert two_way(real, flat).tolist() == [0.5] * 9
    same = np.repeat(real[:1] * 2 + 1, 9, axis=0)  # one picture for all queries
    assert two_way(same, real).mean() == 0.5
    assert correlation_distance(flat, real).tolist() == [1.0] * 9


def test_noise_gives_chance_and_intervals_hold_it() -> None:
    covered, means = 0, []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        values = two_way(rng.normal(size=(30, 20)), rng.normal(size=(30, 20)))
        means.append(values.mean())
    assert np.mean(means) == pytest.approx(0.5, abs=0.03)
    for seed in range(100):
        rng = np.random.default_rng(100 + seed)
        values = two_way(rng.normal(size=(30, 20)), rng.normal(size=(30, 20)))
        low, high = bootstrap_interval(values, n=400, bounds=(0.0, 1.0))
        covered += low <= 0.5 <= high
    # The pictures that a truth is told from are given, so that fewer intervals than 95 hold it.
    assert 80 <= covered <= 99


def test_wrong_features_are_refused() -> None:
    good = np.eye(4)
    with pytest.raises(DataError, match="disagree"):
        two_way(good, good[:3])
    with pytest.raises(DataError, match="pictures 2"):
        two_way(np.where(np.arange(4)[:, None] == 2, np.nan, good), good)
    with pytest.raises(DataError, match="ties"):
        two_way(good, good, ties="none")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="two pictures"):
        two_way(good[:1], good[:1])


# ------------------------------------------------------------------------------------ the table
def coloured(n: int, size: int = 16, seed: int = 0) -> np.ndarray:
    """Pictures of one colour each with a little texture."""
    rng = np.random.default_rng(seed)
    return np.clip(rng.random((n, 1, 1, 3)) + rng.normal(0, 0.05, (n, size, size, 3)), 0, 1).astype(
        np.float32
    )


def test_the_table_says_what_was_computed_with_what() -> None:
    truths = coloured(12)
    rng = np.random.default_rng(1)
    made = np.clip(truths + rng.normal(0, 0.1, truths.shape), 0, 1)
    networks = {
        "colour": Network.from_callable(lambda x: x.mean((2, 3)), id="colour v1", image_size=8),
        "colour distance": Network.from_callable(
            lambda x: x.mean((2, 3)), id="colour v1", image_size=8, measure="distance"
        ),
    }
    scores = image_scores(made, truths, networks, ids=[f"q{i}" for i in range(12)],
                          test_set="NSD, 982 images", progress=False)  # fmt: skip
    table = scores.table.set_index("metric")
    assert list(table.index) == ["PixCorr", "SSIM", "colour", "colour distance"]
    assert table["better"].tolist() == ["higher", "higher", "higher", "lower"]
    assert table.loc["colour", ["network", "weights", "image_size", "ties", "n_images",
                                "test_set", "version"]].tolist() == [
        "colour v1", "declared:colour v1", 8, "half", 12, "NSD, 982 images", 1]  # fmt: skip
    assert table["low"].le(table["value"]).all()
    assert table["value"].le(table["high"]).all()
    np.testing.assert_allclose(table["value"], scores.per_image.mean())
    assert table.loc["colour", "value"] > 0.9
    assert table.loc["colour distance", "value"] < 0.1
    ranked = scores.order("PixCorr")
    assert scores.per_image.loc[ranked, "PixCorr"].is_monotonic_decreasing
    ranked = scores.order("colour distance")
    assert scores.per_image.loc[ranked, "colour distance"].is_monotonic_increasing


def test_the_interval_is_a_bootstrap_over_pictures() -> None:
    """Against resamples drawn one by one, of another generator."""
    truths = coloured(25, seed=4)
    made = np.random.default_rng(5).permutation(truths, axis=0) * 0.5 + truths * 0.5
    network = {"colour": Network.from_callable(lambda x: x.mean((2, 3)), id="c", image_size=8)}
    scores = image_scores(made, truths, network, n_resamples=4000, progress=False)
    rng = np.random.default_rng(6)
    for row in scores.table.itertuples():
        values = scores.per_image[row.metric].to_numpy()
        means = [rng.choice(values, len(values)).mean() for _ in range(4000)]
        spread = np.std(means)
        np.testing.assert_allclose((row.low, row.high), np.quantile(means, [0.025, 0.975]),
                                   atol=0.15 * spread)  # fmt: skip


def test_samples_are_averaged_never_the_best_of_them() -> None:
    truths = coloured(6)
    bad = truths[::-1]
    network = {"colour": Network.from_callable(lambda x: x.mean((2, 3)), id="c", image_size=8)}
    both = image_scores(np.stack([truths, bad], axis=1), truths, network, progress=False)
    one, other = (image_scores(x, truths, network, progress=False) for x in (truths, bad))
    np.testing.assert_allclose(both.per_image, (one.per_image + other.per_image) / 2)
    assert both.table["n_samples"].tolist() == [2, 2, 2]


def test_scores_are_those_of_the_saved_picture() -> None:
    truths = coloured(4)
    saved = np.rint(255 * truths).astype(np.uint8)
    for metric in (pixcorr, ssim):
        assert metric(truths, truths[::-1]).tolist() == metric(saved, saved[::-1]).tolist()


def test_unfit_pictures_are_refused() -> None:
    good = coloured(3)
    for bad, words in (
        (good[:2], "number"),
        (good * 255, r"outside \[0, 1\]"),
        (np.where(good > 2, good, np.nan), "NaN"),
        (good[..., 0], "RGB"),
        ((good * 255).astype(int), "neither uint8"),
    ):
        with pytest.raises(DataError, match=words):
            image_metrics(bad, good, progress=False)
    with pytest.raises(DataError, match="ids"):
        image_scores(good, good, ids=["a"], progress=False)
    network = Network.from_callable(lambda x: x, id="p", image_size=8)
    with pytest.raises(DataError, match="SSIM"):
        image_scores(good, good, {"SSIM": network}, progress=False)


# ------------------------------------------------------------------------------------- networks
def test_the_metrics_of_the_literature() -> None:
    assert list(METRICS) == ["PixCorr", "SSIM", "AlexNet(2)", "AlexNet(5)", "Inception", "CLIP",
                             "EffNet-B", "SwAV"]  # fmt: skip
    assert [m.size for m in METRICS.values()] == [425, 425, 256, 256, 342, 224, 255, 224]
    assert [m.better for m in METRICS.values()] == ["higher"] * 6 + ["lower"] * 2
    assert METRICS["AlexNet(2)"].layer == "features.4"
    assert METRICS["AlexNet(5)"].layer == "features.11"


def test_a_metric_gets_standardised_pictures_of_its_size() -> None:
    seen = []

    class Layer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x)
            return self.scale * x[:, :, ::64, ::64]

    network = Network.for_metric("AlexNet(2)", Layer())
    features = network.features(np.full((2, 10, 20, 3), 0.5))
    assert seen[0].shape == (2, 3, 256, 256)
    colours = (0.5 - np.array([0.485, 0.456, 0.406])) / [0.229, 0.224, 0.225]
    # 0.5 is not one of 256 levels
    np.testing.assert_allclose(seen[0][0, :, 0, 0], colours, atol=0.01)
    assert features.shape == (2, 48)
    assert network.weights
    assert "declared" not in network.weights
    assert network.measure == "two_way"
    assert Network.for_metric("SwAV", Layer()).measure == "distance"
    with pytest.raises(UnknownNameError, match=r"AlexNet\(2\)"):
        Network.for_metric("AlexNet2", Layer())
    with pytest.raises(UnknownNameError):
        Network.for_metric("SSIM", Layer())


def test_layers_of_one_encoder_share_its_passes() -> None:
    from phosphene.stimuli.encoders import CallableEncoder

    calls = []

    def network(x: torch.Tensor) -> dict[str, torch.Tensor]:
        calls.append(len(x))
        return {"low": x.flatten(1), "high": x.mean((2, 3))}

    encoder = CallableEncoder(network, id="two layers", image_size=8, layers=("low", "high"))
    networks = {
        "low": Network.from_encoder(encoder, "low"),
        "high": Network.from_encoder(encoder),
        "distance": Network.from_encoder(encoder, "high", "distance"),
    }
    truths = coloured(5)
    table = image_metrics(truths, truths, networks, progress=False).set_index("metric")
    assert calls == [5, 5]
    assert table.loc["low", "layer"] == "low"
    assert table.loc["high", "layer"] == "high"
    assert table.loc["distance", "value"] == pytest.approx(0, abs=1e-9)
    with pytest.raises(UnknownNameError):
        Network.from_encoder(encoder, "middle")
    with pytest.raises(DataError, match="measure"):
        Network.from_encoder(encoder, "low", "ssim")


def test_efficientnet_tells_photographs_apart(photographs) -> None:
    truths = np.stack([data.chelsea()[:300, :300], data.coffee()[:300, :300],
                       data.astronaut()[:300, :300]])  # fmt: skip
    noise = np.random.default_rng(0).normal(0, 12, truths.shape)
    made = np.clip(truths + noise, 0, 255).astype(np.uint8)
    networks = offline_networks()
    scores = image_scores(made, truths, networks, progress=False)
    table = scores.table.set_index("metric")
    assert table["measure"].tolist() == ["pixcorr", "ssim"] + ["two_way"] * 3 + ["distance"]
    assert (
        table.loc[["efficientnet-lite0 pool", "efficientnet-lite0 block9 map"], "value"] == 1
    ).all()
    swapped = image_scores(made[[1, 2, 0]], truths, networks, progress=False).table
    worse = swapped.set_index("metric")["value"]
    assert worse["efficientnet-lite0 pool"] < 0.5
    name = "efficientnet-lite0 pool distance"
    assert table.loc[name, "value"] < worse[name] - 0.2
    assert len(set(table["weights"][2:])) == 1


def test_maps_know_what_lies_where_and_average_to_the_layers() -> None:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    for layer, side in (("block4", 28), ("pool", 7)):
        maps = Network.from_encoder("efficientnet-lite0", f"{layer}:map").features(pictures)
        plain = Network.from_encoder("efficientnet-lite0", layer).features(pictures)
        assert maps.shape == (2, plain.shape[1] * side**2)
        np.testing.assert_allclose(maps.reshape(2, -1, side**2).mean(2), plain, atol=1e-4)
    with pytest.raises(UnknownNameError):
        Network.from_encoder("efficientnet-lite0", "block99:map")


# ---------------------------------------------------------------------------------- memorisation
def test_copies_of_training_pictures_are_found() -> None:
    known, truths = coloured(20, seed=1), coloured(5, size=20, seed=2)
    ids = [f"t{i}" for i in range(20)]
    stimuli = StimulusSet.from_arrays(ids, np.rint(255 * known).astype(np.uint8))
    network = Network.from_callable(lambda x: x.flatten(1), id="pixels", image_size=16)
    copies = known[[3, 7, 3, 11, 19]]
    found = nearest_training_pictures(copies, truths, stimuli, network, batch=6)
    assert found.table["nearest"].tolist() == ["t3", "t7", "t3", "t11", "t19"]
    np.testing.assert_allclose(found.table["similarity"], 1, atol=1e-6)
    assert (found.share, found.high) == (1.0, 1.0)
    assert found.low < 1
    assert (found.n_training, found.chance) == (20, 20 / 21)
    own = nearest_training_pictures(truths, truths, stimuli, network)
    assert own.share == 0.0
    np.testing.assert_allclose(own.table["similarity"], own.table["truth_nearest"])
    np.testing.assert_allclose(found.table["truth_nearest"], own.table["truth_nearest"])
    assert (found.table["truth_nearest"] < 0.99).all()
    some = nearest_training_pictures(copies, truths, stimuli, network, training_ids=ids[:5])
    assert set(some.table["nearest"]) <= set(ids[:5])
    with pytest.raises(DataError, match="t3"):
        nearest_training_pictures(copies, truths, stimuli, network, ids=["t3", *"abcd"])
    with pytest.raises(DataError, match="no training picture"):
        nearest_training_pictures(copies, truths, stimuli, network, training_ids=[])


# ------------------------------------------------------------------------------------- published
def test_published_scores() -> None:
    table = published_reconstructions()
    assert set(table["metric"]) == set(METRICS)
    assert table.groupby("method").size().to_dict() == {"mindeye2": 8, "takagi": 8, "atms": 7}
    wide = table.pivot(index="method", columns="metric", values="value")
    assert wide.loc["mindeye2", list(METRICS)].tolist() == [
        0.322, 0.431, 0.961, 0.986, 0.954, 0.930, 0.619, 0.344]  # fmt: skip
    assert wide.loc["takagi", list(METRICS)].tolist() == [
        0.246, 0.410, 0.789, 0.856, 0.838, 0.821, 0.811, 0.504]  # fmt: skip
    assert wide.loc["atms", list(METRICS)].dropna().tolist() == [
        0.160, 0.345, 0.776, 0.866, 0.734, 0.786, 0.582]  # fmt: skip
    with pytest.raises(UnknownNameError, match="mindeye2"):
        published_reconstructions("mindeye")
