"""Our objectives beside the authors' loss file, three defects of which are shown. Their file is not shipped:
PAG_OFF_MANIFOLD_PEER names a copy of utils/regularized_loss.py of tml-tuebingen/pags; without it these tests are skipped.
"""
import importlib.util
import os

import pytest
import torch
from torch.nn import functional as F

from pag_companion.data import load
from pag_companion.models import build
from pag_companion.regularizers import EuclideanAT, GradientNorm


@pytest.fixture(scope="module")
def theirs():
    "Import the authors' file."
    path = os.environ.get("PAG_OFF_MANIFOLD_PEER")
    if not path:
        pytest.skip("PAG_OFF_MANIFOLD_PEER names no copy of the authors' regularized_loss.py")
    spec = importlib.util.spec_from_file_location("pags_losses", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def network():
    torch.manual_seed(0)
    return build("pool-gelu-8-16", in_channels=1)


def batch(n):
    images = load("glyphs", "train", limit=n)
    return images.x, images.y


def test_their_ball_holds_the_whole_batch(theirs):
    net, (x, y) = network(), batch(128)
    lengths = theirs.PGDAdversarialLoss(net).pgd_l2_(net, x, y, 1., 10).flatten(1).norm(dim=1)
    ours = (EuclideanAT(1.).inputs(net, x, y) - x).flatten(1).norm(dim=1)
    assert abs(lengths.square().sum().sqrt() - 1) < 1e-4 and abs(lengths.mean() - 128 ** -.5) < .02
    assert ours.median() > .8 and ours.max() <= 1 + 1e-5


def test_their_attack_leaves_gradients_behind(theirs):
    net, (x, y) = network(), batch(16)
    theirs.PGDAdversarialLoss(net).pgd_l2_(net, x, y, 1., 3)
    assert all(parameter.grad is not None for parameter in net.parameters())
    net = network()
    EuclideanAT(1.).inputs(net, x, y)
    assert all(parameter.grad is None for parameter in net.parameters())


def test_their_gradient_norm_depends_on_the_batch(theirs):
    net, (x, y) = network(), batch(128)

    def penalties(n):
        few = x[:n].clone().requires_grad_()
        loss = theirs.GradNormRegularizedLoss(net, 1.)
        loss.compute_loss(few, y[:n])
        ours = GradientNorm(1.).loss(net, x[:n], y[:n]) - F.cross_entropy(net(x[:n]), y[:n])
        return loss.metadata["gradnorm"], ours.item()

    large, small, one = penalties(128), penalties(32), penalties(1)
    assert 12 < small[0] / large[0] < 20 and .75 < small[1] / large[1] < 1.25
    assert one[0] == pytest.approx(1e5 * one[1], rel=1e-3)
