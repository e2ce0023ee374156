"""Class activation maps against captum and torchcam, on networks with random weights.

captum's Grad-CAM averages gradients over places, so that times the number of places it is CAM. torchcam has CAM itself. In
float64 the maps agree to 1e-12 of their largest value, in float32 to 1e-6.
"""
import pytest
import torch
from scipy import ndimage
from torch import nn
from torchvision.models import resnet18

from pag_companion.cam import cam, grad_cam, gradient_map
from pag_companion.models import build

from .test_attacks import peer

pytestmark = pytest.mark.filterwarnings("ignore")
CLOSE = {torch.float32: 1e-6, torch.float64: 1e-12}
CLASSES = [0, 6, 3, 3]


def network(name, dtype):
    "Build a network with random weights, its layer with the last map and its classifier."
    torch.manual_seed(0)
    model = (resnet18(num_classes=7) if name == "torchvision"
             else build(name, 7, mean=(.4, .5, .6), std=(.2, .3, .4))).to(dtype).eval()
    inner = getattr(model, "network", model)
    layer = {"torchvision": "layer4", "resnet18-s1": "layer4", "wrn-10-1": "relu",
             "map-8-16-32": "features", "fast-8-16-32": "stages"}[name]
    return model, torch.rand(4, 3, 64, 64, dtype=dtype), getattr(inner, layer), inner.fc


def agree(ours, theirs):
    "Compare two maps, by the largest value of all."
    largest = theirs.abs().max()
    return (ours.shape == theirs.shape and largest > 0 and (ours - theirs).abs().max()
            <= CLOSE[ours.dtype] * largest)


@pytest.fixture(scope="module")
def captum():
    return peer("captum.attr")


@pytest.fixture(scope="module")
def torchcam():
    return peer("torchcam.methods")


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("name", ["torchvision", "resnet18-s1", "wrn-10-1", "map-8-16-32", "fast-8-16-32"])
def test_grad_cam_is_captums(captum, name, dtype):
    model, x, layer, _ = network(name, dtype)
    theirs = captum.LayerGradCam(model, layer).attribute(x.clone(), target=CLASSES).squeeze(
        1).detach()
    assert agree(grad_cam(model, x, CLASSES), theirs) and (theirs < 0).any()
    assert agree(cam(model, x, CLASSES), theirs * theirs[0].numel())


@pytest.mark.parametrize("layer", ["network.layer2", "network.layer3.0.conv2"])
def test_grad_cam_of_other_layers_is_captums(captum, layer):
    model, x, *_ = network("resnet18-s1", torch.float64)
    theirs = captum.LayerGradCam(model, model.get_submodule(layer)).attribute(
        x.clone(), target=CLASSES).squeeze(1).detach()
    assert agree(grad_cam(model, x, CLASSES, layer), theirs)


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("name", ["torchvision", "resnet18-s1", "wrn-10-1", "map-8-16-32", "fast-8-16-32"])
def test_cam_is_torchcams(torchcam, name, dtype):
    model, x, layer, classifier = network(name, dtype)
    with torchcam.CAM(model, layer, classifier) as extractor, torch.no_grad():
        model(x)
        theirs = extractor(CLASSES, normalized=False)[0]
    assert agree(cam(model, x, CLASSES), theirs)


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("name", ["torchvision", "wrn-10-1", "fast-8-16-32"])
def test_grad_cam_cut_at_zero_is_torchcams(torchcam, name, dtype):
    model, x, layer, _ = network(name, dtype)
    with torchcam.GradCAM(model, layer) as extractor:
        theirs = extractor(CLASSES, model(x), normalized=False)[0]
    assert agree(grad_cam(model, x, CLASSES).clamp_min(0), theirs)


@pytest.mark.parametrize("dtype", CLOSE)
def test_gradient_map_is_captums_saliency_smoothed_by_scipy(captum, dtype):
    model, x, *_ = network("resnet18-s1", dtype)
    loss = lambda x: nn.functional.cross_entropy(model(x), torch.tensor(CLASSES), reduction="none")  # noqa: E731
    raw = captum.Saliency(loss).attribute(x.clone(), abs=True).mean(1).double()
    expected = []
    for one in raw.numpy():
        low, high = torch.from_numpy(one).flatten().quantile(
            torch.tensor([.02, .98], dtype=torch.double))
        one = ndimage.uniform_filter(one.clip(low, high), 3, mode="reflect")
        expected.append(torch.from_numpy(ndimage.gaussian_filter(one, 3 * 64 / 224,
                                                                 mode="reflect")))
    assert agree(gradient_map(model, x, CLASSES), torch.stack(expected).to(dtype))
