"""A bridge between image and text encoders that do not share a space.

CLIP's two encoders were trained into one space. Others, such as EfficientNet's features and a
sentence encoder, were not, and comparing their vectors means nothing. A bridge is a linear map
between them that is fitted on pairs of an image vector and a text vector, one pair per *training*
concept. What it makes says so in its provenance.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from phosphene._random import generator
from phosphene.data.recording import Recording
from phosphene.errors import DataError, NotFittedError, SpaceMismatchError
from phosphene.stimuli.text._bridge_files import (
    CANONICAL,
    origin,
    provenance,
    read_bridge,
    write_bridge,
)
from phosphene.stimuli.text._bridge_math import Matrix, Ridge, Side, canonical, choose, two_way
from phosphene.stimuli.text._bridge_pairs import (
    Names,
    Pairs,
    chosen_layer,
    chosen_view,
    pair,
    refuse_overlap,
    require_enough,
    training_stimuli,
)

if TYPE_CHECKING:
    from phosphene.stimuli.bank import FeatureBank

ALPHAS: tuple[float, ...] = tuple(float(a) for a in np.logspace(-2, 6, 33))
SHRINKAGES = (0.1, 0.3, 0.5, 0.7, 0.9, 0.97)
RANKS = (16, 32, 64, 128)
FOLDS = 5
LEAST_SPREAD = 1e-6
"""Share of the images' variance below which predictions are nothing but rounding."""
PARAMS = ("kind", "alphas", "match_spread", "shrinkage", "rank", "random_state")
FITTED = ("alpha_", "spread_", "shrinkage_", "rank_", "concepts_", "view_", "layer_",
          "image_space_", "text_space_", "image_origin_", "text_origin_")  # fmt: skip


class TextBridge:
    """A map between text vectors and image vectors, fitted on training concepts only.

    ``ridge`` leads texts into the space of the image bank, by ridge regression with the penalty
    chosen by exact leave-one-out over concepts; the result can be compared with image vectors.
    Regression draws its predictions towards the mean, where their cosines with anything are alike,
    so that their spread is brought back to that of the images (``match_spread``).

    ``cca`` leads both into a common space of canonical variates, each weighted by its correlation;
    shrinkage and rank are chosen by cross-validation over training concepts. Use :meth:`transform`
    for texts and :meth:`transform_images` for images.

    Parameters
    ----------
    kind : {"ridge", "cca"}
        Which map.
    alphas : sequence of float
        Penalties to choose from (ridge), for text vectors of unit variance per dimension.
    match_spread : bool
        Scale predictions about their mean to the variance of the images (ridge); the factor comes
        from the leave-one-out predictions.
    shrinkage : float, optional
        Between 0 and 1 (cca): how far covariances are drawn to a multiple of the identity.
    rank : int, optional
        Number of canonical variates (cca).
    random_state : int
        Seed of the folds (cca).

    Attributes
    ----------
    concepts_ : list of str
        Training concepts.
    alpha_, spread_ : float
        Chosen penalty and factor of the spread (ridge).
    shrinkage_, rank_ : float, int
        Chosen regularisation (cca).
    image_space_, text_space_ : str
        Digests of the spaces that it was fitted on; banks of others are refused.

    Examples
    --------
    >>> from phosphene.stimuli.bank import FeatureBank
    >>> rng = np.random.default_rng(0)
    >>> meaning, names = rng.standard_normal((60, 4)), [f"thing{i}" for i in range(60)]
    >>> images = FeatureBank.from_arrays(names, {"original": meaning @ rng.random((4, 9))})
    >>> text = FeatureBank.from_arrays(names, {"text": meaning @ rng.random((4, 7))})
    >>> bridge = TextBridge().fit(images, text, train=names[:40])
    >>> bridge.transform(text).space() == images.space()
    True
    >>> bridge.score(images, text) > 0.9
    True
    """

    concepts_: list[str]
    alpha_: float | None
    spread_: float | None
    shrinkage_: float | None
    rank_: int | None
    view_: str
    layer_: str
    image_space_: str
    text_space_: str
    image_origin_: dict[str, Any]
    text_origin_: dict[str, Any]
    _arrays: dict[str, Matrix]

    def __init__(
        self,
        kind: Literal["ridge", "cca"] = "ridge",
        *,
        alphas: Sequence[float] = ALPHAS,
        match_spread: bool = True,
        shrinkage: float | None = None,
        rank: int | None = None,
        random_state: int = 0,
    ) -> None:
        self.kind = kind
        self.alphas = alphas
        self.match_spread = match_spread
        self.shrinkage = shrinkage
        self.rank = rank
        self.random_state = random_state

    # -- fitting ----------------------------------------------------------------------------

    def fit(
        self,
        images: FeatureBank,
        text: FeatureBank,
        *,
        train: Names,
        test: Names | None = None,
        view: str | None = None,
        layer: str | None = None,
    ) -> Self:
        """Fit on the training concepts; nothing of others is looked at.

        Parameters
        ----------
        images : FeatureBank
            Image vectors; a concept's vector is the mean over its training pictures.
        text : FeatureBank
            Text vectors, by concept or by stimulus.
        train : Recording or iterable of str
            Training trials, or names of training concepts or of training stimuli.
        test : Recording or iterable of str, optional
            What is held out; a concept in both is an error.
        view, layer : str, optional
            Of ``images``: default the only view or ``original``, and the bank's default layer.

        Raises
        ------
        LeakError
            If ``train`` holds test trials, or shares concepts with ``test``.
        DataError
            If names or texts are missing, or there are too few concepts.
        """
        self._check_options()
        stimuli = training_stimuli(images, train)
        self.view_ = chosen_view(images, view)
        self.layer_ = chosen_layer(images, layer)
        pairs = pair(images, text, stimuli, self.view_, self.layer_)
        if test is not None:
            refuse_overlap(images, pairs.concepts, test, "TextBridge.fit")
        require_enough(pairs)
        self.concepts_ = pairs.concepts
        self.image_space_, self.text_space_ = images.space(self.layer_), text.space()
        self.image_origin_ = origin(images, self.layer_)
        self.text_origin_ = origin(text, text.default_layer)
        self.alpha_ = self.spread_ = self.shrinkage_ = self.rank_ = None
        self._arrays = self._ridge(pairs) if self.kind == "ridge" else self._cca(pairs)
        return self

    def _ridge(self, pairs: Pairs) -> dict[str, Matrix]:
        text_mean, image_mean = pairs.texts.mean(axis=0), pairs.images.mean(axis=0)
        X, Y = pairs.texts - text_mean, pairs.images - image_mean
        scale = float(np.sqrt(np.mean(X**2)))
        model = Ridge.of(X / scale, Y)
        errors = [np.mean(model.residuals(alpha) ** 2) for alpha in self.alphas]
        self.alpha_ = float(self.alphas[int(np.argmin(errors))])
        self.spread_ = 1.0
        if self.match_spread:
            drawn = np.mean((Y - model.residuals(self.alpha_)) ** 2) / np.mean(Y**2)
            self.spread_ = float(1 / np.sqrt(max(drawn, LEAST_SPREAD)))
        weights = model.weights(self.alpha_) * (self.spread_ / scale)
        return {"text_mean": text_mean, "text_weights": weights, "offset": image_mean}

    def _cca(self, pairs: Pairs) -> dict[str, Matrix]:
        n, most = len(pairs.concepts), min(pairs.texts.shape[1], pairs.images.shape[1])
        shrinkages = SHRINKAGES if self.shrinkage is None else (self.shrinkage,)
        # No fold has more directions than concepts.
        most = min(most, n - n // FOLDS - 2)
        ranks = sorted({min(rank, most) for rank in (RANKS if self.rank is None else (self.rank,))})
        order = generator(self.random_state, "text bridge").permutation(n)
        folds = np.array_split(order, FOLDS) if len(shrinkages) * len(ranks) > 1 else []
        shrinkage, rank = choose(pairs.texts, pairs.images, shrinkages, ranks, folds)
        self.shrinkage_, self.rank_ = shrinkage, rank
        text_mean, image_mean = pairs.texts.mean(axis=0), pairs.images.mean(axis=0)
        x, y = Side.of(pairs.texts - text_mean), Side.of(pairs.images - image_mean)
        A, B, d = canonical(x, y, shrinkage)
        return {
            "text_mean": text_mean,
            "text_weights": (A * d)[:, :rank],
            "offset": np.zeros(len(d[:rank])),
            "image_mean": image_mean,
            "image_weights": (B * d)[:, :rank],
            "correlations": d[:rank],
        }

    # -- use --------------------------------------------------------------------------------

    def transform(self, text: FeatureBank) -> FeatureBank:
        """Texts in the target space, as the view ``text``.

        Parameters
        ----------
        text : FeatureBank
            Of the encoder that the bridge was fitted on; any concepts.

        Returns
        -------
        FeatureBank
            With ``provenance["kind"] == "bridge"``; of the same space as the image bank (ridge), or
            as what :meth:`transform_images` makes (cca).

        Raises
        ------
        SpaceMismatchError
            If the texts went through another encoder.
        """
        self._fitted()._require(text.space(), self.text_space_, "text", self.text_origin_)
        (view,) = text.views if len(text.views) == 1 else ("text",)
        vectors = self._text(text.vectors(view)).astype(np.float32)
        layer = self.layer_ if self.kind == "ridge" else CANONICAL
        return type(text)(text.stimuli, {("text", layer): vectors}, self._provenance(text), layer)

    def transform_images(self, images: FeatureBank) -> FeatureBank:
        """Images in the target space, all views; with ridge they are there and stay as they are.

        Raises
        ------
        SpaceMismatchError
            If the images went through another encoder.
        """
        self._fitted()._require_images(images)
        if self.kind == "ridge":
            return images
        arrays = {
            (view, CANONICAL): self._image(images.vectors(view, self.layer_)).astype(np.float32)
            for view in images.views
        }
        return type(images)(images.stimuli, arrays, self._provenance(images), CANONICAL)

    def score(self, images: FeatureBank, text: FeatureBank, concepts: Names | None = None) -> float:
        """Two-way identification of concepts that the bridge has not seen.

        Parameters
        ----------
        images, text : FeatureBank
            Of the spaces that it was fitted on.
        concepts : Recording or iterable of str, optional
            Held-out concepts or stimuli; all that are in ``images`` and not of training when not
            given.

        Returns
        -------
        float
            Share of pairs of concepts where a text is nearer, by cosine, to its own pictures than
            to those of the other concept. Chance is .5; ties count half.

        Raises
        ------
        LeakError
            If a concept is one of training.
        """
        self._fitted()._require(text.space(), self.text_space_, "text", self.text_origin_)
        self._require_images(images)
        if concepts is None:
            seen = set(self.concepts_)
            names = [name for name in images.stimuli["concept"].unique() if name not in seen]
        elif isinstance(concepts, Recording):
            names = concepts.trials["stimulus"].unique().tolist()
        else:
            names = [concepts] if isinstance(concepts, str) else list(concepts)
        refuse_overlap(images, self.concepts_, names, "TextBridge.score")
        pairs = pair(images, text, training_stimuli(images, names), self.view_, self.layer_)
        if len(pairs.concepts) < 2:
            raise DataError("two-way identification needs two concepts that were held out",
                            found=len(pairs.concepts))  # fmt: skip
        return two_way(self._text(pairs.texts), self._image(pairs.images))

    # -- disk -------------------------------------------------------------------------------

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the bridge: safetensors, JSON and a manifest."""
        self._fitted()
        params = {name: getattr(self, name) for name in PARAMS}
        fitted = {name: getattr(self, name) for name in FITTED}
        return write_bridge(folder, params, fitted, self._arrays)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> TextBridge:
        """Read a bridge that :meth:`save` wrote; its checksums are verified.

        Raises
        ------
        ArtefactError
            If a file is missing, changed, or of an unknown format.
        """
        params, fitted, arrays = read_bridge(folder)
        bridge = cls(**params)
        bridge.__dict__.update(fitted, _arrays=arrays)
        return bridge

    def __repr__(self) -> str:
        if not hasattr(self, "concepts_"):
            return f"TextBridge({self.kind!r}, not fitted)"
        about = ", ".join(f"{name}={value:.4g}" for name, value in self._chosen().items())
        return f"TextBridge({self.kind!r}, {about}, {len(self.concepts_)} training concepts)"

    # -- private ----------------------------------------------------------------------------

    def _text(self, vectors: NDArray[Any]) -> Matrix:
        arrays = self._arrays
        return np.asarray(
            (vectors - arrays["text_mean"]) @ arrays["text_weights"] + arrays["offset"]
        )

    def _image(self, vectors: NDArray[Any]) -> Matrix:
        if self.kind == "ridge":
            return np.asarray(vectors, dtype=np.float64)
        return np.asarray((vectors - self._arrays["image_mean"]) @ self._arrays["image_weights"])

    def _chosen(self) -> dict[str, float]:
        names = ("alpha", "spread") if self.kind == "ridge" else ("shrinkage", "rank")
        return {name: getattr(self, f"{name}_") for name in names}

    def _provenance(self, bank: FeatureBank) -> dict[str, Any]:
        facts = {
            "kind": self.kind,
            **self._chosen(),
            "view": self.view_,
            "layer": self.layer_,
            "images": self.image_origin_,
            "text": self.text_origin_,
        }
        return provenance(bank.provenance, facts, self.concepts_, self._arrays)

    def _fitted(self) -> Self:
        if not hasattr(self, "_arrays"):
            raise NotFittedError("this bridge is not fitted", fix="call fit, or TextBridge.load")
        return self

    def _require(self, found: str, expected: str, what: str, origin: Mapping[str, Any]) -> None:
        if found != expected:
            raise SpaceMismatchError(
                f"the bridge was fitted on {what} vectors of another space",
                found=f"a bank of space {found[:12]}",
                expected=f"encoder {origin['encoder']['id']!r}, space {expected[:12]}",
                fix="extract with the same encoder, weights and layer, or fit a new bridge",
            )

    def _require_images(self, images: FeatureBank) -> None:
        self._require(images.space(self.layer_), self.image_space_, "image", self.image_origin_)

    def _check_options(self) -> None:
        if self.kind not in ("ridge", "cca"):
            raise DataError("unknown kind of bridge", found=repr(self.kind),
                            expected="'ridge' or 'cca'")  # fmt: skip
        alphas = np.asarray(self.alphas, dtype=np.float64)
        if alphas.ndim != 1 or not alphas.size or not (np.isfinite(alphas) & (alphas > 0)).all():
            raise DataError("the penalties of the bridge cannot be used",
                            found=self.alphas, expected="positive, finite numbers")  # fmt: skip
        if self.shrinkage is not None and not 0 <= self.shrinkage <= 1:
            raise DataError("the bridge's shrinkage is out of range",
                            found=self.shrinkage, expected="0 to 1")  # fmt: skip
        if self.rank is not None and self.rank < 1:
            raise DataError(
                "the bridge's rank is out of range", found=self.rank, expected="1 or more"
            )
