"""Metrics of pictures that need no network: pixel correlation and structural similarity."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy.ndimage import correlate1d

from phosphene.errors import DataError
from phosphene.evaluation._pictures import Pictures, as_pictures, grey, in_batches

Scores = npt.NDArray[np.float64]
SIZE = 425
SIGMA = 1.5
# The Gaussian window ends at 3.5 sigma, which makes it 11 pixels wide.
RADIUS = int(3.5 * SIGMA + 0.5)
K1, K2 = 0.01, 0.03
_BATCH = 4  # pictures whose planes stay in a CPU's cache


def pixcorr(
    reconstructions: npt.ArrayLike, truths: npt.ArrayLike, *, size: int | None = SIZE
) -> Scores:
    """Pearson correlation over the pixels and colours of each pair of pictures.

    Parameters
    ----------
    reconstructions, truths : array, shape (pictures, H, W, 3)
        uint8, or floating in [0, 1]; the two may differ in size.
    size : int, optional
        Side that both are resized to, in pixels; None takes them as they are.

    Returns
    -------
    ndarray, shape (pictures,)
        Between -1 and 1; 0 where a picture has one colour only and no correlation exists.

    Examples
    --------
    >>> stripes = np.zeros((1, 8, 8, 3)); stripes[:, ::2] = 1
    >>> pixcorr(stripes, 1 - stripes, size=None)
    array([-1.])
    """
    parts = [
        correlation(x.reshape(len(x), -1), y.reshape(len(y), -1))
        for x, y in _pairs(reconstructions, truths, size)
    ]
    return np.concatenate(parts)


def ssim(
    reconstructions: npt.ArrayLike, truths: npt.ArrayLike, *, size: int | None = SIZE
) -> Scores:
    r"""Structural similarity of each pair of pictures in grey (Wang et al. 2004).

    With means, variances and covariance under a Gaussian window (sigma 1.5 pixels, cut at 11 x 11;
    population moments), range 1, :math:`c_1 = .01^2` and :math:`c_2 = .03^2`,

    .. math:: \frac{(2 \mu_x \mu_y + c_1)(2 \sigma_{xy} + c_2)}
                   {(\mu_x^2 + \mu_y^2 + c_1)(\sigma_x^2 + \sigma_y^2 + c_2)}

    averaged over all windows that lie inside the picture.

    Parameters
    ----------
    reconstructions, truths : array, shape (pictures, H, W, 3)
        uint8, or floating in [0, 1]; the two may differ in size.
    size : int, optional
        Side that both are resized to, in pixels; None takes them as they are.

    Returns
    -------
    ndarray, shape (pictures,)
        At most 1, which only equal pictures reach.

    Raises
    ------
    DataError
        If a picture is smaller than the window.

    Examples
    --------
    >>> picture = np.linspace(0, 1, 16 * 16 * 3).reshape(1, 16, 16, 3)
    >>> ssim(picture, picture, size=None)
    array([1.])
    """
    parts = []
    for x, y in _pairs(reconstructions, truths, size):
        if min(x.shape[1:3]) < 2 * RADIUS + 1:
            raise DataError(
                "SSIM needs pictures as large as its window",
                found=f"{x.shape[1]} x {x.shape[2]} pixels",
                expected=f"{2 * RADIUS + 1} x {2 * RADIUS + 1} or more",
            )
        parts.append(_ssim_of_grey(grey(x), grey(y)))
    return np.concatenate(parts)


def correlation(first: npt.ArrayLike, second: npt.ArrayLike) -> Scores:
    """Pearson correlation of every row with the same row of another table; 0 if one is constant."""
    x, y = (unit_deviations(values) for values in (first, second))
    return np.asarray(np.clip(np.einsum("nd,nd->n", x, y), -1.0, 1.0))


def unit_deviations(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Rows less their mean, scaled to length one; a constant row becomes zero."""
    wide = np.asarray(values, dtype=np.float64)
    centred = wide - wide.mean(axis=1, keepdims=True)
    length = np.sqrt(np.einsum("nd,nd->n", centred, centred))
    # The mean of equal numbers is off by rounding, which is no deviation.
    flat = length <= 1e-7 * np.sqrt(wide.shape[1]) * np.abs(wide).max(axis=1, initial=0.0)
    return np.where(flat[:, None], 0.0, centred / np.where(flat, 1.0, length)[:, None])


def _ssim_of_grey(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> Scores:
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    var_x = _window_mean(x * x) - mean_x**2
    var_y = _window_mean(y * y) - mean_y**2
    covariance = _window_mean(x * y) - mean_x * mean_y
    c1, c2 = K1**2, K2**2
    above = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    below = (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    return np.asarray((above / below).mean(axis=(1, 2)))


def _window_mean(planes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Means under the Gaussian window, where the whole of it lies inside the picture."""
    steps = np.arange(-RADIUS, RADIUS + 1)
    window = np.exp(-0.5 * (steps / SIGMA) ** 2)
    window /= window.sum()
    for axis in (1, 2):
        planes = correlate1d(planes, window, axis=axis)
    return planes[:, RADIUS:-RADIUS, RADIUS:-RADIUS]


def _pairs(
    reconstructions: npt.ArrayLike, truths: npt.ArrayLike, size: int | None
) -> Iterator[tuple[Pictures, Pictures]]:
    """Batches of both, as they are shown and of one size."""
    made, real = as_pictures(reconstructions, "reconstructions"), as_pictures(truths, "truths")
    if len(made) != len(real):
        raise DataError("reconstructions and truths differ in number", found=len(made),
                        expected=len(real))  # fmt: skip
    if size is None and made.shape != real.shape:
        raise DataError("reconstructions and truths differ in size", found=made.shape[1:3],
                        expected=real.shape[1:3], fix="say a size to bring both to")  # fmt: skip
    return zip(in_batches(made, _BATCH, size), in_batches(real, _BATCH, size), strict=True)
