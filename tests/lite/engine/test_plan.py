"""Threads and batch sizes for small and large networks, processors and accelerators."""

from dataclasses import replace

import pytest

from lite.artifact import FrameRule
from lite.engine.plan import Plan, forward_size, make_plan, usable_cores


def _plan(spec, hw, device, pictures, **options):
    return make_plan([replace(spec, input_hw=hw)], device, pictures, **options)


@pytest.fixture
def spec(fake_pose):
    return fake_pose.spec


def test_small_networks_run_side_by_side_with_one_thread_each(spec):
    plan = _plan(spec, (256, 192), "cpu", 1000, threads=4)
    assert plan == Plan(workers=4, at_once=4, network_threads=1, frame_batch=8)
    many = _plan(spec, (256, 192), "cpu", 10000, threads=64)
    assert many.workers == many.at_once == 16 and many.network_threads == 4


def test_large_networks_have_the_processor_to_themselves(spec):
    plan = _plan(spec, (1024, 768), "cpu", 1000, threads=4)
    assert plan == Plan(workers=2, at_once=1, network_threads=4, frame_batch=2)


@pytest.mark.parametrize("pictures", [0, 1, 8])
def test_one_batch_gets_all_cores_inside(spec, pictures):
    plan = _plan(spec, (256, 192), "cpu", pictures, threads=4)
    assert (plan.workers, plan.at_once, plan.network_threads) == (1, 1, 4)
    assert _plan(spec, (256, 192), "cpu", 16, threads=4).network_threads == 2


def test_beside_an_accelerator_many_read_and_two_run(spec):
    plan = _plan(spec, (1024, 768), "cuda:0", 1000, threads=8)
    assert (plan.workers, plan.at_once, plan.frame_batch) == (8, 2, 16)
    assert _plan(spec, (256, 192), "cuda:0", 1000, frame_batch=64).frame_batch == 64


def test_given_values_are_kept(spec):
    assert _plan(spec, (256, 192), "cpu", 100, threads=2, frame_batch=3).frame_batch == 3
    assert _plan(spec, (256, 192), "cpu", 100, threads=1) == Plan(
        workers=1, at_once=1, network_threads=1, frame_batch=8
    )
    assert _plan(spec, (256, 192), "cpu", 1000).workers == min(usable_cores(), 16)


def test_crops_in_one_pass_follow_the_networks_size(spec):
    assert forward_size(replace(spec, input_hw=(256, 192)), "cpu") == 16
    assert forward_size(replace(spec, input_hw=(1024, 768)), "cpu") == 1
    assert forward_size(replace(spec, input_hw=(1024, 768)), "cuda:0") == 32
    assert forward_size(replace(spec, input_hw=(4096, 4096)), "cpu") == 1
    assert forward_size(replace(spec, input_hw=(64, 48)), "cpu") == 64


def test_the_largest_network_decides(spec):
    small, large = (replace(spec, input_hw=hw) for hw in ((256, 192), (1024, 768)))
    for specs in ([small, large], [large, small]):
        assert make_plan(specs, "cpu", 1000, threads=4).at_once == 1
    assert make_plan([small, small], "cpu", 1000, threads=4).at_once == 4


def test_inputs_of_any_size_count_as_photographs(spec):
    square = replace(spec, input_hw=(512, 512))
    longer = replace(square, frame=FrameRule(kind="short-side"))
    assert make_plan([square], "cpu", 1000, threads=4).at_once == 4
    assert make_plan([longer], "cpu", 1000, threads=4).at_once == 1
    sizes = [forward_size(longer, "cpu", hw) for hw in ((512, 512), (512, 768), (512, 1024), (512, 2048))]
    assert sizes == [3, 2, 1, 1] and forward_size(longer, "cuda:0", (512, 2048)) == 24
