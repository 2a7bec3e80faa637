"""Read-in layers: one map per subject, from the identity."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from phosphene.encoders.atms import ATMSEncoder
from phosphene.encoders.eegproject import EEGProject
from phosphene.encoders.mlp import MLP
from phosphene.encoders.subject import SubjectReadIn, _gathered, _grouped
from phosphene.errors import DataError


def test_begins_as_the_encoder_alone() -> None:
    torch.manual_seed(0)
    encoder = EEGProject(5, 20, 8).eval()
    x = torch.randn(4, 5, 20)
    read_in = SubjectReadIn(encoder, 5, 3).eval()
    torch.testing.assert_close(read_in(x, subject=torch.tensor([2, 0, 1, 2])), encoder(x))


@pytest.mark.parametrize("times", [None, 1, 6])
@pytest.mark.parametrize("width", [4, 7])
def test_each_trial_gets_the_map_of_its_subject(times: int | None, width: int) -> None:
    torch.manual_seed(0)
    read_in = SubjectReadIn(nn.Flatten(), 5, 3, width).double()
    nn.init.normal_(read_in.weight)
    shape = (8, 5) if times is None else (8, 5, times)
    x = torch.randn(shape, dtype=torch.float64)
    subject = torch.tensor([1, 1, 0, 1, 0, 1, 1, 0])  # nobody is subject 2
    expected = torch.stack([read_in.weight[s] @ row for s, row in zip(subject, x, strict=True)])
    torch.testing.assert_close(read_in(x, subject=subject), expected.flatten(1))
    wide = x if x.ndim == 3 else x[:, :, None]
    ways = [mix(wide, read_in.weight, subject) for mix in (_grouped, _gathered)]
    torch.testing.assert_close(*ways)
    weights = torch.randn_like(ways[0])
    grads = [torch.autograd.grad((way * weights).sum(), read_in.weight)[0] for way in ways]
    torch.testing.assert_close(*grads)
    assert not grads[0][2].any()


def test_another_width_begins_orthonormal_and_alike() -> None:
    read_in = SubjectReadIn(MLP(6, None, 8, width=16), 20, 2, 6)
    assert torch.equal(read_in.weight[0], read_in.weight[1])
    torch.testing.assert_close(
        read_in.weight[0] @ read_in.weight[0].T, torch.eye(6), atol=1e-5, rtol=0
    )
    assert read_in(torch.randn(3, 20), subject=torch.tensor([0, 1, 1])).shape == (3, 8)


def test_unseen_subjects_need_a_map() -> None:
    read_in = SubjectReadIn(nn.Flatten(), 2, 1).eval()
    x = torch.ones(2, 2, 1)
    subject = torch.tensor([-1, 0])
    with pytest.raises(DataError, match=r"decoder\.adapt"):
        read_in(x, subject=subject)
    with pytest.raises(DataError, match=r"not told the subjects[\s\S]*subject=subject"):
        read_in(x)
    with pytest.raises(DataError, match=r"\(batch, 2\)"):
        read_in(x[:, :1], subject=subject)
    names = set(read_in.state_dict())
    read_in.unseen = 3 * torch.eye(2)
    torch.testing.assert_close(read_in(x, subject=subject), torch.tensor([[3.0, 3.0], [1.0, 1.0]]))
    assert set(read_in.state_dict()) == names
    with pytest.raises(DataError, match="needs channels and subjects"):
        SubjectReadIn(nn.Flatten(), 2, 0)


def test_subjects_reach_the_encoder_behind() -> None:
    torch.manual_seed(0)
    encoder = ATMSEncoder(5, 80, 8, n_subjects=2).eval()
    x, subject = torch.randn(3, 5, 80), torch.tensor([1, 0, 1])
    read_in = SubjectReadIn(encoder, 5, 2).eval()
    torch.testing.assert_close(read_in(x, subject=subject), encoder(x, subject=subject))
    assert not torch.allclose(read_in(x, subject=subject), encoder(x))
