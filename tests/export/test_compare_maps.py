"""Comparisons of labels, classes and people: what they measure, on numbers made by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from export.compare import Expected
from export.compare_maps import clear_candidates, compare_classes, compare_labels, compare_people
from export.limits import LIMITS, over
from export.stable import AHEAD, NOISE, clear_labels, of_classes
from lite.codecs.tag_grouping import TagGrouping
from lite.segment import YES_LOGIT

SIZE = 2


def expected(outputs: dict[str, np.ndarray], **values: object) -> Expected:
    pixels = np.zeros((SIZE, 64, 96, 3), np.uint8)
    return Expected(pixels=pixels, outputs=outputs, oks_sigmas=np.ones(1), **values)


def failing(task: str, measured: dict, mode: str = "float32") -> set[str]:
    return {name for name, limit in LIMITS[task][mode].items() if over(name, measured[name], limit)}


@pytest.fixture
def logits() -> np.ndarray:
    """(2, 4, 6, 8): left half class 1, right half class 2."""
    random = np.random.default_rng(0)
    made = random.normal(0, 0.1, (SIZE, 4, 6, 8)).astype(np.float32)
    made[:, 1, :, :4] += 5
    made[:, 2, :, 4:] += 5
    return made


def labels_of(logits: np.ndarray) -> Expected:
    return expected({"logits": logits}, stable=clear_labels(logits, None, "float32"))


def test_equal_labels_agree(logits: np.ndarray) -> None:
    measured = compare_labels({"logits": logits}, labels_of(logits), SIZE)
    assert (measured["agreement_min"], measured["miou_min"], measured["logit_shift_p95"]) == (1.0, 1.0, 0.0)
    assert measured["compared"] == measured["of"] == SIZE * 48 and failing("segment", measured) == set()


def test_a_lost_class_shows_in_the_iou_more_than_in_the_share_of_cells(logits: np.ndarray) -> None:
    logits[:, 3, 0, 0] += 20  # a small one
    found = logits.copy()
    found[1, 3, 0, 0] -= 20
    measured = compare_labels({"logits": found}, labels_of(logits), SIZE)
    assert measured["agreement_min"] == pytest.approx(47 / 48)
    assert measured["miou_min"] == pytest.approx((0 + 1 + 23 / 24) / 3, abs=0.02)
    assert {"agreement_min", "miou_min"} <= failing("segment", measured)


def test_cells_that_rounding_decides_are_left_out(logits: np.ndarray) -> None:
    logits[0, 2, 0, 0] = logits[0, 1, 0, 0]
    clear = clear_labels(logits, None, "float32")
    assert not clear[0, 0, 0] and clear.sum() == clear.size - 1
    found = logits.copy()
    found[0, 1, 0, 0] -= 1e-6
    measured = compare_labels({"logits": found}, expected({"logits": logits}, stable=clear), SIZE)
    assert measured["agreement_min"] == 1.0 and measured["left_out"] == {"as good as equal to another class": 1}


def test_measured_rounding_decides_what_is_clear_but_not_without_bound(logits: np.ndarray) -> None:
    logits[:, :, 2, 2] = [[0, 0.5, 0.4, 0], [0, 0.5, 0.4, 0]]  # ahead by a tenth
    assert not clear_labels(logits, None, "bfloat16")[:, 2, 2].any()
    noise = np.random.default_rng(1).normal(0, 1e-3, logits.shape).astype(np.float32)
    assert clear_labels(logits, logits + noise, "bfloat16").all()
    wild = clear_labels(logits, logits + 1000 * noise, "bfloat16")
    assert (wild == clear_labels(logits, None, "bfloat16")).all() and wild.mean() > 0.9
    assert (clear_labels(logits, np.full_like(logits, np.nan), "bfloat16")).mean() > 0.9
    bound = AHEAD * NOISE["bfloat16"] * (logits.max() - logits.min())
    assert 0.1 < bound < 4


def test_one_channel_says_yes_or_no() -> None:
    logits = np.full((SIZE, 1, 4, 4), -3.0, np.float32)
    logits[:, :, :2] = 3.0
    wide = of_classes(logits)
    assert wide.shape == (SIZE, 2, 4, 4) and (wide[:, 0] == np.float32(YES_LOGIT)).all()
    wanted = labels_of(logits)
    assert wanted.stable.all() and compare_labels({"logits": logits}, wanted, SIZE)["agreement_min"] == 1.0
    measured = compare_labels({"logits": -logits}, wanted, SIZE)
    assert measured["agreement_min"] == measured["miou_min"] == 0.0
    near = np.full((SIZE, 1, 4, 4), YES_LOGIT, np.float32)
    assert not clear_labels(near, near + 0.001, "float16").any()


def probabilities(*logits: list[float]) -> dict[str, np.ndarray]:
    return {"probabilities": torch.tensor(logits).softmax(1).numpy()}


def test_classes() -> None:
    wanted = expected(probabilities([5.0, 1.0, 0.0, -4.0], [0.0, 0.1, 2.0, -1.0]))
    assert failing("classify", compare_classes(wanted.outputs, wanted, SIZE)) == set()
    other = compare_classes(probabilities([5.0, 1.0, 0.0, -4.0], [0.0, 2.0, 0.1, -1.0]), wanted, SIZE)
    assert other["first_loss_max"] == pytest.approx(0.73 - 0.11, abs=0.03)
    assert failing("classify", other, "bfloat16") >= {"first_loss_max", "probability_shift_max", "logit_shift_max"}
    unlikely = compare_classes(probabilities([5.0, 1.0, 0.0, -4.0], [0.0, 0.1, 2.0, -1.3]), wanted, SIZE)
    assert unlikely["first_loss_max"] == 0.0 and "logit_shift_max" in failing("classify", unlikely)
    assert compare_classes(wanted.outputs, wanted, 1)["compared"] == 1


def test_probabilities_add_up_to_one_in_every_mode() -> None:
    wanted = expected(probabilities([5.0, 1.0, 0.0, -4.0], [0.0, 0.1, 2.0, -1.0]))
    rounded = {"probabilities": torch.from_numpy(wanted.outputs["probabilities"]).bfloat16().float().numpy()}
    assert "sum_shift_max" in failing("classify", compare_classes(rounded, wanted, SIZE), "bfloat16")


@pytest.fixture(scope="module")
def people() -> dict[str, np.ndarray]:
    """Three keypoints of two people in each of two inputs of 64 x 96 px."""
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(48.0), indexing="ij")
    random = torch.Generator().manual_seed(0)
    fine = torch.zeros(SIZE, 3, 32, 48)
    for n in range(SIZE):
        for k in range(3):
            for column, row in ((8 + 3 * k, 6 + 4 * n), (30 + 2 * k, 20)):
                fine[n, k] += torch.exp(-((x - column) ** 2 + (y - row) ** 2) / 8)
    tags = torch.randn(SIZE, 3, 16, 24, generator=random)
    fine += 0.001 * torch.rand(fine.shape, generator=random)
    coarse = torch.nn.functional.avg_pool2d(fine, 2)
    names = ("keypoints", "scores", "tags", "heatmaps", "tag_maps")
    decoded = TagGrouping(num_candidates=8).decode(coarse, fine, tags)
    return {name: value.numpy() for name, value in zip(names, decoded)}


def test_equal_people(people: dict[str, np.ndarray]) -> None:
    measured = compare_people(people, expected(people), SIZE)
    assert failing("pose-bottom-up", measured) == set()
    assert measured["compared"] == SIZE * 3 * 2 and measured["of"] > measured["compared"]
    assert sum(measured["left_out"].values()) == measured["of"] - measured["compared"]
    assert all(measured[name] == 0 for name in LIMITS["pose-bottom-up"]["float32"])


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("keypoints", lambda x: x + 3, {"lost_max", "decode_shift_p95_px", "decode_tag_p95"}),
        ("keypoints", lambda x: x + 0.2, {"decode_shift_p95_px"}),
        ("keypoints", lambda x: x * np.nan, {"lost_max", "decode_tag_p95"}),
        ("scores", lambda x: x * 1.01, {"decode_score_max"}),
        ("scores", lambda x: x * 0, {"lost_max", "decode_score_max"}),
        ("tags", lambda x: x + 0.1, {"decode_tag_p95"}),
        ("tags", lambda x: x[:, ::-1], {"decode_tag_p95"}),
        ("heatmaps", lambda x: x * 1.1, {"heatmap_shift_p95"}),
        ("tag_maps", lambda x: x[:, [1, 0, 2]], {"tag_shift_p95", "tag_shift_p50"}),
    ],
)
def test_changed_people(people: dict[str, np.ndarray], name: str, change: object, says: set[str]) -> None:
    measured = compare_people({**people, name: change(people[name])}, expected(people), SIZE)
    assert says <= {key for key in LIMITS["pose-bottom-up"]["float32"] if not measured[key] < 0.01}


def test_of_candidates_alike_none_is_clear() -> None:
    heatmaps = np.random.default_rng(0).random((1, 2, 8, 8), np.float32)
    scores = np.float32([[[0.9, 0.8, 0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5, 0.5, 0.5]]])
    assert clear_candidates(scores, heatmaps)[0].tolist() == [[True, True] + 4 * [False], 6 * [False]]
    few = np.float32([[[0.9, 0.8, 0.7, 0.6, 0.0, 0.0]]])
    assert clear_candidates(few, heatmaps)[0, 0].tolist() == [True, True, True, False, False, False]


def test_nothing_to_find(people: dict[str, np.ndarray]) -> None:
    empty = {name: np.zeros_like(value) for name, value in people.items()}
    measured = compare_people(empty, expected(empty), SIZE)
    assert measured["lost_max"] == 0.0 and measured["compared"] == 0 < measured["least"]


def test_a_part_of_the_crops_is_compared_with_that_part(people: dict[str, np.ndarray]) -> None:
    one = {name: value[:1] for name, value in people.items()}
    assert failing("pose-bottom-up", compare_people(one, replace(expected(people), others=()), 1)) == set()
