"""Worlds: every parameter of a simulated experiment, under a name, with a version and a hash."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from phosphene import _registry
from phosphene._saving import sha256_json
from phosphene.errors import DataError, UnknownNameError
from phosphene.stimuli.views import expand_views

WorldModality = Literal["eeg", "meg", "ecog", "fmri"]
_MEG: dict[str, str] = {"only": "meg"}  # parameters of one modality; see `World.to_dict`
_ECOG: dict[str, str] = {"only": "ecog"}


@dataclass(frozen=True, kw_only=True)
class World:
    """All parameters of a simulated experiment.

    A recording simulated from a world is simulated: whatever is measured on it says how methods
    behave under these assumptions, not how they behave on people.

    Parameters
    ----------
    name : str
        Name it is registered under.
    version : int
        Raised when a named world's parameters change.
    modality : {"eeg", "meg", "ecog", "fmri"}
        What is measured.
    train_concepts, train_exemplars, test_concepts : int
        Concepts and pictures per concept to learn from; concepts never seen in training, one
        picture each.
    picture_seed, picture_size : int
        Seed of the pictures' layout and backgrounds; side in pixels.
    encoder, driver_layer, target_layer, text_encoder : str
        Network whose driver layer moves the simulated object areas, the layer that is to be
        decoded, and the text encoder of the meaning component.
    bank_views : tuple of str
        Views of the bank that decoders are given.
    seen : tuple of str
        What is seen at each level of clarity, from clear to blurred.
    foveation : float
        0: the picture itself is seen; 1: the view of ``seen``; in between, a mixture of features.
    clarity_share, clarity_gain : tuple of float
        Probability of each level of clarity, and the factor on the response.
    early_uv, object_uv, meaning_uv, evoked_uv : float
        Amplitudes in microvolts: root mean square over 63 channels at the strongest time, of the
        part that differs between stimuli, and of the part that does not. MEG measures the same
        dipoles; in ECoG and fMRI a component without amplitude is absent, and that is all.
    signal : float
        Factor on the three components that carry information; 0 leaves the evoked response.
    early_dims, object_dims, meaning_dims : int
        Principal components of the features that drive each component.
    early_units, object_units, meaning_units : int
        Units per source (EEG), each with its own course in time.
    whitening : float
        0 keeps the spread of principal components, 1 makes it equal.
    rectified, normalisation : float
        Non-linearity: share of rectifying units, strength of divisive normalisation.
    similarity : float
        Share of mixing and orientation that subjects have in common.
    subject_spread : float
        Standard deviation of the log amplitude between subjects.
    gain_spread : float
        Standard deviation of the log gain from trial to trial.
    jitter : float
        Standard deviation of the latency from trial to trial, seconds; quantised to samples.
    noise : float
        Noise of a single trial: microvolts per channel (EEG; in MEG, of the brain's noise as 63 EEG
        channels would see it), standard deviation of the logarithm of power (ECoG), or in units of
        a voxel's typical signal at ``voxel_signal`` 1 (fMRI). 0 switches all noise off.
    noise_exponent : float
        Slope of the background's spectrum, ``1 / f**exponent``.
    alpha_share, sensor_share : float
        Shares of the noise's variance: alpha rhythm, and independent noise of the sensors.
    train_repetitions, test_repetitions : int
        Trials per stimulus.
    sessions, runs : int
        Sessions of a subject, and runs of a session.
    session_spread : float
        Standard deviation of the log noise level between sessions.
    sfreq, n_times : float, int
        Samples per second and per epoch; epochs start with the picture.
    voxels_per_roi : int
        Voxels of each region (fMRI).
    voxel_signal : float
        Standard deviation of a typical voxel's response between stimuli (fMRI).
    voxel_spread : float
        Standard deviation of the log signal between voxels (fMRI).
    smoothness : float
        Length over which voxel noise is correlated, millimetres (fMRI).
    meg_noise : float
        Noise of a sensor of its own: femtotesla per root hertz for magnetometers, femtotesla per
        centimetre and root hertz for gradiometers (MEG).
    ecog_signal : {"power", "voltage"}
        Whether recordings hold the logarithm of high-gamma power over its baseline, or volts in
        which that power has yet to be found (ECoG).
    ecog_log_power : float
        Change of log power by one unit of activity in a population right at the electrode (ECoG).
    ecog_reach : float
        Distance at which a population counts 1/e, millimetres (ECoG).

    Examples
    --------
    >>> world = get_world("standard", signal=0.5)
    >>> world.name, world.hash == get_world("standard").hash
    ('standard', False)
    """

    name: str
    version: int = 1
    modality: WorldModality = "eeg"
    train_concepts: int = 650
    train_exemplars: int = 4
    test_concepts: int = 200
    picture_seed: int = 0
    picture_size: int = 224
    encoder: str = "efficientnet-lite0"
    driver_layer: str = "block15"
    target_layer: str = "pool"
    text_encoder: str = "use"
    bank_views: tuple[str, ...] = ("original", "fovea")
    seen: tuple[str, ...] = ("fovea(k=45)", "fovea(k=51)", "fovea(k=57)")
    foveation: float = 0.75
    clarity_share: tuple[float, ...] = (0.3, 0.4, 0.3)
    clarity_gain: tuple[float, ...] = (1.3, 1.0, 0.7)
    early_uv: float = 1.6
    object_uv: float = 3.2
    meaning_uv: float = 1.2
    evoked_uv: float = 6.0
    signal: float = 1.0
    early_dims: int = 24
    object_dims: int = 60
    meaning_dims: int = 30
    early_units: int = 5
    object_units: int = 10
    meaning_units: int = 5
    whitening: float = 0.5
    rectified: float = 0.2
    normalisation: float = 0.3
    similarity: float = 0.5
    subject_spread: float = 0.1
    gain_spread: float = 0.25
    jitter: float = 0.010
    noise: float = 9.0
    noise_exponent: float = 1.2
    alpha_share: float = 0.25
    sensor_share: float = 0.10
    train_repetitions: int = 4
    test_repetitions: int = 80
    sessions: int = 4
    runs: int = 5
    session_spread: float = 0.15
    sfreq: float = 250.0
    n_times: int = 250
    voxels_per_roi: int = 120
    voxel_signal: float = 0.5
    voxel_spread: float = 0.5
    smoothness: float = 5.0
    meg_noise: float = field(default=3.0, metadata=_MEG)
    ecog_signal: Literal["power", "voltage"] = field(default="power", metadata=_ECOG)
    ecog_log_power: float = field(default=1.0, metadata=_ECOG)
    ecog_reach: float = field(default=8.0, metadata=_ECOG)

    def __post_init__(self) -> None:
        choices = (("modality", get_args(WorldModality)), ("ecog_signal", ("power", "voltage")))
        for name, allowed in choices:
            if getattr(self, name) not in allowed:
                raise DataError(
                    f"world {self.name!r}: unknown {name}",
                    found=getattr(self, name),
                    expected=", ".join(allowed),
                )
        for name in ("meg_noise", "ecog_reach"):
            if not getattr(self, name) > 0:
                raise DataError(
                    f"world {self.name!r}: {name} must be positive", found=getattr(self, name)
                )
        levels = len(self.seen)
        for name in ("clarity_share", "clarity_gain"):
            if len(getattr(self, name)) != levels:
                raise DataError(
                    f"world {self.name!r}: {name} needs one value per level of clarity",
                    found=len(getattr(self, name)),
                    expected=levels,
                )
        if min(self.clarity_share) < 0 or abs(sum(self.clarity_share) - 1.0) > 1e-9:
            raise DataError(
                f"world {self.name!r}: clarity_share must be probabilities that sum to 1",
                found=self.clarity_share,
            )
        unit = ("foveation", "whitening", "rectified", "normalisation", "similarity")
        for name in unit:
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise DataError(
                    f"world {self.name!r}: {name} lies between 0 and 1",
                    found=getattr(self, name),
                )
        if self.alpha_share + self.sensor_share > 1.0:
            raise DataError(
                f"world {self.name!r}: the shares of the noise exceed 1",
                found=self.alpha_share + self.sensor_share,
            )
        for name in ("train_concepts", "train_exemplars", "test_concepts", "sessions", "runs"):
            if getattr(self, name) < 1:
                raise DataError(
                    f"world {self.name!r}: {name} must be at least 1", found=getattr(self, name)
                )

    @property
    def views(self) -> tuple[str, ...]:
        """Canonical names of all views that the world needs: the bank's and the seen ones."""
        seen = self.seen if self.foveation > 0 else ()
        return tuple(view.name for view in expand_views(["original", *self.bank_views, *seen]))

    @property
    def n_stimuli(self) -> int:
        """Number of pictures."""
        return self.train_concepts * self.train_exemplars + self.test_concepts

    @property
    def encoder_passes(self) -> int:
        """Passes of the image encoder that its features cost."""
        return self.n_stimuli * len(self.views)

    def to_dict(self) -> dict[str, Any]:
        """All parameters that this world reads: those of another modality alone are left out."""
        values = dataclasses.asdict(self)
        for one in dataclasses.fields(self):
            if one.metadata.get("only", self.modality) != self.modality:
                del values[one.name]
        return values

    @functools.cached_property
    def hash(self) -> str:
        """Digest of all parameters."""
        return str(sha256_json(self.to_dict()))


def get_world(name: str | World, **overrides: Any) -> World:
    """A registered world, with parameters replaced.

    Parameters
    ----------
    name : str or World
        Registered name, see ``phosphene list worlds``; a world is taken as it is.
    **overrides
        Parameters to replace; the hash tells the result from the named world.

    Raises
    ------
    UnknownNameError
        If the world or a parameter does not exist; the nearest names are listed.
    """
    world = name if isinstance(name, World) else _registry.get("world", name)
    assert isinstance(world, World)
    known = [one.name for one in dataclasses.fields(World)]
    for key in overrides:
        if key not in known:
            raise UnknownNameError(
                f"a world has no parameter {key!r}", fix=_registry.did_you_mean(key, known)
            )
    return dataclasses.replace(world, **overrides) if overrides else world


def in_modality(world: World, modality: WorldModality) -> World:
    """The same pictures and, between EEG and MEG, the same people's dipoles, measured otherwise.

    Numbers whose unit or scale depends on what measures (``noise``, ``sfreq``, ``n_times``,
    ``jitter``) are those of the standard world of the new modality; EEG and MEG share theirs.
    Everything else is kept; the hash tells the result from the named worlds.

    Examples
    --------
    >>> in_modality(get_world("quick"), "meg").noise == get_world("quick").noise
    True
    >>> in_modality(get_world("quick"), "fmri").noise == get_world("standard-fmri").noise
    True
    """
    if modality not in get_args(WorldModality):
        raise DataError(
            "unknown modality of a world",
            found=modality,
            expected=", ".join(get_args(WorldModality)),
        )
    if modality == world.modality:
        return world
    if {modality, world.modality} <= {"eeg", "meg"}:
        return dataclasses.replace(world, modality=modality)
    name = {"eeg": "standard", "ecog": f"standard-ecog-{world.ecog_signal}"}.get(modality)
    like = get_world((name or f"standard-{modality}").removesuffix("-power"))
    measured = {key: getattr(like, key) for key in ("noise", "sfreq", "n_times", "jitter")}
    return dataclasses.replace(world, modality=modality, **measured)


def _add(world: World, summary: str) -> World:
    _registry.add("world", world.name, world, summary=summary, version=world.version)
    return world


STANDARD = _add(
    World(name="standard"),
    "EEG, 63 channels, foveated; 650 concepts x 4 pictures, 200 unseen concepts x 80 repetitions",
)
_add(
    dataclasses.replace(STANDARD, name="unfoveated", foveation=0.0),
    "the standard world, but every trial shows the picture as it is",
)
_add(
    dataclasses.replace(STANDARD, name="no-meaning", meaning_uv=0.0),
    "the standard world without the component that follows the concept's name",
)
_add(
    dataclasses.replace(STANDARD, name="zero-signal", signal=0.0),
    "the standard world with an evoked response that tells nothing of the picture",
)
_add(
    dataclasses.replace(STANDARD, name="little-data", train_concepts=150),
    "the standard world with 150 training concepts",
)
QUICK = _add(
    dataclasses.replace(
        STANDARD,
        name="quick",
        train_concepts=275,
        train_exemplars=1,
        test_concepts=100,
        sfreq=125.0,
        n_times=100,
        noise=3.0,
    ),
    "small EEG world for a first look: 1,500 passes of the image encoder, strong signal",
)
_add(
    dataclasses.replace(
        STANDARD,
        name="standard-fmri",
        modality="fmri",
        train_concepts=150,
        train_exemplars=8,
        test_concepts=50,
        train_repetitions=1,
        test_repetitions=20,
        jitter=0.0,
        noise=1.0,
    ),
    "fMRI, seven regions; 150 concepts x 8 pictures, 50 unseen concepts",
)
_add(
    dataclasses.replace(
        STANDARD,
        name="standard-meg",
        modality="meg",
        train_repetitions=1,
        test_repetitions=12,
        sfreq=200.0,
        n_times=200,
    ),
    "MEG, 306 sensors, the dipoles of the standard world; 200 unseen concepts x 12 repetitions",
)
ECOG = _add(
    dataclasses.replace(
        STANDARD,
        name="standard-ecog",
        modality="ecog",
        train_concepts=150,
        train_exemplars=8,
        test_concepts=50,
        train_repetitions=1,
        test_repetitions=20,
        noise=1.0,
        sfreq=100.0,
        n_times=60,
    ),
    "ECoG, 76 electrodes, log high-gamma power; 150 concepts x 8 pictures, 50 unseen concepts",
)
_add(
    dataclasses.replace(
        ECOG, name="standard-ecog-voltage", ecog_signal="voltage", sfreq=500.0, n_times=300
    ),
    "the ECoG world in volts, whose high-gamma power has yet to be found",
)
MULTIMODAL = _add(
    dataclasses.replace(
        STANDARD,
        name="multimodal",
        modality="meg",
        train_concepts=150,
        train_exemplars=8,
        test_concepts=50,
        train_repetitions=1,
        test_repetitions=20,
        sfreq=100.0,
        n_times=60,
    ),
    "pictures for several modalities at once; 150 concepts x 8 pictures, 50 unseen concepts",
)
_add(
    dataclasses.replace(
        MULTIMODAL,
        name="multimodal-quick",
        train_concepts=60,
        train_exemplars=4,
        test_concepts=20,
        bank_views=("original",),
        foveation=0.0,
        voxels_per_roi=40,
    ),
    "the multimodal world with 60 concepts x 4 pictures, 20 unseen: 260 passes of the encoder",
)
