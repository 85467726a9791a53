"""Every kind of network in a pipeline of its own: no frame, one, many of mixed sizes, any batch size, NaN in one."""

import json

import numpy as np
import pytest

from lite.engine.map_pictures import map_pictures
from lite.engine.pipeline import Pipeline
from lite.engine.tasks import TaskOptions
from lite.errors import ConfigError
from lite.group import Grouping
from lite.label_sets import LabelSet
from lite.structures import Frame

WHITE = 255  # the fakes give NaN for it
SIZES = [(40, 30), (96, 96), (33, 64), (96, 96), (200, 20), (1, 1), (40, 30)]


@pytest.fixture
def frames(picture):
    """Frames of mixed sizes, brighter and brighter, with n % 3 people each."""
    return [picture(n % 3, *size, brightness=30 + 35 * n) for n, size in enumerate(SIZES)]


def plain(results):
    return json.dumps([vars(result.record) | {"source": 0} for result in results], allow_nan=False)


@pytest.mark.parametrize("task", ["segment", "classify", "pose-bottom-up"])
@pytest.mark.parametrize("batch_size", [1, 3, None])
def test_no_frame_one_and_many_give_the_same(fake, frames, task, batch_size):
    pipeline = Pipeline(fake(task), batch_size=batch_size)
    assert pipeline.results([]) == [] and pipeline.pose.batches == []
    together = pipeline.results(frames)
    if batch_size:
        assert max(shape[0] for shape in pipeline.pose.batches) <= batch_size
    alone = [pipeline.results([frame])[0] for frame in frames]
    assert plain(together) == plain(alone)
    for frame, one, same in zip(frames, together, alone):
        assert one.record.size_hw == frame.shape[:2] and one.record.error is None
        assert (one.label_map is None) == (task != "segment")
        if one.label_map is not None:
            assert one.label_map.shape == frame.shape[:2] and one.label_map.dtype == np.uint8
            np.testing.assert_array_equal(one.label_map, same.label_map)


@pytest.mark.parametrize("task", ["segment", "classify", "pose-bottom-up"])
@pytest.mark.parametrize("batch_size", [1, None])
def test_what_is_not_finite_is_an_error_of_its_frame_alone(fake, picture, task, batch_size):
    frames = [picture(1, brightness=brightness) for brightness in (40, WHITE, 40, WHITE, 90)]
    results = Pipeline(fake(task), batch_size=batch_size).results(frames)
    assert [result.record.error is not None for result in results] == [False, True, False, True, False]
    for result in results:
        record = result.record
        assert (result.label_map is None) == (task != "segment" or record.error is not None)
        if record.error is not None:
            assert "not finite" in record.error
            assert record.people == [] and record.areas is None and record.classes is None
    json.loads(plain(results))


def test_classes_of_frames(fake, picture):
    frames = [picture(0, brightness=brightness) for brightness in (5, 128, 250)]
    first, *_ = records = Pipeline(fake("classify"))(frames)
    assert [record.classes[0]["name"] for record in records] == ["dark", "grey", "light"]
    assert first.people == [] and first.areas is None
    assert [one["label"] for one in first.classes] == [0, 1, 2]
    (two,) = Pipeline(fake("classify"), options=TaskOptions(top=2))(frames[:1])
    assert two.classes == first.classes[:2]


def test_people_of_a_bottom_up_network_are_in_px_of_their_frames(fake, picture):
    frames = [Frame(pixels=picture(n, 128, 128 * (1 + n % 2)), source=str(n)) for n in (2, 1, 0, 3)]
    network = fake("pose-bottom-up")
    records = Pipeline(network)(frames)
    assert [len(record.people) for record in records] == [2, 1, 0, 3]
    assert sorted(network.batches) == [(2, 64, 64), (2, 64, 128)]  # frames of one shape run together
    second = records[0].people[1]
    assert second["keypoints"][3] == [16.0, 6.0] and second["keypoint_scores"][3] == 0.8
    assert second["bbox"] == [[16.0, 0.0, 16.0, 32.0]] and second["bbox_score"] == 0.8


@pytest.mark.parametrize(
    ("shapes", "batches"),
    [([(64, 64)] * 3, [(3, 64, 64)]), ([(64, 256)] * 3, [(2, 64, 256), (1, 64, 256)])],
)
def test_inputs_in_one_pass_follow_the_real_size(fake, picture, monkeypatch, shapes, batches):
    monkeypatch.setattr("lite.engine.plan.CPU_FORWARD_PX", 2 * 64 * 256)
    network = fake("pose-bottom-up")
    Pipeline(network)([picture(1, *shape) for shape in shapes])
    assert network.batches == batches


def test_labels_of_whole_frames(fake):
    pixels = np.zeros((40, 30, 3), np.uint8)
    pixels[20:, :, 0], pixels[20:, 15:, 0] = 127, 212
    for resize in ("once", "twice"):
        (result,) = Pipeline(fake("segment"), options=TaskOptions(resize=resize)).results([pixels])
        quarters = result.label_map[[5, 5, 35, 35], [5, 25, 5, 25]].tolist()
        assert quarters == [0, 0, 1, 2]
        counts = np.bincount(result.label_map.ravel()).tolist()
        assert result.record.areas == dict(zip(("background", "hair", "skin"), counts)) and sum(counts) == 1200
        assert result.record.people == []


@pytest.mark.parametrize("count", [0, 1, 3])
def test_labels_of_detected_people(fake, fake_detector, picture, count):
    """Boxes lie in a row; outside of them is background though the picture is all of class 2."""
    (result,) = Pipeline(fake("segment"), fake_detector, batch_size=2).results([picture(count, brightness=212)])
    assert len(result.record.people) == count and result.record.areas is None
    assert result.label_map.any() == bool(count) and not result.label_map[60:].any()
    for person in result.record.people:
        assert "keypoints" not in person and person["areas"]["skin"] > 200
        assert set(person) == {"bbox", "bbox_score", "areas"}
    json.loads(plain([result]))


def test_a_person_that_is_not_finite_is_an_error_of_that_frame_alone(fake, fake_detector, picture):
    frames = [picture(2, brightness=212), picture(2, brightness=WHITE), picture(1, brightness=127)]
    results = Pipeline(fake("segment"), fake_detector, batch_size=3).results(frames)
    assert [result.record.error is None for result in results] == [True, False, True]
    assert [result.label_map is None for result in results] == [False, True, False]
    assert all("areas" not in person for person in results[1].record.people)


def test_names_of_ones_own(fake, picture):
    labels = LabelSet(name="x", names=("a", "b", "c"), palette=((1, 1, 1), (2, 2, 2), (3, 3, 3)), swaps=())
    pipeline = Pipeline(fake("segment"), labels=labels)
    assert pipeline([picture(0, brightness=212)])[0].areas.keys() == {"a", "c"}
    with pytest.raises(ConfigError, match="has 3 classes, found 2 names"):
        two = LabelSet(name="x", names=("a", "b"), palette=((1, 1, 1), (2, 2, 2)), swaps=())
        Pipeline(fake("segment"), labels=two)


@pytest.mark.parametrize("wanted", [set(), {"tags"}, {"heatmaps"}, {"tags", "heatmaps"}])
def test_pictures_of_maps(fake, picture, wanted):
    frames = [picture(n, 64, 64 * (n + 1)) for n in (0, 1, 2)]
    results = Pipeline(fake("pose-bottom-up"), pictures=frozenset(wanted)).results(frames)
    for result in results:
        assert set(result.pictures) == wanted
        for drawn in result.pictures.values():
            assert drawn.dtype == np.uint8 and drawn.ndim == 3 and drawn.shape[2] == 3


def test_maps_that_are_not_finite_are_drawn_all_the_same(fake, picture):
    frame, network = Frame(pixels=picture(1, brightness=WHITE), source="a"), fake("pose-bottom-up")
    raw = {name: values[0] for name, values in network.run(frame.pixels[None, :64, :64]).items()}
    drawn = map_pictures({"tags", "heatmaps"}, frame, raw, np.eye(2, 3), (64, 64), ["k"] * 17, Grouping())
    assert set(drawn) == {"tags", "heatmaps"}
