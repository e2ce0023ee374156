"""Attributions against captum, on networks with random weights.

With biases, our integrated gradients are captum's, step for step, by both rules; so is input × gradient. Without biases,
captum's integrated gradients are our X-gradient, which takes one pass: to 1e-12 of their sum in float64. captum keeps
Gauss and Legendre's places in float32; where they matter, 1e-7 is asked for.
"""
import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from pag_companion.attribution import class_gradient, homogeneous, input_x_gradient, integrated_gradients, order, origin, x_gradient
from pag_companion.attribution import Squared
from pag_companion.models import build

from .test_attacks import peer

pytestmark = pytest.mark.filterwarnings("ignore")
CLOSE = {torch.float32: 1e-4, torch.float64: 1e-12}
NETWORKS = ["madry_cnn", "wrn-10-1", "fast-8-16-32", "map-8-16-32", "resnet18-s1", "torchvision"]
CLASSES = torch.tensor([0, 6, 3])


def network(name, dtype):
    "Build a network with random weights, biases and running means too, and images."
    torch.manual_seed(0)
    side = {"madry_cnn": 28}.get(name, 32)
    model = resnet18(num_classes=7) if name == "torchvision" else build(name, 7, mean=(.4, .5, .6), std=(.2, .3, .4))
    for key, tensor in model.state_dict().items():
        if key.endswith(("bias", "running_mean")):
            tensor.uniform_(-.1, .1)
    return model.to(dtype).eval(), torch.rand(3, 3, side, side, dtype=dtype)


def apart(ours, theirs):
    "Sum up how far two attributions are apart, relative to the second."
    return ((ours - theirs).abs().sum() / theirs.abs().sum()).item()


@pytest.fixture(scope="module")
def captum():
    return peer("captum.attr")


def integrated(captum, model, x, steps, method="gausslegendre"):
    "Let captum integrate from the model's origin."
    baseline = origin(model).to(x).expand_as(x).clone()
    made = captum.IntegratedGradients(model).attribute(x.clone(), baseline, CLASSES, n_steps=steps, method=method)
    return made.detach()


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("name", NETWORKS)
def test_without_biases_captums_integral_is_one_pass(captum, name, dtype):
    model, x = network(name, dtype)
    made = homogeneous(model)
    theirs = integrated(captum, made, x, 16)
    assert order(made) == 1 and apart(x_gradient(made, x, CLASSES), theirs) < CLOSE[dtype]
    assert apart(input_x_gradient(model, x, CLASSES), integrated(captum, model, x, 16)) > 1e-3      # with biases it is not


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("rule, method", [("legendre", "gausslegendre"), ("riemann", "riemann_right")])
def test_with_biases_every_step_is_captums(captum, name, rule, method):
    model, x = network(name, torch.float64)
    close = 1e-7 if rule == "legendre" else 1e-12
    assert apart(integrated_gradients(model, x, CLASSES, 7, rule), integrated(captum, model, x, 7, method)) < close


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_are_captums(captum, name):
    model, x = network(name, torch.float64)
    away = x - origin(model)
    assert apart(class_gradient(model, x, CLASSES), captum.Saliency(model).attribute(x.clone(), CLASSES, abs=False).detach()) < 1e-12
    theirs = captum.InputXGradient(lambda moved: model(moved + origin(model))).attribute(away.clone(), CLASSES).detach()
    assert apart(input_x_gradient(model, x, CLASSES), theirs) < 1e-12


def test_orders_above_one_are_captums(captum):
    torch.manual_seed(0)
    layers = [part for _ in range(3) for part in (nn.Linear(27, 27, bias=False), Squared())]
    model, x = nn.Sequential(nn.Flatten(), *layers, nn.Linear(27, 7, bias=False)).double(), torch.rand(3, 3, 3, 3).double()
    assert order(model) == 8 and apart(x_gradient(model, x, CLASSES), integrated(captum, model, x, 16)) < 1e-7
    assert apart(input_x_gradient(model, x, CLASSES), integrated(captum, model, x, 16)) > 1
