"""Chaos with a judge: whatever dies, the cloud hears every transaction, in order, and repeats only what it must."""

import pytest

from tests.csms.chaos import CRASH_POINTS, play
from tests.csms.killed import ROUNDS, play_for_real

SEEDS = [range(start, start + 190) for start in range(0, 1900, 190)]


@pytest.mark.parametrize("seeds", SEEDS, ids=lambda seeds: f"{seeds.start}-{seeds.stop - 1}")
async def test_c1_c5_l1_l4_l6_l8_chaos_loses_nothing(seeds):
    crashes = made = repeats = 0
    for seed in seeds:
        try:
            world = await play(seed)
        except AssertionError as problem:
            raise AssertionError(f"seed {seed}: {problem}") from problem
        crashes += world.crashes
        made += len(world.station.made)
        repeats += len(world.cloud.heard) - len({key for key, _, _ in world.cloud.heard})
    assert crashes > len(seeds), "the chaos does not crash"
    assert made > 8 * len(seeds)
    assert repeats > 0, "the chaos never makes a repeat necessary"


@pytest.mark.parametrize("point", CRASH_POINTS)
@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
async def test_l1_death_at_each_point_of_each_step_of_one_transaction(point, version):
    """Not by chance: the controller dies at the n-th passage of each point, for every n there is."""
    for nth in range(1, 30):
        world = await play(nth, steps=0, version=version, crash_at=(point, nth))
        if not world.crashes:
            assert nth > 4, f"{point} is passed {nth - 1} times only"
            return
    raise AssertionError("the points never end")


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_chaos_for_long():
    for seed in range(10_000, 40_000):
        await play(seed, steps=60)


async def test_l1_real_processes_under_sigkill(tmp_path):
    figures = await play_for_real(tmp_path, rounds=ROUNDS, seconds=50.0, seed=1)
    assert figures.rounds >= 20, figures  # 100 on an idle machine


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_real_processes_under_sigkill_for_long(tmp_path):
    for seed in range(2, 8):
        figures = await play_for_real(tmp_path / str(seed), rounds=ROUNDS, seconds=600.0, seed=seed)
        assert figures.rounds == ROUNDS
