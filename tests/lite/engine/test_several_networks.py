"""Several networks in one pipeline: what they share, the order they are named in, and what one that fails leaves."""

from contextlib import nullcontext

import numpy as np
import pytest

from lite.engine.pipeline import Pipeline
from lite.errors import ConfigError, ModelError
from lite.label_sets import LabelSet

WHITE = 255


def test_one_of_each_kind(fake, fake_pose, fake_detector, picture):
    labels, classes = fake("segment"), fake("classify")
    pipeline = Pipeline([fake_pose, labels, classes], fake_detector)
    frames = [picture(n, 96 + n, 120, brightness=212) for n in (0, 2, 1)]
    results = pipeline.results(frames)
    assert fake_detector.batches == [3]  # once, for both networks that take boxes
    for people, frame, result in zip((0, 2, 1), frames, results):
        record = result.record
        assert len(record.people) == people and record.classes[0]["name"] == "light" and record.error is None
        assert all(len(person["keypoints"]) == 17 and person["areas"]["skin"] for person in record.people)
        assert result.label_map.shape == frame.shape[:2] and record.areas is None
    assert [line.split(":")[0] for line in pipeline.describe()] == ["keypoints", "labels", "classes", "detector"]
    pipeline.close()
    assert all(network.closed for network in (fake_pose, labels, classes, fake_detector))


def test_the_order_of_networks_changes_nothing(fake, fake_pose, fake_detector, picture):
    frames = [picture(2, brightness=150), picture(0), picture(1, 50, 70)]
    networks = [fake_pose, fake("segment"), fake("classify")]
    one, other = (Pipeline(given, fake_detector).results(frames) for given in (networks, networks[::-1]))
    assert [result.record for result in one] == [result.record for result in other]
    assert all((a.label_map == b.label_map).all() for a, b in zip(one, other))


def test_without_a_detector_boxes_are_whole_frames_and_labels_are_of_frames(fake, fake_pose, picture):
    (result,) = Pipeline([fake("segment"), fake_pose], "none").results([picture(0, 40, 60, brightness=212)])
    (person,) = result.record.people
    assert person["bbox"] == [[0, 0, 60, 40]] and "areas" not in person
    assert sum(result.record.areas.values()) == 2400 and result.record.areas["skin"] > 2200


def test_keypoints_and_labels_take_the_built_in_detector(fake, fake_pose, fake_detector, monkeypatch):
    opened = []
    monkeypatch.setattr("lite.engine.pipeline.open_backend", lambda model, **_: opened.append(model) or fake_detector)
    Pipeline([fake("segment"), fake_pose])
    assert opened == ["person-nano"]
    for alone in ("segment", "classify", "pose-bottom-up"):
        assert Pipeline(fake(alone)).person is None
        assert Pipeline(fake(alone), "none").person is None
    assert len(opened) == 1


def test_people_bottom_up_with_labels(fake, fake_detector, picture):
    frames = [picture(2, 96, 96, brightness=212), picture(0, 96, 96, brightness=212)]
    network = fake("pose-bottom-up")
    for models in ([network, fake("segment")], [fake("segment"), network]):
        crowd, empty = Pipeline(models, pictures=frozenset({"tags"})).results(frames)
        assert len(crowd.record.people) == 2 and empty.record.people == [] and "tags" in crowd.pictures
        assert crowd.record.areas["skin"] > 9000 and all("areas" not in person for person in crowd.record.people)
    # With a detector its boxes are other people than those found bottom-up: areas are of the picture.
    frames[0][0, 0] = frames[1][0, 0] = (3, 0, 0)
    crowd, _ = Pipeline([network, fake("segment")], fake_detector).results(frames)
    assert len(crowd.record.people) == 3 and all("areas" not in person for person in crowd.record.people)
    assert 0 < crowd.record.areas["skin"] < 5000 and crowd.record.areas["background"] == (crowd.label_map == 0).sum()


@pytest.mark.parametrize("order", [1, -1])
def test_what_the_others_found_stays_when_one_fails(fake, fake_detector, fake_pose, picture, monkeypatch, order):
    """Keypoints of the first picture, labels and classes of the white one, everything of the last."""
    run = fake_pose.run

    def overflow(pixels):
        raw = run(pixels)
        raw["scores"][0] = np.inf
        return raw

    monkeypatch.setattr(fake_pose, "run", overflow)
    networks = [fake_pose, fake("segment"), fake("classify")][::order]
    first, white, last = Pipeline(networks, fake_detector).results(
        [picture(2, brightness=212), picture(1, brightness=WHITE), picture(1, brightness=212)]
    )
    assert first.record.error == "the pose network gave values that are not finite; try --mode float32"
    assert first.record.people == [] and first.record.classes and first.label_map.any()
    assert white.record.error.startswith("the segmentation and classification networks gave values")
    assert len(white.record.people) == 1 and white.record.people[0]["keypoints"]
    assert white.record.classes is None and white.label_map is None and "areas" not in white.record.people[0]
    assert last.record.error is None and last.record.people[0]["areas"] and last.record.classes


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        (["segment", "segment"], "expected networks of different kinds, found two of one among fake-segment, fake-seg"),
        (["classify", "segment", "classify"], "two of one among"),
        (["pose", "pose-bottom-up"], "two of one among fake-pose, fake-pose-bottom-up"),
    ],
)
def test_two_of_a_kind_are_refused_and_closed(fake, fake_pose, kinds, message):
    networks = [fake_pose if kind == "pose" else fake(kind) for kind in kinds]
    with pytest.raises(ConfigError, match=message):
        Pipeline(networks, "none")
    assert all(network.closed for network in networks)


def test_what_is_asked_must_fit_the_networks(fake, fake_pose, fake_detector):
    labels = LabelSet(name="x", names=("a", "b"), palette=((1, 1, 1), (2, 2, 2)), swaps=())
    with pytest.raises(ConfigError, match="labels: expected a segmentation network to name the classes of, found none"):
        Pipeline(fake_pose, "none", labels=labels)
    with pytest.raises(ConfigError, match="draw: heatmaps are pictures of bottom-up networks, found none"):
        Pipeline(fake_pose, "none", pictures=frozenset({"heatmaps"}))
    for alone in ("classify", "pose-bottom-up"):
        network = fake(alone)
        with pytest.raises(ConfigError, match=f"detector: fake-{alone} takes whole pictures; leave the detector out"):
            Pipeline(network, fake_detector)
        assert network.closed
    with pytest.raises(ModelError, match="fake-detector: expected a network for keypoints, segmentation or classif"):
        Pipeline([fake("segment"), fake_detector])


def test_stages_of_several_networks_have_their_names(fake, fake_pose, fake_detector, picture):
    stages = []

    def clock(stage):
        stages.append(stage)
        return nullcontext()

    Pipeline([fake_pose, fake("segment"), fake("classify")], fake_detector).results([picture(1)], clock)
    assert stages == [
        "detect",
        *(f"keypoints: {stage}" for stage in ("crop", "forward", "assemble")),
        *(f"labels: {stage}" for stage in ("crop", "forward", "label")),
        *(f"classes: {stage}" for stage in ("resize", "forward", "assemble")),
        "records",
    ]
    stages.clear()
    Pipeline(fake("pose-bottom-up"), pictures=frozenset({"tags"})).results([picture(1)], clock)
    assert stages == ["resize", "forward", "group", "draw maps", "records"]
    stages.clear()
    Pipeline(fake("segment")).results([picture(1)], clock)
    assert stages == ["resize", "forward", "label", "records"]
