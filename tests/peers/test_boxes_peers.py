"""Boxes against OpenCV and torchvision, the rules of the presets written out plainly, one image and one threshold at a time.

Maps are rough, smooth, flat in places, full of ties, and as noisy as a raw gradient. Boxes must be the same pixel for pixel.
"""
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from matplotlib import colormaps
from torchvision.ops import box_iou

from pag_companion.boxes import (
    PRESETS, LocProtocol, boxes_from_maps, iou, localization, max_box_acc, sweep_boxes,
    sweep_hits, sweep_overlaps, upsampled)
from pag_companion.map_boxes import cubehelix_gray

SIDE = 56
LARGEST = [name for name, protocol in PRESETS.items() if protocol.component == "largest"]


def random_maps(kind, n, seed=0):
    "Draw raw maps of a kind, float64."
    g = torch.Generator().manual_seed(seed)
    if kind == "ties":
        return torch.randint(0, 4, (n, SIDE, SIDE), generator=g).double().mul(
            torch.rand(n, SIDE, SIDE, generator=g) < .3)
    if kind == "noise":
        return torch.randn(n, SIDE, SIDE, generator=g).double().abs()
    maps = torch.randn(n, 7, 7, generator=g).double()
    if kind == "smooth":
        maps = torch.nn.functional.avg_pool2d(maps, 3, 1, 1, count_include_pad=False)
    return maps.clamp_min(0) if kind == "flat" else maps


def plain_scores(raw, interpolation):
    "Upsample a map by OpenCV and bring it to [0,1]; a constant one is black."
    how = cv2.INTER_CUBIC if interpolation == "cubic" else cv2.INTER_LINEAR
    scores = cv2.resize(raw, (SIDE, SIDE), interpolation=how)
    scores = scores - scores.min()
    return scores / scores.max() if scores.max() > 0 else scores


def plain_gray(scores, protocol):
    "Turn scores into bytes, through the color map where the peers do so."
    if protocol.quantise == "byte":
        return (scores * 255).astype(np.uint8)
    colors = (colormaps["cubehelix"](scores)[..., :3].astype(np.float32) * 255).astype(np.uint8)
    return cv2.cvtColor(colors, cv2.COLOR_RGB2GRAY)


def plain_contours(gray, share):
    "Walk around everything above a share of the maximum."
    mask = cv2.threshold(gray, int(share * np.max(gray)), 255, cv2.THRESH_BINARY)[1]
    return cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[-2]


def plain_rectangle(contour, protocol):
    x, y, width, height = cv2.boundingRect(contour)
    x1, y1 = x + width, y + height
    return [x, y, min(x1, SIDE - 1), min(y1, SIDE - 1)] if protocol.clamp_box else [x, y, x1, y1]


def plain_box(gray, share, protocol):
    "Draw the box around the contour with the largest area."
    contours = plain_contours(gray, share)
    return (plain_rectangle(max(contours, key=cv2.contourArea), protocol) if len(contours)
            else list(protocol.empty_box))


def plain_iou(a, b, plus_one, clamp):
    "Measure one overlap in plain numbers."
    more = 1 if plus_one else 0
    wide, high = min(a[2], b[2]) - max(a[0], b[0]) + more, min(a[3], b[3]) - max(a[1], b[1]) + more
    shared = max(0, wide) * max(0, high) if clamp else wide * high
    union = sum((box[2] - box[0] + more) * (box[3] - box[1] + more) for box in (a, b)) - shared
    return shared / union if union > 0 else 0.


def true_boxes(maps, seed=0):
    "Draw true boxes near what the maps show."
    g = torch.Generator().manual_seed(seed)
    boxes = (boxes_from_maps(maps, LocProtocol(threshold=.45), SIDE)
             + torch.randint(-5, 6, (len(maps), 4), generator=g))
    boxes[:, 2:] = torch.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    return boxes


@pytest.mark.parametrize("kind, n", [("rough", 1000), ("smooth", 1000), ("flat", 500), ("ties", 400), ("noise", 150)])
@pytest.mark.parametrize("name", LARGEST)
def test_boxes_are_opencvs_largest_contour(name, kind, n):
    maps = random_maps(kind, n)
    for share in (.1, .2, .55):
        protocol = replace(LocProtocol.preset(name), threshold=share)
        grays = [plain_gray(plain_scores(raw, protocol.interpolation), protocol)
                 for raw in maps.numpy()]
        theirs = [plain_box(gray, share, protocol) for gray in grays]
        assert boxes_from_maps(maps, protocol, SIDE).tolist() == theirs


@pytest.mark.parametrize("kind, n", [("rough", 25), ("smooth", 25), ("flat", 15), ("ties", 3), ("noise", 1)])
def test_the_sweep_is_the_loop_over_a_thousand_thresholds(kind, n):
    maps, protocol, shares = (random_maps(kind, n, seed=1), LocProtocol.preset("wsoleval_v1"),
                              np.arange(0, 1, .001))
    swept = sweep_boxes(maps, protocol, SIDE)[1].transpose(0, 1)
    for raw, ours in zip(maps.numpy(), swept):
        gray = plain_gray(plain_scores(raw, "cubic"), protocol)
        assert (ours[(shares * 255).astype(int)].tolist() == [plain_box(gray, share, protocol)
                                                              for share in shares])


@pytest.mark.parametrize("name", ["wsoleval_v1", "wsoleval_v2", "adl", "sibling_cam"])
def test_hits_and_max_box_acc_are_those_of_the_loop(name):
    maps, protocol = (torch.cat([random_maps(kind, 12, seed=2)
                                 for kind in ("rough", "smooth", "flat")]),
                      LocProtocol.preset(name))
    boxes, shares = true_boxes(maps), np.arange(255) / 255
    overlaps = np.empty((255, len(maps)))
    for n, (raw, truth) in enumerate(zip(maps.numpy(), boxes.tolist())):
        gray = plain_gray(plain_scores(raw, protocol.interpolation), protocol)
        for row, share in enumerate(shares):
            drawn = [plain_box(gray, share, protocol)]
            if protocol.component == "any":
                drawn = ([plain_rectangle(contour, protocol)
                          for contour in plain_contours(gray, share)] or drawn)
            overlaps[row, n] = max(plain_iou(box, truth, protocol.plus_one, protocol.iou_clamp)
                                   for box in drawn)
    assert np.array_equal(sweep_overlaps(maps, boxes, protocol, SIDE)[1].numpy(), overlaps)
    swept = sweep_hits(maps, boxes, protocol, SIDE, overlaps=(.3, .5, .7))
    assert np.array_equal(swept.hits.numpy(),
                          np.stack([overlaps >= overlap for overlap in (.3, .5, .7)]))
    best = [(overlaps >= overlap).mean(1).max() for overlap in protocol.overlaps]
    assert (.2 < np.mean(best) < 1 and max_box_acc(maps, boxes, protocol, SIDE)
            == pytest.approx(np.mean(best), abs=1e-12))
    scores = localization(maps, boxes, *torch.zeros(2, len(maps), dtype=torch.int64),
                          replace(protocol, threshold=None), SIDE)
    assert ([scores[f"max_box_acc/{overlap:g}"].value for overlap in protocol.overlaps]
            == pytest.approx(best))


def test_iou_is_torchvisions():
    g = torch.Generator().manual_seed(0)
    near = torch.rand(2, 20_000, 2, generator=g).double() * 100
    a, b = torch.cat([near, near + torch.rand(2, 20_000, 2, generator=g).double() * 80], 2)
    theirs = torch.cat([box_iou(*pair).diagonal() for pair in zip(a.split(500), b.split(500))])
    assert (iou(a, b) - theirs).abs().max() < 1e-14 and (theirs > 0).double().mean() > .3
    theirs = torch.cat([box_iou(x, y + torch.tensor([0, 0, 1, 1])).diagonal()
                        for x, y in zip((a + torch.tensor([0, 0, 1, 1])).split(500),
                                        b.split(500))])
    assert (iou(a, b, plus_one=True) - theirs).abs().max() < 1e-14


@pytest.mark.parametrize("interpolation", ["bilinear", "cubic"])
def test_upsampling_is_opencvs(interpolation):
    maps = random_maps("rough", 50)
    theirs = np.stack([plain_scores(raw, interpolation) for raw in maps.numpy()])
    assert (np.abs(upsampled(maps, LocProtocol(interpolation=interpolation), SIDE).numpy()
                   - theirs).max() < 1e-13)


def test_the_color_map_is_painted_as_matplotlib_does():
    scores = np.linspace(0, 1, 100_001)
    theirs = plain_gray(scores[None], LocProtocol(quantise="cubehelix"))[0]
    assert np.array_equal(cubehelix_gray()[np.minimum(scores * 256, 255).astype(np.uint8)], theirs)
