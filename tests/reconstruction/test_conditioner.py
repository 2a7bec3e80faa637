"""Tokens from vectors: scale, kinds, empty tokens, files."""

import json

import numpy as np
import pytest
import torch

from phosphene._saving import write_json
from phosphene.errors import ArtefactError, DataError
from phosphene.reconstruction.conditioner import SMALLEST_DEVIATION, VectorConditioner

KINDS = {
    "text": {"width": 6, "encoder": "use"},
    "image": {"width": 9, "encoder": "efficientnet-lite0"},
}


@pytest.fixture
def model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return VectorConditioner(KINDS, tokens=3, dim=8, hidden=5)


def vectors(n, width, seed=0, scale=1.0, shift=0.0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy((rng.standard_normal((n, width)) * scale + shift).astype(np.float32))


def test_tokens_equal_the_written_out_formula(model):
    train = vectors(40, 6, scale=0.05, shift=0.3)
    model.set_scale("text", train)
    x = vectors(4, 6, seed=1, scale=0.05, shift=0.3)
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    z = (x.numpy() - train.numpy().mean(0)) / train.numpy().std(0)
    h = z @ state["networks.text.0.weight"].T + state["networks.text.0.bias"]
    h = h / (1 + np.exp(-h))
    t = (h @ state["networks.text.2.weight"].T + state["networks.text.2.bias"]).reshape(4, 3, 8)
    t = (t - t.mean(-1, keepdims=True)) / np.sqrt(t.var(-1, keepdims=True) + 1e-5)
    expected = t * state["norm.weight"] + state["norm.bias"]
    np.testing.assert_allclose(model(x).detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_kinds_have_their_own_network_and_scale(model):
    model.set_scale("image", vectors(30, 9, shift=5.0))
    assert model.scale("image")[0].mean() > 4
    assert torch.equal(model.scale("text")[0], torch.zeros(6))
    assert model(vectors(2, 9), kind="image").shape == (2, 3, 8)


def test_a_constant_dimension_does_not_explode(model):
    train = vectors(20, 6)
    train[:, 2] = 0.25
    model.set_scale("text", train)
    assert float(model.scale("text")[1][2]) == pytest.approx(SMALLEST_DEVIATION)
    assert torch.isfinite(model(vectors(2, 6))).all()


def test_empty_tokens_are_learned_and_the_same_for_all(model):
    empty = model.empty(5)
    assert empty.shape == (5, 3, 8)
    assert torch.equal(empty[0], empty[4])
    empty.square().sum().backward()
    assert model.null.grad is not None


def test_tokens_follow_the_vector_with_a_gradient(model):
    x = vectors(2, 6).requires_grad_()
    (model(x)[..., 0]).sum().backward()
    assert x.grad is not None
    assert (x.grad.abs().sum(1) > 0).all()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 0), (torch.float16, 5e-3)])
def test_files_give_the_same_tokens(model, tmp_path, dtype, tolerance):
    model.set_scale("text", vectors(40, 6, scale=0.05, shift=0.3))
    model.save_folder(tmp_path, dtype)
    again = VectorConditioner.from_folder(tmp_path)
    assert again.config == model.config
    assert {p.dtype for p in again.parameters()} == {torch.float32}
    x = vectors(4, 6, seed=1, scale=0.05, shift=0.3)
    assert (again(x) - model(x)).abs().max() <= tolerance
    assert (again.empty(1) - model.empty(1)).abs().max() <= tolerance


def test_loading_leaves_the_global_generator_alone(model, tmp_path):
    model.save_folder(tmp_path)
    before = torch.random.get_rng_state()
    VectorConditioner.from_folder(tmp_path)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_wrong_input_is_refused(model):
    with pytest.raises(DataError, match="kind of vector"):
        model(vectors(2, 6), kind="sound")
    with pytest.raises(DataError, match=r"efficientnet-lite0"):
        model(vectors(2, 6), kind="image")
    with pytest.raises(DataError, match="text vectors"):
        model(vectors(2, 6)[0])
    with pytest.raises(DataError, match="positive sizes"):
        VectorConditioner({}, tokens=1)
    with pytest.raises(DataError, match="positive sizes"):
        VectorConditioner(KINDS, tokens=0)


def test_files_that_do_not_fit_are_refused(model, tmp_path):
    model.save_folder(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    write_json(tmp_path / "config.json", {**config, "tokens": 4})
    with pytest.raises(ArtefactError, match="does not fit"):
        VectorConditioner.from_folder(tmp_path)
    write_json(tmp_path / "config.json", {"tokens": 4})
    with pytest.raises(ArtefactError, match="does not describe"):
        VectorConditioner.from_folder(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    write_json(tmp_path / "config.json", config)
    with pytest.raises(ArtefactError, match="missing"):
        VectorConditioner.from_folder(tmp_path)
