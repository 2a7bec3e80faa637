"""Natural Scenes Dataset (Allen et al. 2022), as released and in MindEye2's layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene._registry import register
from phosphene.data._store import StoreChain
from phosphene.data.datasets import get_dataset
from phosphene.data.readers._hdf5 import dataset, memory_map, opened_hdf5, slabs
from phosphene.data.readers._nsd_betas import betas_shape, nsd_voxels, read_session
from phosphene.data.readers._nsd_design import trial_table
from phosphene.data.readers._nsd_files import NsdRequest
from phosphene.data.readers._nsd_images import read_nsd_stimuli
from phosphene.data.readers._source import check_counts, naming, one_of, read_op
from phosphene.data.recording import Recording, Sensors
from phosphene.errors import DataError, listing

__all__ = ["Layout", "TestSet", "read_nsd", "read_nsd_stimuli"]

Layout = Literal["auto", "nsd", "mindeye2"]
TestSet = Literal["1000", "982"]


@register("reader", "nsd")
def read_nsd(
    root: str | Path,
    subject: int,
    layout: Layout = "auto",
    *,
    test: TestSet = "1000",
    sessions: Sequence[int] | None = None,
    betas: str = "betas_fithrf_GLMdenoise_RR",
    space: str = "func1pt8mm",
    mask: str | Path = "nsdgeneral",
    rois: Sequence[str | Path] = (),
    roi: str | Sequence[str] | None = None,
    dtype: Literal["float32", "float16"] = "float32",
    strict: bool = True,
    name: str | None = None,
) -> Recording:
    """Read one person's betas, one trial per row.

    Parameters
    ----------
    root : path
        The data set's folder (with ``nsddata`` and ``nsddata_betas``), or a folder with the files
        of one person.
    subject : int
        1 to 8.
    layout : {"auto", "nsd", "mindeye2"}
        "nsd": ``betas_session01.hdf5`` and so on, a mask and ``nsd_expdesign`` (.mat or .npz).
        "mindeye2": ``betas_all_subj01_fp32_renorm.hdf5`` with ``nsd_expdesign``,
        ``behav_subj01.npy`` or ``wds/subj01/*/*.tar``. "auto" takes the one that is there.
    test : {"1000", "982"}
        Which test. "1000": all trials of images that all people share. "982": those of the first
        release, which lacked each person's last three sessions; these sessions are left out.
        The columns ``test_1000`` and ``test_982`` say which trials belong to which.
    sessions : sequence of int, optional
        Only these; all that are there by default.
    betas, space : str
        Which betas (layout "nsd").
    mask : str or path
        Name in the data set's ``roi`` folder, or an image; voxels above 0 are read.
    rois : sequence of str or path
        Label images for regions, by name (``"prf-visualrois"``) or path (layout "nsd").
    roi : str or sequence of str, optional
        Read only the voxels in any of these regions.
    dtype : {"float32", "float16"}
        Type to keep (layout "nsd"; MindEye2's file is mapped as it is).
    strict : bool
        Refuse another number of voxels, sessions or test trials than the data set has; else log it.
    name : str, optional
        Name of the recording.

    Returns
    -------
    Recording
        Signals (trials, voxels) in percent signal change (int16 / 300), or as in MindEye2's file
        (z-scored per session by its authors), which is memory-mapped where it lies in one piece.
        Trials: ``stimulus`` (``nsd-00042``), ``nsd_id`` (row of ``imgBrick``, from 0), ``session``,
        ``run``, ``trial`` (over all sessions, from 0), ``split``, ``test_1000``, ``test_982`` and,
        where the design is there, ``seen_by_all`` (the 515). Voxels: grid indices i, j, k, places
        in mm, regions, and ``ncsnr`` with the ``noise_ceiling`` of a single trial where
        ``ncsnr.nii.gz`` lies beside the betas. MindEye2's file does not say where its voxels lie.

    Raises
    ------
    DataError
        If files are missing or damaged, lie on another grid, or hold other counts.
    MissingExtraError
        If h5py or nibabel is not installed.

    Notes
    -----
    doi:10.1038/s41593-021-00962-x. Terms and an access form; never downloaded by phosphene.
    """
    one_of(layout, get_args(Layout), "layout")
    one_of(test, get_args(TestSet), "test set")
    one_of(dtype, ("float32", "float16"), "type")
    info = get_dataset("nsd")
    if subject not in range(1, (info.subjects or 0) + 1):
        raise DataError(f"there is no subject {subject!r}", expected="1 to 8")
    root = Path(root)
    request = NsdRequest(root, int(subject), test, sessions, betas, space, strict)
    together = root / f"betas_all_subj{subject:02d}_fp32_renorm.hdf5"
    if layout == "mindeye2" or (layout == "auto" and together.is_file()):
        if rois or roi is not None:
            raise DataError(
                "MindEye2's file does not say where its voxels lie", fix="leave out roi"
            )
        signals, trials, sensors, files = _mindeye(request, together)
    else:
        signals, trials, sensors, files = _native(request, mask, rois, roi, np.dtype(dtype))
    if sessions is None and trials["session"].nunique() == request.last(test):
        counts = {f"test_{test}_trials_subj{subject:02d}": int((trials["split"] == "test").sum())}
        check_counts(counts, info, strict=strict, where=root)
    with naming(files[0]):
        recording = Recording.from_arrays(
            signals, trials, sensors=sensors, name=name or f"nsd-subj{subject:02d}"
        )
    return recording.with_history({**read_op("nsd", files, info), "test_set": test})


def _native(
    request: NsdRequest,
    mask: str | Path,
    rois: Sequence[str | Path],
    roi: str | Sequence[str] | None,
    dtype: np.dtype[Any],
) -> tuple[NDArray[Any], pd.DataFrame, Sensors, list[Path]]:
    info, person = get_dataset("nsd"), request.person
    folder, present = request.session_files()
    shapes = {number: betas_shape(path) for number, path in present.items()}
    if len(set(shapes.values())) > 1:
        raise DataError(
            f"the sessions in {folder} differ in shape",
            found=listing(f"{present[n].name} {shape}" for n, shape in shapes.items()),
        )
    n, *grid = next(iter(shapes.values()))
    design, design_path = request.design()
    request.per_session, request.n_trials = n, len(design.ordering)
    found = {"trials_per_session": n, "shared_images": design.n_shared}
    if request.sessions is None:
        found[f"sessions_{person}"] = len(present)
    ncsnr = folder / "ncsnr.nii.gz"
    mask_path = request.image(mask)
    sensors = nsd_voxels(
        mask_path,
        (grid[0], grid[1], grid[2]),
        [request.image(path) for path in rois],
        ncsnr if ncsnr.is_file() else None,
        roi,
    )
    if str(mask) == "nsdgeneral" and roi is None:
        found[f"voxels_{person}"] = len(sensors)
    check_counts(found, info, strict=request.strict, where=folder)
    if request.test == "982":
        last = request.last("982")
        present = {k: path for k, path in present.items() if k <= last}
        if not present:
            raise DataError(f"no session is left of those up to {last}", fix='use test="1000"')
    number = np.concatenate([np.arange((k - 1) * n, k * n) for k in present])
    trials = design.trials(request.subject, number, n)
    trials["seen_by_all"] = trials["nsd_id"].isin(design.seen_by_all(n))
    assert sensors.voxels is not None
    places = sensors.voxels[["i", "j", "k"]].to_numpy(dtype=np.int64)
    signals = np.empty((len(trials), len(sensors)), dtype=dtype)
    for place, path in enumerate(present.values()):
        read_session(path, places, signals[place * n : (place + 1) * n])
    files = [*present.values(), mask_path, design_path]
    return signals, request.finish(trials), sensors, files


def _mindeye(request: NsdRequest, path: Path) -> tuple[Any, pd.DataFrame, Sensors, list[Path]]:
    with opened_hdf5(path) as file:
        found = dataset(file, "betas", path, ndim=2, kinds="f")
        n_rows, n_voxels = map(int, found.shape)
        check_counts(
            {f"voxels_{request.person}": n_voxels},
            get_dataset("nsd"),
            strict=request.strict,
            where=path,
        )
        store: Any = memory_map(found, path)
        if store is None or store.dtype == np.float64:
            store = np.empty((n_rows, n_voxels), dtype=np.float32)
            for rows in slabs(found):
                store[rows] = found[rows]
    table = request.behaviour(n_rows)
    if table is None:
        design, design_path = request.design()
        trials = design.trials(request.subject, np.arange(n_rows), request.per_session)
        trials["seen_by_all"] = trials["nsd_id"].isin(design.seen_by_all(request.per_session))
        files = [design_path]
    else:
        behaviour, files = table
        trials = trial_table(
            behaviour["nsd_id"].to_numpy(dtype=np.int64),
            behaviour["row"].to_numpy(dtype=np.int64),
            request.per_session,
        ).assign(shared=behaviour["shared"].to_numpy(dtype=bool))
    trials = request.finish(trials)
    if request.sessions is not None:
        wanted = {str(int(number)) for number in request.sessions}
        if missing := wanted - set(trials["session"]):
            raise DataError(f"{path} has no trials of sessions {listing(sorted(missing))}")
        trials = trials[trials["session"].isin(wanted)]
    kept = trials["trial"].to_numpy(dtype=np.int64)
    signals = StoreChain([store], [kept]) if len(kept) < n_rows else store
    return signals, trials, Sensors.fmri(n_voxels), [path, *files]
