"""Facts about public data sets: what they hold, who may use them and where they are.

Nothing is downloaded here. Data with an access form is never fetched silently: ``access`` says what
to accept, and where.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from phosphene import _registry
from phosphene.data.sensors import Modality


@dataclass(frozen=True)
class RemoteFile:
    """A file of a data set that can be downloaded.

    Attributes
    ----------
    path : str
        Where it belongs, relative to the data set's folder, with forward slashes.
    url : str
        Where it is.
    size : int or None
        Bytes, where known.
    digest : str
        ``"sha256:..."`` or ``"md5:..."`` where known, else "".
    subject : str
        Who it is of, "" for files of all.
    """

    path: str
    url: str
    size: int | None = None
    digest: str = ""
    subject: str = ""


@dataclass(frozen=True)
class DatasetInfo:
    """What is known about a data set; None means not known here.

    Attributes
    ----------
    name, title : str
        Registered name and full title.
    modality : {"eeg", "meg", "ecog", "fmri"}
        What was measured.
    subjects : int or None
        Number of people.
    channels : str
        Channels or voxels.
    sfreq : float or None
        Sampling rate of the raw recording in Hz.
    images : str
        Stimuli: how many, and how they are split.
    licence : str
        Terms of the recordings and of the images.
    citation, doi : str
        Publication; the DOI may be "".
    url_ids : dict of str to str
        Identifiers where the data lie, e.g. ``{"openneuro": "ds004212"}``.
    access : str
        How to come by it.
    notes : tuple of str
        Pitfalls.
    expected : dict of str to int
        Counts that a reader compares what it finds with, by name.
    sha256 : dict of str to str
        Digests of files where they are known, by path relative to the data set's folder.
    files : tuple of RemoteFile
        What can be downloaded without accepting terms first.
    """

    name: str
    title: str
    modality: Modality
    subjects: int | None
    channels: str
    sfreq: float | None
    images: str
    licence: str
    citation: str
    doi: str
    url_ids: dict[str, str]
    access: str
    notes: tuple[str, ...] = ()
    expected: dict[str, int] = field(default_factory=dict)
    sha256: dict[str, str] = field(default_factory=dict)
    files: tuple[RemoteFile, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain form, for JSON."""
        return asdict(self)


def get_dataset(name: str) -> DatasetInfo:
    """Facts about a data set by name.

    Raises
    ------
    UnknownNameError
        If it is not registered; the nearest names are listed.

    Examples
    --------
    >>> get_dataset("things_meg").subjects
    4
    """
    info: DatasetInfo = _registry.get("dataset", name)
    return info


_FIGSHARE = "https://ndownloader.figshare.com/files/"
GOD_FILES = (
    *(
        RemoteFile(f"Subject{n}.h5", f"{_FIGSHARE}{15049643 + 3 * n}", subject=f"{n:02d}")
        for n in range(1, 6)
    ),
    RemoteFile("ImageFeatures.h5", f"{_FIGSHARE}15015971"),
)
# Subjects 1 to 8; the counts of trials with a test image follow from the design and the sessions.
NSD_VOXELS = (15724, 14278, 15226, 13153, 13039, 17907, 12682, 14386)
NSD_SESSIONS = (40, 40, 32, 30, 40, 32, 40, 30)
NSD_TEST_1000 = (3000, 3000, 2371, 2188, 3000, 2371, 3000, 2188)
NSD_TEST_982 = (2770, 2770, 2113, 1985, 2770, 2113, 2770, 1985)

_OPENNEURO = "https://s3.amazonaws.com/openneuro.org/"
THINGS_MEG_FILES = tuple(
    RemoteFile(path, f"{_OPENNEURO}ds004212/{path}", subject=f"{n:02d}")
    for n in range(1, 5)
    for path in (
        *(
            f"derivatives/preprocessed/preprocessed_P{n}-epo{part}.fif"
            for part in ("", "-1", "-2", "-3")
        ),
        f"sourcedata/sample_attributes_P{n}.csv",
    )
)

_ALL = (
    DatasetInfo(
        name="things_eeg2",
        title="THINGS-EEG2",
        modality="eeg",
        subjects=10,
        channels="63 EEG channels; 17 in the authors' preprocessed files",
        sfreq=1000.0,
        images="16540 training images (1654 concepts x 10) x 4 repetitions; "
        "200 test images (200 other concepts) x 80 repetitions",
        licence="recordings CC BY 4.0; images not redistributable",
        citation="Gifford et al. 2022",
        doi="10.1016/j.neuroimage.2022.119754",
        url_ids={
            "osf": "3jk45",
            "osf_raw": "crxs4",
            "osf_preprocessed": "anp5v",
            "osf_images": "y63gw",
        },
        access="open on OSF; the images come separately",
        notes=(
            "the first k repetitions depend on the layout: some shuffle across sessions",
            "the NICE and ATM layout states 300 times for 250 samples, and so do others made by it",
            "the authors' and NICE's files are whitened with test trials too",
            "raw events: image index + 1; 99999 is a catch trial",
        ),
        expected={
            "sessions": 4,
            "train_images": 16540,
            "train_concepts": 1654,
            "train_repetitions": 4,
            "test_images": 200,
            "test_concepts": 200,
            "test_repetitions": 80,
            "channels": 63,
            "samples": 250,
            "channels_preprocessed": 17,
            "samples_preprocessed": 100,
        },
    ),
    DatasetInfo(
        name="things_meg",
        title="THINGS-MEG",
        modality="meg",
        subjects=4,
        channels="271 MEG channels",
        sfreq=1200.0,
        images="22248 training images (1854 concepts x 12) once, of which 19848 are of the 1654 "
        "concepts without test images; 200 test images x 12 repetitions",
        licence="recordings CC0",
        citation="Hebart et al. 2023",
        doi="10.7554/eLife.82580",
        url_ids={"openneuro": "ds004212"},
        access="open on OpenNeuro; THINGS images have terms of their own",
        notes=(
            "test concepts have training images too: drop them for zero-shot decoding",
            "onsets in events.tsv carry about 150 ms of software delay: use the epochs",
            "event 999999 is a catch trial",
            "the preprocessed epochs have 200 Hz",
        ),
        expected={
            "trials": 27048,
            "catch_trials": 2400,
            "sessions": 12,
            "images": 26107,
            "concepts": 1854,
            "train_images": 19848,
            "train_concepts": 1654,
            "test_images": 200,
            "test_concepts": 200,
            "test_repetitions": 12,
            "channels": 271,
            "samples": 201,
        },
        files=THINGS_MEG_FILES,
    ),
    DatasetInfo(
        name="god",
        title="Generic Object Decoding",
        modality="fmri",
        subjects=5,
        channels="voxels in named regions, chosen by key",
        sfreq=None,
        images="training 150 categories x 8 images; test 50 seen images x 35; "
        "imagery 50 categories x 10",
        licence="",
        citation="Horikawa & Kamitani 2017",
        doi="10.1038/ncomms15037",
        url_ids={"openneuro": "ds001246", "figshare": "7387130"},
        access="recordings open on OpenNeuro and figshare; the images on request from the authors",
        notes=(
            "DataType 1 is training, 2 test seen, 3 imagery",
            "stimulus_id (or Label) is category.image: 1443537.022563 is n01443537_22563.JPEG",
            "runs are numbered anew in each part",
        ),
        expected={
            "train_trials": 1200,
            "train_stimuli": 1200,
            "train_concepts": 150,
            "test_trials": 1750,
            "test_stimuli": 50,
            "test_concepts": 50,
            "imagery_trials": 500,
            "imagery_concepts": 50,
        },
        files=GOD_FILES,
    ),
    DatasetInfo(
        name="nsd",
        title="Natural Scenes Dataset",
        modality="fmri",
        subjects=8,
        channels="nsdgeneral voxels of subjects 1 to 8: 15724, 14278, 15226, 13153, 13039, 17907, "
        "12682, 14386",
        sfreq=None,
        images="73000 images of 425 x 425 pixels; 1000 shared by all are the test, "
        "515 of them seen three times by all",
        licence="terms and access form; no redistribution",
        citation="Allen et al. 2022, Natural Scenes Dataset",
        doi="10.1038/s41593-021-00962-x",
        url_ids={},
        access="fill in the access form of the data set and accept its terms; never downloaded "
        "by phosphene without that",
        notes=(
            "betas are int16: divide by 300 for percent signal change",
            "nsd_expdesign counts from 1; masterordering > 1000 is training",
            "nsdgeneral is 1 inside, 0 outside and -1 off the cortex: take what is above 0",
            "the tests of 982 and of 1000 images are different tests: the former has the shared "
            "images of the first release, which lacks each subject's last three sessions",
        ),
        expected={
            "images": 73000,
            "shared_images": 1000,
            "seen_by_all": 515,
            "trials_per_session": 750,
            **{f"voxels_subj{n:02d}": v for n, v in enumerate(NSD_VOXELS, 1)},
            **{f"sessions_subj{n:02d}": v for n, v in enumerate(NSD_SESSIONS, 1)},
            **{f"test_1000_trials_subj{n:02d}": v for n, v in enumerate(NSD_TEST_1000, 1)},
            **{f"test_982_trials_subj{n:02d}": v for n, v in enumerate(NSD_TEST_982, 1)},
        },
    ),
    DatasetInfo(
        name="things_fmri",
        title="THINGS-fMRI",
        modality="fmri",
        subjects=3,
        channels="voxels, with noise ceiling and regions in a table",
        sfreq=None,
        images="9840 trials per subject: 8640 training images once, 100 test images x 12",
        licence="",
        citation="Hebart et al. 2023, THINGS-data",
        doi="10.7554/eLife.82580",
        url_ids={"openneuro": "ds004192", "figshare": "20492835"},
        access="open on OpenNeuro and figshare; THINGS images have terms of their own",
        notes=(
            "test concepts have training images too: drop them for zero-shot decoding",
            "noise ceilings are in percent, and come from the test images' repetitions",
            "voxel_x, voxel_y and voxel_z count voxels; their place in mm needs the brain mask",
        ),
        expected={
            "trials": 9840,
            "train_trials": 8640,
            "train_stimuli": 8640,
            "test_trials": 1200,
            "test_stimuli": 100,
        },
    ),
    DatasetInfo(
        name="bold5000",
        title="BOLD5000",
        modality="fmri",
        subjects=4,
        channels="voxels of the GLMsingle betas (release 2)",
        sfreq=None,
        images="",
        licence="",
        citation="Chang et al. 2019, BOLD5000",
        doi="10.1038/s41597-019-0052-3",
        url_ids={"openneuro": "ds001499"},
        access="open on OpenNeuro; read as a 4-D series of betas with mask and table, "
        'read_nifti_events(..., method="betas")',
        notes=("subjects are called CSI1 to CSI4",),
    ),
    DatasetInfo(
        name="haxby2001",
        title="Haxby 2001, one subject, one posterior slice",
        modality="fmri",
        subjects=1,
        channels="530 voxels",
        sfreq=0.4,
        images="8 object categories and rest, 12 runs of 121 volumes; no image identity",
        licence="CC BY-SA 3.0 (authors); as shipped with PyMVPA (MIT)",
        citation="Haxby et al. 2001",
        doi="10.1126/science.1063736",
        url_ids={},
        access="one slice, as shipped with PyMVPA",
        notes=("a random split of volumes leaks: leave one run out, and average over blocks",),
        expected={"trials": 1452, "voxels": 530, "runs": 12, "concepts": 9},
    ),
    DatasetInfo(
        name="miyawaki2008",
        title="Miyawaki 2008, block patterns",
        modality="fmri",
        subjects=None,
        channels="967 voxels",
        sfreq=None,
        images="107 + 12 blocks of 28 x 28 stimuli, 20 distinct figures, 12 sessions",
        licence="re-packed by others; terms unclear",
        citation="Miyawaki et al. 2008",
        doi="10.1016/j.neuron.2008.11.004",
        url_ids={},
        access="re-packed by others; terms unclear",
        notes=(
            "labelTrn and labelTest are session numbers, not classes",
            "the file's own split mixes sessions and repeats images",
            "a session shows only some of the figures",
        ),
        expected={"trials": 119, "voxels": 967, "sessions": 12, "stimuli": 20},
    ),
)

for _info in _ALL:
    _registry.add("dataset", _info.name, _info, summary=f"{_info.title}: {_info.modality}")
