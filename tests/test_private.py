"""Errors, randomness, logging, optional packages, devices and validation."""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from phosphene import _device, _logging, _optional, _random, _validation, errors
from phosphene.errors import DataError, LeakError, MissingExtraError

# errors


def test_an_error_says_what_was_found_and_expected() -> None:
    error = DataError("wrong", found=[1], expected=0, fix="mend")
    assert str(error) == "wrong\n  found: [1]\n  expected: 0\n  what to do: mend"
    assert (error.what, error.found, error.expected, error.fix) == ("wrong", [1], 0, "mend")
    assert isinstance(error, ValueError)


@pytest.mark.parametrize(
    "kind",
    [
        e
        for e in vars(errors).values()
        if isinstance(e, type) and issubclass(e, errors.PhospheneError)
    ],
)
def test_every_error_prints_its_message_unchanged(kind: type[errors.PhospheneError]) -> None:
    assert str(kind("plain 'text'")) == "plain 'text'"


# randomness


def test_streams_depend_on_seed_and_name_only() -> None:
    first = _random.generator(1, "epoch", 7).permutation(10)
    _random.generator(1, "other").normal(size=100)
    assert (_random.generator(1, "epoch", 7).permutation(10) == first).all()
    seeds = {_random.derive(s, *n) for s in (0, 1) for n in [(), ("a",), ("a", 1), ("b",)]}
    assert len(seeds) == 8
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_seeded_restores_the_global_generator() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with _random.seeded(3, "init"):
        inside = torch.rand(4)
    assert torch.equal(torch.get_rng_state(), before)
    with _random.seeded(3, "init"):
        assert torch.equal(torch.rand(4), inside)
    draw = torch.rand(4, generator=_random.torch_generator(3, "init"))
    assert torch.equal(draw, inside)


def test_streams_are_the_same_in_another_process() -> None:
    code = "from phosphene._random import derive; print(derive(42, 'epoch', 3))"
    out = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "1"},
    )
    assert int(out.stdout) == _random.derive(42, "epoch", 3)


# logging


def test_progress_is_silent_unless_someone_watches(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert list(_logging.progress(range(3))) == [0, 1, 2]
    monkeypatch.setenv("CI", "1")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert not _logging.interactive()
    assert list(_logging.progress(range(3), desc="x")) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_the_library_adds_only_the_null_handler() -> None:
    handlers = logging.getLogger("phosphene").handlers
    assert [type(h) for h in handlers if not h.__class__.__module__.startswith("_pytest")] == [
        logging.NullHandler
    ]


# optional packages


def test_a_missing_extra_names_the_command() -> None:
    with pytest.raises(MissingExtraError, match=r'pip install "phosphene\[fmri\]"'):
        _optional.require("phosphene_surely_absent.sub", "fmri", "reading NIfTI")
    assert _optional.require("json", "fmri").dumps([]) == "[]"


def test_a_package_that_lacks_a_dependency_of_its_own_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_there.py").write_text("import surely_absent_dependency\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="surely_absent_dependency") as caught:
        _optional.require("half_there", "fmri")
    assert not isinstance(caught.value, MissingExtraError)


# devices


def test_device_and_precision() -> None:
    assert _device.resolve_device("cpu") == torch.device("cpu")
    assert _device.resolve_precision("fp32", torch.device("cpu")) == "fp32"
    assert _device.resolve_precision("auto", torch.device("cpu")) in ("fp32", "bf16")
    with pytest.raises(ValueError, match="'fp64'"):
        _device.resolve_precision("fp64", torch.device("cpu"))


def test_the_probe_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("this processor has no bf16, so nothing is probed")
    monkeypatch.setenv("PHOSPHENE_CACHE", str(tmp_path))
    _device.bf16_gain.cache_clear()
    gain = _device.bf16_gain(size=64)
    (note,) = tmp_path.glob("bf16-probe-*.json")
    note.write_text('{"gain": 123.0}')
    _device.bf16_gain.cache_clear()
    assert gain > 0
    assert _device.bf16_gain(size=64) == 123.0
    _device.bf16_gain.cache_clear()


# validation


def test_missing_columns_and_double_ids_are_named() -> None:
    table = pd.DataFrame({"stimulus": ["a"]})
    with pytest.raises(DataError, match=r"lacks the column 'stimuls'[\s\S]*'stimulus'"):
        _validation.require_columns(table, ["stimuls"])
    with pytest.raises(DataError, match=r"'b' \(2 times\)"):
        _validation.require_unique(["a", "b", "b"])
    _validation.require_unique([])


def test_ids_become_text() -> None:
    values = pd.Series(["01", np.nan, "x"])
    assert _validation.as_ids(values).tolist() == ["01", "", "x"]
    assert _validation.as_ids(np.array([1, 2])).tolist() == ["1", "2"]
    assert _validation.as_ids(pd.array([1, None], dtype="Int64")).tolist() == ["1", ""]
    assert _validation.as_ids([2.5, pd.NaT, 3.0]).tolist() == ["2.5", "", "3"]


def test_bad_values_are_counted_per_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_validation, "CHUNK", 200)  # two trials per piece
    x = np.random.default_rng(0).normal(size=(7, 3, 8)).astype(np.float32)
    _validation.check_signals(x, ["O1", "Oz", "O2"])
    x[[0, 3, 6], 1, 4] = [np.nan, np.inf, -np.inf]
    x[5, 2] = np.nan
    with pytest.raises(DataError) as caught:
        _validation.check_signals(x, ["O1", "Oz", "O2"])
    assert caught.value.found == "'Oz' (3 of 7 trials), 'O2' (1 of 7 trials)"


def test_flat_channels_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_validation, "CHUNK", 64)
    x = np.random.default_rng(0).normal(size=(6, 3, 4)).astype(np.float32)
    x[:, 2] = 7.0
    with pytest.raises(DataError, match=r"constant over all trials in 1 of 3[\s\S]*'O2'"):
        _validation.check_signals(x, ["O1", "Oz", "O2"])
    x[-1, 2, -1] = 7.5  # constant within most trials is not flat
    _validation.check_signals(x, ["O1", "Oz", "O2"])
    _validation.check_signals(np.zeros((1, 3)), ["a", "b", "c"])  # one value says nothing


def test_test_trials_are_refused_by_name() -> None:
    trials = pd.DataFrame({"stimulus": ["a", "b"], "split": ["train", "test"]})
    with pytest.raises(LeakError, match=r"ridge was given 1 test trials[\s\S]*stimulus b"):
        _validation.refuse_test_trials(trials, "ridge")
    _validation.refuse_test_trials(trials.iloc[:1])


def test_positions() -> None:
    assert _validation.as_int_index([-1, 0], 3).tolist() == [2, 0]
    assert _validation.as_int_index(slice(1, None), 3).tolist() == [1, 2]
    assert _validation.as_int_index([], 3).tolist() == []
    for wrong, text in [
        ([3], "out of range: 3"),
        ([1, -2], "given twice: 1"),
        ([True], "another length"),
        ([0.5], "neither booleans nor integers"),
        ([[0]], "not one-dimensional"),
    ]:
        with pytest.raises(DataError, match=text):
            _validation.as_int_index(wrong, 3)


def test_fractions() -> None:
    assert _validation.check_fraction(0.1, "share") == 0.1
    with pytest.raises(DataError, match="share is a fraction"):
        _validation.check_fraction(1.0, "share")


def test_errors_cross_process_borders() -> None:
    error = pickle.loads(pickle.dumps(DataError("wrong", found=1)))
    assert isinstance(error, DataError)
    assert "wrong" in str(error)
