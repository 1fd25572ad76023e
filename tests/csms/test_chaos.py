"""Chaos with a judge: whatever dies, each cloud hears every transaction, in order, and repeats only what it must."""

from collections import Counter

import pytest

from tests.csms.chaos import CRASH_POINTS, OBSERVER, play
from tests.csms.killed import ROUNDS, play_for_real

SEEDS = [range(start, start + 200) for start in range(0, 2000, 200)]


@pytest.mark.parametrize("seeds", SEEDS, ids=lambda seeds: f"{seeds.start}-{seeds.stop - 1}")
async def test_c1_c5_l1_l4_l6_l8_chaos_loses_nothing(seeds):
    seen = Counter()
    for seed in seeds:
        try:
            world = await play(seed)
        except AssertionError as problem:
            raise AssertionError(f"seed {seed}: {problem}") from problem
        seen.update([world.version, f"{len(world.evses)} EVSEs", f"window {world.station.window}", *world.clouds])
        seen.update(crashes=world.crashes, dropped=world.dropped, made=len(world.station.made))
        for cloud in world.clouds.values():
            seen["repeats"] += len(cloud.heard) - len({key for key, _, _ in cloud.heard})
    rounds = len(seeds)
    assert seen["crashes"] > rounds, "the chaos does not crash"
    assert seen["dropped"] > rounds // 10, "nothing was lost with the power"
    assert seen["made"] > 8 * rounds
    assert seen["repeats"] > 0, "the chaos never makes a repeat necessary"
    ways = ("1.6", "2.0.1", "2.1", "2 EVSEs", "3 EVSEs", "window 1", "window 3", OBSERVER)
    assert all(seen[way] > rounds // 8 for way in ways), seen


@pytest.mark.parametrize(
    ("seed", "steps"),
    [
        pytest.param(21529, 60, id="an end is taken while its start was refused for want of room"),
        pytest.param(101696, 60, id="a thinned sample is told again after a restart and taken for the latest"),
    ],
)
async def test_rounds_that_found_a_fault(seed, steps):
    await play(seed, steps=steps)


@pytest.mark.parametrize("point", CRASH_POINTS)
@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
async def test_l1_death_at_each_point_of_each_step_of_one_transaction(point, version):
    """Not by chance: the controller dies at the n-th passage of each point, for every n there is."""
    for nth in range(1, 60):
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


@pytest.mark.timeout(400)
async def test_l1_real_processes_under_sigkill(tmp_path):
    figures = await play_for_real(tmp_path, rounds=ROUNDS, seconds=240.0, seed=1)
    assert figures.rounds == ROUNDS, figures


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_real_processes_under_sigkill_for_long(tmp_path):
    for seed in range(2, 8):
        figures = await play_for_real(tmp_path / str(seed), rounds=ROUNDS, seconds=600.0, seed=seed)
        assert figures.rounds == ROUNDS
