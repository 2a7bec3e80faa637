"""Views against slow references, names and errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from phosphene import _registry
from phosphene.errors import DataError, UnknownNameError
from phosphene.stimuli.views import (
    Fovea,
    Gaussian,
    Original,
    ViewInput,
    apply_views,
    expand_views,
    fovea_levels,
    gaussian_sigma,
    get_view,
)
from phosphene.stimuli.views import _base as module

GREY_LEVEL = 1 / 255


def images(height: int = 40, width: int = 40, n: int = 2) -> torch.Tensor:
    rng = np.random.default_rng(0)
    picture = rng.random((n, 3, height, width), dtype=np.float32)
    picture[0, :, : height // 2] = 0  # a hard edge shows a wrong kernel better than noise
    return torch.from_numpy(picture)


def reflect_101(index: int, n: int) -> int:
    while not 0 <= index < n:
        index = -index if index < 0 else 2 * (n - 1) - index
    return index


def convolve_directly(picture: np.ndarray, k: int) -> np.ndarray:
    """Two-dimensional Gaussian convolution of (H, W) by its definition."""
    sigma = 0.3 * ((k - 1) * 0.5 - 1) + 0.8
    half = k // 2
    axis = np.arange(-half, half + 1)
    kernel = np.exp(-(axis[:, None] ** 2 + axis[None, :] ** 2) / (2 * sigma**2))
    kernel /= kernel.sum()
    height, width = picture.shape
    rows = [reflect_101(i, height) for i in range(-half, height + half)]
    columns = [reflect_101(i, width) for i in range(-half, width + half)]
    padded = picture[np.ix_(rows, columns)].astype(np.float64)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (k, k))
    return np.einsum("yxij,ij->yx", windows, kernel)


@pytest.mark.parametrize(("height", "width", "k"), [(40, 40, 21), (30, 44, 15), (12, 40, 31)])
def test_gaussian_equals_direct_convolution(height: int, width: int, k: int) -> None:
    batch = images(height, width)
    blurred = Gaussian(k)(batch)
    for picture, found in zip(batch.reshape(-1, height, width), blurred.flatten(0, 1), strict=True):
        np.testing.assert_allclose(found, convolve_directly(picture.numpy(), k), atol=1e-5)


@pytest.mark.parametrize("k", [15, 45, 51, 57])
def test_gaussian_equals_opencv(k: int) -> None:
    cv2 = pytest.importorskip("cv2")
    batch = images(64, 80)
    blurred = Gaussian(k)(batch)
    for picture, found in zip(batch, blurred, strict=True):
        expected = cv2.GaussianBlur(picture.permute(1, 2, 0).numpy(), (k, k), 0)
        assert np.abs(found.permute(1, 2, 0).numpy() - expected).max() < 0.1 * GREY_LEVEL


def test_sigma_rule_gives_the_published_values() -> None:
    assert [round(gaussian_sigma(k), 1) for k in (45, 51, 57)] == [7.1, 8.0, 8.9]


def test_fovea_blends_by_distance_to_the_centre() -> None:
    height, width = 30, 41
    batch = images(height, width)
    found = Fovea(k=11, g=2.0, peak=0.8)(batch).numpy()
    cy, cx = (height - 1) / 2, (width - 1) / 2
    far = np.hypot(cy, cx)
    for picture, seen in zip(batch[0].numpy(), found[0], strict=True):
        blurred = convolve_directly(picture, 11)
        expected = np.empty_like(blurred)
        for y in range(height):
            for x in range(width):
                w = 0.8 * np.exp(-2.0 * np.hypot(y - cy, x - cx) / far)
                expected[y, x] = w * picture[y, x] + (1 - w) * blurred[y, x]
        assert np.abs(seen - expected).max() < 1e-5


def test_original_is_the_image_and_constant_images_stay() -> None:
    batch = images()
    assert torch.equal(Original()(batch), batch)
    flat = torch.full((1, 3, 24, 24), 0.3)
    for view in (Gaussian(15), Fovea(15)):
        torch.testing.assert_close(view(flat), flat)


def test_a_kernel_is_blurred_once_for_all_views(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels: list[int] = []
    blur = module.gaussian_blur

    def counted(pictures: torch.Tensor, k: int) -> torch.Tensor:
        kernels.append(k)
        return blur(pictures, k)

    monkeypatch.setattr(module, "gaussian_blur", counted)
    views = [Original(), Gaussian(9), Fovea(9), Fovea(9, peak=1.0), Fovea(11)]
    batch = images()
    seen = apply_views(batch, views)
    assert sorted(kernels) == [9, 11]
    assert list(seen) == [view.name for view in views]
    for view in views:
        assert torch.equal(seen[view.name], view(batch))


def test_names_are_canonical_and_read_back() -> None:
    for view in (Original(), Gaussian(9), Fovea(45), Fovea(9, 2.5, 0.25)):
        assert get_view(view.name) == view
    assert get_view(" fovea( k = 45 ,peak=.5)").name == "fovea(k=45,g=3,peak=0.5)"
    assert get_view("fovea").name == Fovea().name == "fovea(k=51,g=3,peak=0.5)"
    assert Fovea(g=3).name == Fovea(g=3.0).name
    assert get_view(Original()) == Original()


def test_expansion() -> None:
    assert [v.name for v in fovea_levels()] == [Fovea(k).name for k in (45, 51, 57)]
    names = [v.name for v in expand_views(["original", "fovea", "fovea(k=45)", "original"])]
    assert names == ["original", *(v.name for v in fovea_levels())]
    assert expand_views("gaussian(k=5)") == [Gaussian(5)]


@pytest.mark.parametrize(
    ("spec", "error", "says"),
    [
        ("fovia", UnknownNameError, "fovea"),
        ("fovea(kk=45)", UnknownNameError, "'k'"),
        ("original(k=3)", UnknownNameError, "no parameters"),
        ("fovea(k=44)", DataError, "odd"),
        ("fovea(k=4.5)", DataError, "integer"),
        ("fovea(peak=2)", DataError, "0 to 1"),
        ("fovea(g=-1)", DataError, "negative"),
        ("fovea(g=nan)", DataError, "fall-off"),
        ("fovea(k=45,3)", DataError, "parameter=value"),
        ("fovea(45,3,.5,1)", DataError, "parameter=value"),
        ("fovea(k=45,k=51)", DataError, "twice"),
        ("fovea(k=45", DataError, "form like"),
        ("gaussian(k=wide)", DataError, "integer"),
    ],
)
def test_bad_names_say_what_is_wrong(spec: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says.replace("(", r"\(")):
        get_view(spec)


def test_views_refuse_what_is_not_a_batch_of_images() -> None:
    for bad in (torch.rand(3, 8, 8), torch.zeros(1, 3, 8, 8, dtype=torch.uint8)):
        with pytest.raises(DataError, match="batch of float images"):
            ViewInput(bad)
    with pytest.raises(DataError, match="no view"):
        expand_views([])


def test_views_are_registered() -> None:
    assert {"original", "gaussian", "fovea"} <= set(_registry.names("view"))
    assert all(entry.summary for entry in _registry.entries("view"))
