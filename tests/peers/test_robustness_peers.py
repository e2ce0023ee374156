"""Robust accuracy against torchattacks: image for image, and AutoAttack leaves everything as it was."""
import pytest
import torch

from pag_companion.attacks import L2, Linf
from pag_companion.data import load
from pag_companion.models import build
from pag_companion.auto_attack import auto_attack_accuracy
from pag_companion.robustness import accuracy, robust_accuracy
from pag_companion.training import Recipe, train

from .test_attacks import peer, torchattacks  # noqa: F401 (a fixture)

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = build("madry_cnn", in_channels=1, image_size=8)
    train(model, load("digits", "train"), Recipe("at", .1, unit=1), steps=150, batch_size=64,
          device="cpu", precision="float32", progress=False)
    model.zero_grad()
    return model


def still_correct(model, attack, images):
    "Which images a model still classifies correctly after a torchattacks attack on all of them at once."
    model.eval()
    attacked = attack(images.x, images.y)
    with torch.no_grad():
        return (model(attacked).argmax(1) == images.y).numpy()


@pytest.mark.parametrize("eps", [.05, .1, .15])
@pytest.mark.parametrize("batch_size", [64, 500])
def test_last_is_a_torchattacks_loop_image_by_image(model, torchattacks, eps, batch_size):  # noqa: F811
    images = load("digits", "test", limit=200)
    torch.manual_seed(3)
    theirs = still_correct(model, torchattacks.PGD(model, eps=eps, alpha=.25 * eps, steps=10,
                                                   random_start=True), images)
    torch.manual_seed(3)
    ours = robust_accuracy(model, images, Linf(eps), steps=10, batch_size=batch_size)
    assert (ours.hits == theirs).all() and 10 < ours.correct < accuracy(model, images).correct


def test_auto_attack_is_seeded_strict_and_leaves_no_trace(model, torchattacks):  # noqa: F811
    images, drawn = load("digits", "test", limit=15), torch.get_rng_state()
    model.train()
    auto = auto_attack_accuracy(model, images, Linf(.15))
    assert (torch.get_rng_state() == drawn).all() and model.training
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert (auto.hits == auto_attack_accuracy(model, images, Linf(.15)).hits).all()
    strict = robust_accuracy(model, images, Linf(.15), steps=50, restarts=2, success="any",
                             generator=torch.Generator().manual_seed(0))
    assert auto.correct <= strict.correct
    assert auto_attack_accuracy(model, images, Linf(0)).correct == accuracy(model, images).correct


def test_auto_attack_knows_both_norms(model, torchattacks):  # noqa: F811
    images = load("digits", "test", limit=15)
    model.eval()
    scores = [auto_attack_accuracy(model, images, L2(eps), version="rand").correct
              for eps in (.05, .3, 1.5)]
    assert scores == sorted(scores, reverse=True) and scores[0] > scores[-1]
    with pytest.raises(ValueError, match="not a threat model"):
        auto_attack_accuracy(model, images, .1)
