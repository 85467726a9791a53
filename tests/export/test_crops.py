"""Crops to check with: real pictures, the same every time, the user's first."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from export.crops import calibration_crops, check_crops
from lite.artifact import ArtifactSpec, CropRule, LetterboxRule
from lite.errors import InputError

POSE = ArtifactSpec(task="pose", model="x", input_hw=(64, 48), mean=(0.0,) * 3, std=(1.0,) * 3, crop=CropRule())
DETECT = replace(POSE, task="detect", crop=None, letterbox=LetterboxRule(), input_hw=(96, 96))


@pytest.mark.parametrize("spec", [POSE, DETECT])
def test_real_different_and_repeatable(spec: ArtifactSpec) -> None:
    crops = check_crops(spec, None, 5)
    assert crops.shape == (5, *spec.input_hw, 3) and crops.dtype == np.uint8
    assert len({crop.tobytes() for crop in crops}) == 5
    assert crops.std(axis=(1, 2, 3)).min() > 20
    np.testing.assert_array_equal(crops, check_crops(spec, None, 5))


@pytest.mark.parametrize(
    ("input_hw", "count"), [((256, 192), 64), ((512, 512), 24), ((1024, 768), 8), ((2048, 2048), 8), ((64, 48), 64)]
)
def test_the_larger_the_fewer_to_calibrate_with(input_hw: tuple[int, int], count: int) -> None:
    assert calibration_crops(replace(POSE, input_hw=input_hw)) == count


def test_the_users_pictures_come_first(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "green.png"), np.full((50, 40, 3), (0, 200, 0), np.uint8))
    crops = check_crops(DETECT, tmp_path, 3)
    assert crops[0, 10, 10].tolist() == [0, 200, 0] and crops[1].std() > 20


def test_a_picture_of_one_pixel(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "dot.png"), np.full((1, 1, 3), 200, np.uint8))
    for spec in (POSE, DETECT):
        assert check_crops(spec, tmp_path, 5).shape == (5, *spec.input_hw, 3)


def test_a_folder_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        check_crops(POSE, tmp_path, 3)
