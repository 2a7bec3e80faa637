"""A world of vectors and brains in closed form, in which it is known what alignment can gain.

    s ~ N(0, I_20)   what the brain responds to         A (20 x 512), N (60 x 512) ~ N(0, .35^2)
    u ~ N(0, I_60)   what only the vectors hold         m (512) ~ N(0, .6^2)

    vectors            y   = m + .5 s A + nuisance * u N
    brain of person k  x_k = s B_k + e_k,               B_k (20 x 300) ~ N(0, 1)

The noise e_k has the standard deviation sd(s B_k) / snr, half of that for test responses. Most of
the variance of the vectors is nuisance that no brain responds to, so that vectors brought nearer
to the brain's similarity structure are easier to decode.

The vectors have no noise of their own and lie in 80 of 512 dimensions. A map that may be
unconstrained within these 80, fitted on 150 categories, finds the brain's 20 almost exactly; real
vectors are not so kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from phosphene import _random
from phosphene.data.recording import Recording
from phosphene.errors import DataError

LATENT, NUISANCE, DIM, VOXELS = 20, 60, 512, 300


@dataclass(frozen=True, eq=False)
class RSMWorld:
    """What `rsm_world` draws.

    Attributes
    ----------
    categories, candidates : tuple of str
        Names of the training and then the test categories, and of the wrong answers.
    n_train : int
        How many of ``categories`` are for training.
    vectors : ndarray of float32, shape (categories, 512)
        Vectors of training and test categories.
    candidate_vectors : ndarray of float32, shape (candidates, 512)
        Vectors of the wrong answers of identification.
    responses : dict of str to ndarray of float32, shape (categories, 300)
        Voxels of every person.
    latent : ndarray of float32, shape (categories, 20)
        The truth: what the brain that is decoded responds to.
    """

    categories: tuple[str, ...]
    candidates: tuple[str, ...]
    n_train: int
    vectors: NDArray[np.float32]
    candidate_vectors: NDArray[np.float32]
    responses: dict[str, NDArray[np.float32]]
    latent: NDArray[np.float32]

    @property
    def subjects(self) -> tuple[str, ...]:
        """Names of the people."""
        return tuple(self.responses)

    @property
    def train(self) -> slice:
        """Rows of the training categories."""
        return slice(0, self.n_train)

    @property
    def test(self) -> slice:
        """Rows of the test categories."""
        return slice(self.n_train, len(self.categories))

    def recording(self, subject: str) -> Recording:
        """Responses of one person as a recording of voxels, with the split in its table."""
        n_test = len(self.categories) - self.n_train
        table = {
            "stimulus": list(self.categories),
            "concept": list(self.categories),
            "subject": [subject] * len(self.categories),
            "split": ["train"] * self.n_train + ["test"] * n_test,
        }
        return Recording.from_arrays(self.responses[subject], table, modality="fmri", name="rsm")


def rsm_world(
    snr: float = 0.7,
    nuisance: float = 1.5,
    *,
    structure: Literal["shared", "unrelated"] = "shared",
    n_train: int = 150,
    n_test: int = 50,
    n_candidates: int = 1000,
    n_subjects: int = 5,
    seed: int = 0,
) -> RSMWorld:
    """Draw vectors and brain responses; the formulas are at the head of this module.

    Parameters
    ----------
    snr : float
        Standard deviation of a voxel's response over that of its noise in training.
    nuisance : float
        Weight of what only the vectors hold.
    structure : {"shared", "unrelated"}
        ``shared``: all people respond to the latent of the vectors. ``unrelated``: only the first
        does, and all others share another latent that has nothing to do with the vectors; an
        alignment with these others must gain nothing for the first.
    n_train, n_test, n_candidates, n_subjects : int
        Numbers of training, test and candidate categories and of people.
    seed : int
        Every part has its own stream, so that more people or candidates leave the rest as it was.

    Returns
    -------
    RSMWorld

    Examples
    --------
    >>> world = rsm_world(seed=1)
    >>> world.vectors.shape, world.subjects[0], world.responses["subject1"].shape
    ((200, 512), 'subject1', (200, 300))
    """
    _check(snr, nuisance, structure, (n_train, n_test, n_candidates, n_subjects))
    n = n_train + n_test

    def normal(name: str, *shape: int, sd: float = 1.0) -> NDArray[np.float64]:
        return _random.generator(seed, "rsm world", name).normal(0.0, sd, shape)

    # Candidates have a stream of their own: how many there are changes nobody's response.
    s = np.concatenate([normal("s", n, LATENT), normal("candidate s", n_candidates, LATENT)])
    u = np.concatenate([normal("u", n, NUISANCE), normal("candidate u", n_candidates, NUISANCE)])
    y = normal("m", DIM, sd=0.6) + 0.5 * s @ normal("A", LATENT, DIM, sd=0.35)
    y = y + nuisance * u @ normal("N", NUISANCE, DIM, sd=0.35)
    other = normal("other s", n, LATENT)
    responses: dict[str, NDArray[np.float32]] = {}
    for k in range(1, n_subjects + 1):
        felt = other if structure == "unrelated" and k > 1 else s[:n]
        signal = felt @ normal(f"B {k}", LATENT, VOXELS)
        noise = normal(f"noise {k}", n, VOXELS) * (signal.std() / snr)
        noise[n_train:] /= 2
        responses[f"subject{k}"] = (signal + noise).astype(np.float32)
    return RSMWorld(
        categories=_names("category", n),
        candidates=_names("candidate", n_candidates),
        n_train=n_train,
        vectors=y[:n].astype(np.float32),
        candidate_vectors=y[n:].astype(np.float32),
        responses=responses,
        latent=s[:n].astype(np.float32),
    )


def _names(what: str, n: int) -> tuple[str, ...]:
    return tuple(f"{what}{i:04d}" for i in range(n))


def _check(snr: Any, nuisance: Any, structure: str, numbers: Sequence[int]) -> None:
    if not (np.isfinite(snr) and snr > 0 and np.isfinite(nuisance) and nuisance >= 0):
        raise DataError(
            "the world needs a positive snr and a nuisance that is not negative",
            found=f"snr {snr}, nuisance {nuisance}",
        )
    if structure not in ("shared", "unrelated"):
        raise DataError(
            "unknown structure of the world", found=structure, expected="shared or unrelated"
        )
    if numbers[0] < 2 or min(numbers[1:]) < 1:
        raise DataError(
            "the world needs two training categories and one of everything else",
            found="train {}, test {}, candidates {}, subjects {}".format(*numbers),
        )
