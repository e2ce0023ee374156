"""Attacks against two independent implementations: torchattacks and foolbox.

L-infinity attacks on the CPU in float32 must be the same bit for bit. L2 attacks divide by a norm, whose rounding PGD
amplifies, so they are compared in float64: to 1e-12 with foolbox, to 1e-7 with torchattacks, which adds 1e-10 to the norm.
"""
import importlib
import os
import pytest
import torch
from torch import nn

from pag_companion.attacks import L2, Linf, fgsm, pgd

pytestmark = pytest.mark.filterwarnings("ignore")
EPS = [1 / 255, 8 / 255, .1, .3]


def peer(name):
    "Import a peer; skip without it, unless PAG_PEERS is set (as `make test` does): then it must be there."
    return (importlib.import_module(name) if os.environ.get("PAG_PEERS")
            else pytest.importorskip(name))


class Peers:
    "A small network with BatchNorm, a batch of images, and the peers' view of both."

    def __init__(self, dtype):
        torch.manual_seed(0)
        y = torch.arange(64) % 10
        x = (torch.rand(10, 1, 28, 28)[y] + .3 * torch.randn(64, 1, 28, 28)).clamp(0, 1)
        net = nn.Sequential(nn.Conv2d(1, 8, 5, stride=2), nn.BatchNorm2d(8), nn.ReLU(),
                            nn.Conv2d(8, 16, 3, stride=2),
                            nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 25, 10))
        optimizer = torch.optim.SGD(net.parameters(), lr=.02)
        for _ in range(10):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step()
        self.model, self.x, self.y = net.to(dtype).eval(), x.to(dtype), y
        self.targets = (y + 3) % 10

    def torchattacks(self, attack, targeted=False):
        "Run a torchattacks attack."
        if targeted:
            attack.set_mode_targeted_by_label(quiet=True)
        return attack(self.x, self.targets if targeted else self.y)

    def foolbox(self, attack, ball, targeted=False):
        "Run a foolbox attack and take its result before foolbox looks for successes."
        foolbox = peer("foolbox")
        model = foolbox.PyTorchModel(self.model, bounds=(0, 1), device="cpu")
        goal = foolbox.criteria.TargetedMisclassification(self.targets) if targeted else self.y
        return attack(model, self.x, goal, epsilons=ball.eps)[0]


@pytest.fixture(scope="module")
def single():
    return Peers(torch.float32)


@pytest.fixture(scope="module")
def double():
    return Peers(torch.float64)


@pytest.fixture(scope="module")
def torchattacks():
    return peer("torchattacks")


@pytest.fixture(scope="module")
def foolbox():
    return peer("foolbox")


def test_torchattacks_is_the_version_that_was_read(torchattacks):
    assert torchattacks.__version__ == "3.5.1", (
        "install torchattacks==3.5.1 with --no-deps: pip falls back to 3.3.0")


@pytest.mark.parametrize("eps", EPS)
@pytest.mark.parametrize("targeted", [False, True])
def test_fgsm_equals_torchattacks(single, torchattacks, eps, targeted):
    theirs = single.torchattacks(torchattacks.FGSM(single.model, eps=eps), targeted)
    ours = fgsm(single.model, single.x, single.targets if targeted else single.y, Linf(eps),
                targeted=targeted)
    assert torch.equal(ours, theirs) and not torch.equal(ours, single.x)


@pytest.mark.parametrize("eps", EPS)
def test_fgsm_equals_foolbox(single, foolbox, eps):
    theirs = single.foolbox(foolbox.attacks.LinfFastGradientAttack(random_start=False), Linf(eps))
    assert torch.equal(fgsm(single.model, single.x, single.y, Linf(eps)), theirs)


@pytest.mark.parametrize("alpha", [1., 1.25])
def test_fgsm_with_a_random_start_equals_torchattacks(single, torchattacks, alpha):
    torch.manual_seed(1)
    theirs = single.torchattacks(torchattacks.FFGSM(single.model, eps=.1, alpha=.1 * alpha))
    torch.manual_seed(1)
    torch.randn_like(single.x)  # FFGSM draws these and overwrites them
    alpha = None if alpha == 1.25 else .1 * alpha
    assert torch.equal(fgsm(single.model, single.x, single.y, Linf(.1), alpha=alpha,
                            random_start=True), theirs)


@pytest.mark.parametrize("steps", [1, 10, 40])
@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("random_start", [False, True])
def test_pgd_equals_torchattacks(single, torchattacks, steps, targeted, random_start):
    attack = torchattacks.PGD(single.model, eps=.1, alpha=.03, steps=steps,
                              random_start=random_start)
    torch.manual_seed(2)
    theirs = single.torchattacks(attack, targeted)
    torch.manual_seed(2)
    ours = pgd(single.model, single.x, single.targets if targeted else single.y, Linf(.1),
               steps=steps, step_size=.03,
               random_start=random_start, targeted=targeted)
    assert torch.equal(ours, theirs) and not torch.equal(ours, single.x)


@pytest.mark.parametrize("steps", [1, 10, 40])
@pytest.mark.parametrize("targeted", [False, True])
def test_pgd_equals_foolbox(single, foolbox, steps, targeted):
    attack = foolbox.attacks.LinfPGD(abs_stepsize=.03, steps=steps, random_start=False)
    theirs = single.foolbox(attack, Linf(.1), targeted)
    ours = pgd(single.model, single.x, single.targets if targeted else single.y, Linf(.1),
               steps=steps, step_size=.03,
               random_start=False, targeted=targeted)
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("steps", [1, 10, 40])
@pytest.mark.parametrize("targeted", [False, True])
def test_l2_pgd_is_foolbox_in_float64(double, foolbox, steps, targeted):
    attack = foolbox.attacks.L2PGD(abs_stepsize=.3, steps=steps, random_start=False)
    theirs = double.foolbox(attack, L2(1), targeted)
    ours = pgd(double.model, double.x, double.targets if targeted else double.y, L2(1),
               steps=steps, step_size=.3,
               random_start=False, targeted=targeted)
    assert (ours - theirs).abs().max() <= 1e-12


def test_l2_fgsm_is_foolbox_in_float64(double, foolbox):
    theirs = double.foolbox(foolbox.attacks.L2FastGradientAttack(random_start=False), L2(1))
    assert (fgsm(double.model, double.x, double.y, L2(1)) - theirs).abs().max() <= 1e-12


@pytest.mark.parametrize("random_start", [False, True])
@pytest.mark.parametrize("targeted", [False, True])
def test_l2_pgd_is_torchattacks_in_float64(double, torchattacks, random_start, targeted):
    attack = torchattacks.PGDL2(double.model, eps=1., alpha=.3, steps=10,
                                random_start=random_start)
    torch.manual_seed(3)
    theirs = double.torchattacks(attack, targeted)
    torch.manual_seed(3)
    ours = pgd(double.model, double.x, double.targets if targeted else double.y, L2(1), steps=10,
               step_size=.3,
               random_start=random_start, targeted=targeted)
    assert (ours - theirs).abs().max() <= 1e-7


def test_a_batch_in_parts_is_the_whole_bit_for_bit(single):
    attack = dict(ball=Linf(.1), steps=10, random_start=False)
    whole = pgd(single.model, single.x, single.y, **attack)
    parts = [pgd(single.model, single.x[rows], single.y[rows], **attack)
             for rows in (slice(0, 50), slice(50, 64))]
    assert torch.equal(whole, torch.cat(parts))
