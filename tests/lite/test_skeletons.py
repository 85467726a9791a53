"""Every skeleton file is complete and consistent, equals the published definition, and loads without torch."""

import json
import subprocess
import sys

import pytest

from lite.errors import ConfigError
from lite.skeletons import list_skeletons, load_skeleton

COUNTS = {
    "coco17": 17, "wholebody133": 133, "goliath308": 308, "mpii16": 16, "aic14": 14, "crowdpose14": 14, "ap10k17": 17,
}  # fmt: skip
LINKS = {
    "coco17": 19, "wholebody133": 65, "goliath308": 65, "mpii16": 15, "aic14": 14, "crowdpose14": 15, "ap10k17": 17,
}  # fmt: skip


def test_all_files_are_listed():
    assert set(COUNTS) <= set(list_skeletons())


@pytest.mark.parametrize("name", list_skeletons())
def test_a_skeleton_is_consistent(name):
    skeleton = load_skeleton(name)
    k = skeleton.num_keypoints
    assert skeleton.name == name and load_skeleton(name) is skeleton
    assert len(set(skeleton.keypoint_names)) == k
    assert len(skeleton.oks_sigmas) == len(skeleton.keypoint_colors) == len(skeleton.flip_indices) == k
    assert all(sigma > 0 for sigma in skeleton.oks_sigmas)
    assert [skeleton.flip_indices[i] for i in skeleton.flip_indices] == list(range(k))
    assert len(skeleton.links) == len(skeleton.link_colors)
    assert all(0 <= end < k for link in skeleton.links for end in link)
    assert all(0 <= value <= 255 for color in skeleton.keypoint_colors + skeleton.link_colors for value in color)
    assert set(skeleton.upper_body).isdisjoint(skeleton.lower_body)
    assert all(0 <= i < k for i in skeleton.upper_body + skeleton.lower_body)
    assert all(0 <= start < stop <= k for start, stop in skeleton.parts.values())
    for i, j in enumerate(skeleton.flip_indices):
        if "left" in skeleton.keypoint_names[i] and not skeleton.keypoint_names[i].startswith("face"):
            assert "right" in skeleton.keypoint_names[j]


@pytest.mark.parametrize("name", COUNTS)
def test_counts(name):
    skeleton = load_skeleton(name)
    assert (skeleton.num_keypoints, len(skeleton.links)) == (COUNTS[name], LINKS[name])


def test_coco_constants():
    skeleton = load_skeleton("coco17")
    assert skeleton.oks_sigmas[:7] == (0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079)
    assert skeleton.keypoint_colors[0] == (51, 153, 255)
    assert skeleton.index("right_ankle") == 16
    assert load_skeleton("wholebody133").part("face") == slice(23, 91)


def test_animals_have_the_constants_of_their_joints():
    """Left and right alike, and those of the people's joints they are named after."""
    animal, person = load_skeleton("ap10k17"), load_skeleton("coco17")
    sigmas = dict(zip(animal.keypoint_names, animal.oks_sigmas))
    assert all(sigmas[animal.keypoint_names[j]] == sigma for j, sigma in zip(animal.flip_indices, animal.oks_sigmas))
    for name, twin in (
        *((f"left_{joint}", f"left_{joint}") for joint in ("eye", "shoulder", "elbow", "hip", "knee")),
        ("nose", "nose"),
        ("left_front_paw", "left_wrist"),
        ("left_back_paw", "left_ankle"),
    ):
        assert sigmas[name] == person.oks_sigmas[person.index(twin)]


def test_unknown_names_are_answered():
    with pytest.raises(ConfigError, match=r"coco17.*found 'coco18'"):
        load_skeleton("coco18")
    with pytest.raises(ConfigError, match="found 'tail'"):
        load_skeleton("coco17").index("tail")
    with pytest.raises(ConfigError, match=r"body.*found 'wing'"):
        load_skeleton("coco17").part("wing")


def test_loading_needs_no_torch():
    code = (
        "import sys; from lite.skeletons import load_skeleton; load_skeleton('coco17'); print('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("name", "system", "key"),
    [
        ("coco17", "sapiens", "coco17"),
        ("wholebody133", "sapiens", "coco_wholebody133"),
        ("goliath308", "sapiens", "goliath308"),
        ("coco17", "vitpose", "coco17"),
        ("mpii16", "vitpose", "mpii16"),
        ("aic14", "vitpose", "aic14"),
        ("crowdpose14", "vitpose", "crowdpose14"),
    ],
)
def test_equals_the_published_definition(shared, name, system, key):
    truth = json.loads((shared / "reference" / system / "keypoints.json").read_text())[key]

    def published(*keys):
        value = next(truth[k] for k in keys if k in truth)
        return tuple(tuple(item) if isinstance(item, list) else item for item in value)

    skeleton = load_skeleton(name)
    assert skeleton.keypoint_names == published("keypoint_names", "names")
    assert skeleton.flip_indices == published("flip_indices", "flip_index")
    assert skeleton.links == published("config_skeleton_links", "skeleton")
    assert skeleton.link_colors == published("config_skeleton_link_colors_rgb", "link_colors_rgb")
    assert skeleton.keypoint_colors == published("config_keypoint_colors_rgb", "keypoint_colors_rgb")
    assert skeleton.oks_sigmas == published("sigmas")
    assert skeleton.upper_body == published("upper_body_ids")
    assert skeleton.lower_body == published("lower_body_ids")
