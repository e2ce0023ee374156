"""Random squares against torchattacks' Square: two random searches of one kind must find about the same."""
import pytest
import torch

import pag_companion.pag_targets  # noqa: F401 (registers pag_cnn)
from pag_companion.pag_checks import square_attack
from pag_companion.data import load
from pag_companion.models import build
from pag_companion.robustness import accuracy
from pag_companion.training import Recipe, train

from .test_attacks import peer, torchattacks  # noqa: F401 (a fixture)

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("eps", [.05, .1])
def test_square_finds_what_torchattacks_finds(torchattacks, eps):  # noqa: F811
    torch.manual_seed(0)
    model = build("pag_cnn", in_channels=1, image_size=8)
    recipe = Recipe("at", .1, unit=1, lr=2e-3)
    train(model, load("digits", "train"), recipe, steps=200, batch_size=64, device="cpu", precision="float32", progress=False)
    images = load("digits", "test", limit=100)
    attack = torchattacks.Square(model, norm="Linf", eps=eps, n_queries=300, n_restarts=1, p_init=.8, loss="margin", seed=0)
    with torch.no_grad():
        theirs = int((model(attack(images.x, images.y)).argmax(1) == images.y).sum())
    start = torch.Generator().manual_seed(0)
    ours = accuracy(model, images, change=lambda x, y: square_attack(model, x, y, eps, queries=300, generator=start)).correct
    clean = accuracy(model, images).correct
    assert abs(ours - theirs) <= 5, (ours, theirs, clean)
    assert ours < clean
