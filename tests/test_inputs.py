"""What a user may give, tried at random: good input passes, bad input is refused by a UserError that names it; nothing in between.

The readers are those of labels, boxes, radii, seeds, counts, statistics, a file's labels, and of the settings of every experiment.
"""
import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pag_companion.attacks import L2, Linf
from pag_companion.boxes import LocProtocol, box_hits, frame_boxes, localization
from pag_companion.checks import check_images, read_labels
from pag_companion.core.numbers import UserError, parse_eps, read_flag, read_seed, whole_number
from pag_companion.data import Images
from pag_companion.user_files import check_numbering
from pag_companion.lab.experiment import experiments
from pag_companion.lab.sweep import spread
from pag_companion.models import build

settings.register_profile("inputs", database=None, deadline=None, derandomize=True, max_examples=60)
settings.load_profile("inputs")

PLAIN = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8))
ANYTHING = st.one_of(PLAIN, st.lists(PLAIN, max_size=3), st.dictionaries(st.text(max_size=3), PLAIN, max_size=2),
                     st.integers(-9, 300).map(np.int64), st.floats(-1, 2).map(np.float32), st.floats(0, 1).map(torch.tensor))


def refused(call, *named):
    "Expect a UserError with all these texts; give its message."
    with pytest.raises(UserError) as error:
        call()
    message = str(error.value)
    assert all(text in message for text in named), f"{message!r} should hold {named}"
    return message


def read_or_refused(call, name):
    "Read, or be refused by name; any other error fails."
    try:
        return True, call()
    except UserError as error:
        assert name in str(error), f"{str(error)!r} does not name {name!r}"
        assert len(str(error)) > len(name) + 10
        return False, None


CONTAINERS = (list, np.array, torch.tensor, np.uint16, np.int32, lambda y: torch.tensor(y, dtype=torch.int32))


@given(st.lists(st.integers(0, 999), min_size=1, max_size=12), st.sampled_from(CONTAINERS))
def test_labels_are_read_from_whatever_holds_them(y, container):
    assert read_labels(container(y), len(y)).tolist() == y


@given(st.integers(2, 9), st.data())
def test_labels_of_other_shapes_are_refused(n, data):
    shape = data.draw(st.sampled_from([(n, 1), (1, n), (n, n), (n, 10), (n + 1,), (n - 1,), (n, 1, 1), ()]))
    values = data.draw(st.sampled_from([torch.zeros, torch.ones]))(shape, dtype=torch.int64)
    for name in ("labels", "predictions"):
        refused(lambda: read_labels(values, n, name), name, str(tuple(shape)), f"one class an image, {n}")


@given(st.integers(1, 9), st.sampled_from([torch.float32, torch.float64, torch.bool, torch.bfloat16]))
def test_labels_that_are_no_whole_numbers_are_refused(n, dtype):
    refused(lambda: read_labels(torch.ones(n, dtype=dtype), n), str(dtype), "whole numbers")


@given(st.integers(1, 9), ANYTHING)
def test_labels_of_any_kind_are_read_or_refused(n, values):
    good, read = read_or_refused(lambda: read_labels(values, n), "labels")
    assert not good or (read.shape == (n,) and read.dtype == torch.int64 and read.min() >= 0)


@given(st.integers(2, 6), st.data())
def test_localization_counts_images_not_pairs(n, data):
    maps, boxes = torch.rand(n, 8, 8), torch.tensor([[0., 0, 8, 8]]).repeat(n, 1)
    y, p = (torch.tensor(data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))) for _ in range(2))
    score = localization(maps, boxes, y, p, LocProtocol(threshold=0.))["top1_acc"]
    assert (score.correct, score.total) == (int((y == p).sum()), n)
    wrong = data.draw(st.sampled_from([(boxes, y[:, None], p), (boxes, y, p[:, None]), (boxes, y, torch.rand(n, n)), (boxes[:, None], y, p),
                                       (boxes, y.double(), p), (boxes.T.contiguous() if n != 4 else boxes[:3], y, p)]))
    refused(lambda: localization(maps, *wrong, LocProtocol(threshold=0.)))
    refused(lambda: box_hits(boxes[:, None], boxes, LocProtocol()), "shape")


SIZES = st.tuples(st.integers(4, 300), st.integers(4, 300))     # height, width


@st.composite
def boxed(draw):
    "Draw an image size and a box inside."
    height, width = draw(SIZES)
    x0, y0 = draw(st.floats(0, width - 2)), draw(st.floats(0, height - 2))
    return (height, width), [x0, y0, draw(st.floats(x0 + 1, width)), draw(st.floats(y0 + 1, height))]


@given(boxed(), st.sampled_from(["default", "wsoleval_v1"]), st.integers(8, 64))
def test_boxes_inside_are_carried_into_the_frame(drawn, name, side):
    size, box = drawn
    moved = frame_boxes([box], size, LocProtocol.preset(name), side)
    assert moved.shape == (1, 4) and moved.min() >= 0 and moved.max() <= side + 1e-6
    images = Images(torch.zeros(1, 1, *size, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64), ("a",), "s", "test", torch.tensor([box]))
    assert len(images) == 1


@given(boxed(), st.integers(0, 3), st.sampled_from(["outside", "empty", "nan"]), st.floats(1.5, 500))
def test_boxes_outside_or_empty_are_refused(drawn, edge, fault, far):
    (height, width), box = drawn
    if fault == "outside":
        box[edge] = -far if edge < 2 else (width, height)[edge - 2] + far
    elif fault == "empty":
        box[2 + edge % 2] = box[edge % 2]
    else:
        box[edge] = math.nan
    refused(lambda: frame_boxes([box], (height, width), LocProtocol(), 64), "x0", "y1" if fault != "nan" else "nan")
    refused(lambda: Images(torch.zeros(1, 1, height, width, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64), ("a",), "s", "test",
                           torch.tensor([box])), "row 0", f"x1 <= {width}", f"y1 <= {height}")


@given(st.integers(0, 254), st.sampled_from(["{}/255", "{} / 255", " {}/255 "]))
def test_radii_in_255ths_are_read(k, form):
    assert parse_eps(form.format(k)) == k / 255 == Linf(form.format(k)).eps


@given(st.floats(0, .999), st.sampled_from([float, np.float64, repr, str]))
def test_radii_as_decimals_are_read(eps, form):
    assert parse_eps(form(eps), color=False) == eps


@given(ANYTHING, st.sampled_from(["linf", "l2", "sigma"]))
def test_a_radius_is_read_or_refused_with_its_value(value, norm):
    good, eps = read_or_refused(lambda: parse_eps(value, norm=norm), f"eps = {value!r}")
    assert not good or (type(eps) is float and math.isfinite(eps) and 0 <= eps and (norm != "linf" or eps < 1))
    for ball in (Linf, L2):
        read_or_refused(lambda: ball(value), repr(value))


@given(st.integers(0, 2 ** 64 - 1))
def test_seeds_that_torch_takes_are_read(seed):
    assert read_seed(seed) == seed
    torch.Generator().manual_seed(read_seed(seed))


@given(st.one_of(st.integers(max_value=-1), st.integers(min_value=2 ** 64), st.floats(), st.text(), st.booleans(), st.none()))
def test_other_seeds_are_refused(seed):
    refused(lambda: read_seed(seed), f"seed = {seed!r}", "whole number", "2**64 - 1")
    refused(lambda: experiments()["zero_shot"].Settings.read({"seed": seed}), f"seed = {seed!r}", "whole number")


@given(st.integers(0, 50), st.integers(0, 50), st.sampled_from(["{}-{}", "{} - {}", " {}-{} "]))
def test_a_range_of_seeds_is_read_or_turned_round(first, last, form):
    text = form.format(first, last)
    if first <= last:
        assert spread("seed", text) == list(range(first, last + 1))
    else:
        refused(lambda: spread("seed", text), f"seed = {text!r}", "empty range", f"write {last}-{first}")


@given(ANYTHING, st.integers(0, 8))
def test_counts_and_flags_are_what_they_say(value, least):
    good, count = read_or_refused(lambda: whole_number(value, "n", least), f"n = {value!r}")
    assert good == (isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value >= least) and (not good or type(count) is int)
    good, flag = read_or_refused(lambda: read_flag(value, "f"), f"f = {value!r}")
    assert good == isinstance(value, bool)


@given(st.lists(st.floats(0, 1), min_size=3, max_size=3), st.lists(st.floats(.01, 1), min_size=3, max_size=3),
       st.sampled_from([list, tuple, np.array, lambda v: torch.tensor(v, dtype=torch.float64)]))
def test_statistics_in_image_units_are_read(mean, std, form):
    config = build("fast-8-8-8", mean=form(mean), std=form(std)).config
    assert (config["mean"], config["std"]) == (mean, std)


@given(st.lists(st.floats(1.01, 255), min_size=3, max_size=3))
def test_statistics_of_bytes_are_refused(values):
    refused(lambda: build("fast-8-8-8", mean=values, std=[.2] * 3), "mean", "divide by 255")
    refused(lambda: build("fast-8-8-8", mean=[.5] * 3, std=values), "std", "divide by 255")


@given(st.floats(1e-7, .009), st.booleans())
def test_pixels_just_outside_are_named_with_their_excess(beyond, above):
    x = torch.full((1, 1, 2, 2), .5, dtype=torch.float64)
    x[0, 0, 0, 0] = 1 + beyond if above else -beyond
    refused(lambda: check_images(x), "clamp(0, 1)", f"{beyond:.2g}")


@given(st.integers(1, 12), st.randoms(use_true_random=False))
def test_labels_from_0_without_gaps_pass(n, random):
    y = list(range(n)) * 2
    random.shuffle(y)
    check_numbering({"train": np.array(y), "test": np.array(y[:n // 2 + 1])}, "mine.npz")


@given(st.integers(2, 12), st.data())
def test_labels_from_1_with_gaps_or_marks_are_refused(n, data):
    y = np.array(list(range(n)) * 2, dtype=np.int64)
    fault = data.draw(st.sampled_from(["from 1", "gap", "mark", "test"]))
    train, test = y.copy(), y[:n].copy()
    if fault == "from 1":
        train, test = train + 1, test + 1
    elif fault == "gap":
        train, test = (np.where(part == n - 1, n + data.draw(st.integers(0, 9)), part) for part in (train, test))
    elif fault == "mark":
        train[0] = data.draw(st.sampled_from([255, 65535, 2 ** 31 - 1, 2 ** 62]))
        assume(n < 200)
    else:
        test[0] = n
    refused(lambda: check_numbering({"train": train, "test": test}, "mine.npz"), "mine.npz",
            {"from 1": "no image of class 0: labels count from 0", "test": "y_train has no image"}.get(fault, "number the classes 0 to"))


FLAT = {name: experiment.Settings for name, experiment in experiments().items()}


@pytest.mark.parametrize("experiment", FLAT)
@settings(max_examples=150)
@given(data=st.data())
def test_every_setting_is_read_or_refused_by_name(experiment, data):
    kind = FLAT[experiment]
    names = sorted(kind.defaults(kind.DATASETS[0], "smoke"))
    name, value = data.draw(st.sampled_from(names)), data.draw(ANYTHING)
    options = {name: value} | ({"method": "at"} if name in ("eps", "attack", "attack_steps", "attack_reach") else {})
    good, read = read_or_refused(lambda: kind.read(options), name)
    if good:
        assert kind.read(read.flat()).flat() == read.flat()      # as a record holds them, they read back as they are


@given(st.text(min_size=1, max_size=12))
def test_a_setting_that_does_not_exist_is_refused_by_name(name):
    kind = FLAT["zero_shot"]
    assume(name not in kind.defaults("mnist", "smoke"))
    refused(lambda: kind.read({name: 1}), repr(name))
