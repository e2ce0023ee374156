"""Small runs whose numbers are stored: they fail when arithmetic changes and the version of its code was not raised.

After a change that is meant, raise TRAINING_VERSION (chapter 06) or CODE_VERSION (the experiment's chapter), then write the new numbers:

    python tests/test_golden.py
"""
import json
import os
import tempfile
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from pag_companion.chapters import wsol
from pag_companion.data import load
from pag_companion.lab.experiment import experiments
from pag_companion.models import build
from pag_companion.training import TRAINING_VERSION, Recipe, train

GOLDEN = Path(__file__).with_name("golden.json")
RECIPES = [Recipe(), Recipe("at", .2), Recipe("at", .2, attack="pgd", attack_steps=3),
           Recipe("noise", .2),
           Recipe("at", 8 / 255, unit=1 / 255, optimizer="sgd", lr=.05, weight_decay=5e-4,
                  augment="flip+shift")]
SHORT = dict(scale="smoke", steps=100, limit=640, test_limit=100, precision="float32", method="at",
             arch="pag_cnn", batch_size=64, optimizer="adam", lr=3e-3, augment="none")
# Colored images take longer to learn, and Adam and AT magnify rounding meanwhile: on another
# processor counts of 100 were up to 7 apart. These are the same with AVX-512 and without.
STEADY = dict(method="natural", optimizer="sgd", lr=.05)
MORE = {"robustness": dict(attack_limit=50, any_limit=20, curve_limit=20, battery_limit=20, **STEADY),
        "gradients": dict(pictures=50, **STEADY), "large_eps": dict(pictures=50, **STEADY),
        "perception": dict(test_limit=200, count=100, denoiser_steps=20, **STEADY),
        "evaluators": STEADY,
        "diffroar": dict(arch="mlp-1568-100"), "off_manifold": dict(arch="pool-gelu-8-16"),
        "wsol": dict(steps=20, batch_size=32, test_limit=50, arch="map-8-16-32",
                     **{**STEADY, "lr": .005})}
# what another processor may change: share of a loss, number of images, mean over images
LOSS, COUNT, MEAN = 2e-4, 3, .01


def losses(recipe):
    "Train a network for six steps; give the loss of each."
    images = load("glyphs" if recipe.unit == 1 else "street_glyphs", "train", limit=96)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build("madry_cnn", in_channels=images.shape[0], image_size=images.shape[-1])
    return train(model, images, recipe, steps=6, batch_size=32, device="cpu", precision="float32",
                 progress=False).losses


def training_numbers():
    "Train by every recipe."
    return {f"{recipe.label} {recipe.attack if recipe.method == 'at' else ''} {recipe.optimizer}":
            losses(recipe) for recipe in RECIPES}


WHOLE = wsol.Settings.images


def few(settings, split):
    "Load images, of those that thresholds are chosen on the first sixty."
    return WHOLE(settings, split)[:60] if split == "val" else WHOLE(settings, split)


def scores(name):
    "Run an experiment in small; give its counts and its means."
    with patch.object(wsol.Settings, "images", few):
        record = experiments()[name].run({**SHORT, **MORE.get(name, {})})
    counts = {key: [score["correct"], score["total"]] for key, score in record["scores"].items()}
    return {"counts": counts, "means": {key: value["mean"]
                                        for key, value in record.get("alignment", {}).items()
                                        if isinstance(value, dict)}}


def versions():
    "Name what numbers are stored of, with its version."
    return {"training": f"training {TRAINING_VERSION}",
            **{name: f"{name} {experiment.version}, training {TRAINING_VERSION}"
               for name, experiment in experiments().items()}}


def numbers_of(name):
    "Compute the numbers of one name on one thread."
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return training_numbers() if name == "training" else scores(name)
    finally:
        torch.set_num_threads(threads)


def stored_numbers(name):
    "Read the numbers stored for a name in its present version."
    stored = json.loads(GOLDEN.read_text())
    assert versions()[name] in stored, (
        f"no numbers are stored for {versions()[name]!r}: python tests/test_golden.py writes them")
    return stored[versions()[name]]


def apart(computed, expected):
    "List the losses that differ by more than another processor would change."
    return [(name, step) for name, values in expected.items()
            for step, (a, b) in enumerate(zip(computed[name], values)) if abs(a - b) > LOSS * b]


def test_training_computes_what_it_did():
    assert apart(training_numbers(),
                 stored_numbers(
        "training")) == [], (
        "training computes other numbers: if that is meant, raise TRAINING_VERSION in 15_training")


@pytest.mark.parametrize("changed, value", [("pag_companion.training.learning_rate", lambda step, steps, recipe: recipe.lr),
                                            ("pag_companion.attacks.Linf.random_start", lambda self, like, generator=None: torch.zeros_like(like)),
                                            ("pag_companion.augment.SHIFT", 1)])
def test_a_small_change_is_noticed(changed, value):
    with patch(changed, value):
        assert apart(training_numbers(), stored_numbers("training"))


@pytest.mark.parametrize("name", experiments())
def test_an_experiment_computes_what_it_did(name, tmp_path_factory, monkeypatch):
    monkeypatch.setenv("PAG_RUNS", str(tmp_path_factory.getbasetemp() / "golden"))
    computed, expected = numbers_of(name), stored_numbers(name)
    assert computed["counts"].keys() == expected["counts"].keys()
    far = [key for key, (correct, total) in expected["counts"].items()
           if abs(computed["counts"][key][0] - correct) > COUNT
           or computed["counts"][key][1] != total]
    far += [key for key, mean in expected["means"].items() if abs(computed["means"][key] - mean)
            > MEAN]
    assert far == [], (
        f"{name} computes other numbers: if that is meant, raise the version of its Experiment")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PAG_RUNS"] = folder
        GOLDEN.write_text(json.dumps({version: numbers_of(name)
                                      for name, version in versions().items()}, indent=1,
                                     sort_keys=True) + "\n")
    print(f"written: {GOLDEN.name}")
