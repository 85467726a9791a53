"""Drawing: what, where, how large, and nothing else changed."""

import numpy as np
import pytest

from lite.draw import Style, draw
from lite.skeletons import load_skeleton
from lite.structures import Record

COCO = load_skeleton("coco17")


def _person(place=(50, 60), score=0.9, count=17):
    points = [[place[0] + 6.0 * n, place[1] + 3.0 * n] for n in range(count)]
    return {"keypoints": points, "keypoint_scores": [score] * count, "bbox": [[20, 30, 180, 170]], "bbox_score": 0.9}


def _draw(*people, parts=("skeleton",), h=200, w=220, **style):
    blank = np.zeros((h, w, 3), np.uint8)
    drawn = draw(blank, Record(source="a", people=list(people)), COCO, Style(parts=frozenset(parts), **style))
    assert not blank.any() and drawn.shape == blank.shape and drawn.dtype == np.uint8
    return drawn


def test_points_have_the_skeletons_rgb_colours():
    drawn = _draw(_person(), parts=("points",), radius=2)
    for (x, y), color in zip(_person()["keypoints"], COCO.keypoint_colors):
        assert tuple(drawn[int(y), int(x)]) == color


def test_links_join_points_and_boxes_are_boxes():
    points = _draw(_person(), parts=("points",), radius=1).any(axis=2).sum()
    assert _draw(_person(), parts=("skeleton",), radius=1).any(axis=2).sum() > points
    box = _draw(_person(), parts=("boxes",), thickness=1)
    assert box[30, 100].any() and box[100, 20].any() and not box[60, 50].any()
    both = _draw(_person(), parts=("points", "boxes"), thickness=1, radius=2)
    assert both[30, 100].any() and both[60, 50].any()


def test_nobody_and_unsure_points_change_nothing():
    assert not _draw().any()
    assert not _draw(_person(score=0.29)).any()
    assert _draw(_person(score=0.3), parts=("points",)).any()
    assert _draw(_person(score=0.29), kpt_thr=0.2).any()


def test_sizes_follow_the_picture_unless_given():
    def area(h, w, **style):
        person = _person(place=(w / 2, h / 2), count=1)
        person["bbox"] = [[0, 0, w, h]]
        return _draw(person, parts=("points",), h=h, w=w, **style).any(axis=2).sum()

    assert area(2000, 2000) > 20 * area(200, 200)
    assert area(2000, 2000, radius=3) == area(200, 200, radius=3)


@pytest.mark.parametrize("far", [1e9, -1e9, 1e30])
def test_points_far_outside_are_harmless(far):
    person = _person()
    person["keypoints"][3] = [far, far]
    _draw(person, parts=("skeleton", "boxes"))
