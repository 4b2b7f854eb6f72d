"""Random programs beside a model (`random_programs`): some seeds; `scripts/torture programs` runs others each time."""

from __future__ import annotations

import program_actors
import pytest
import random_programs

PROGRAMS, STEPS, KILLS = 16, 150, 4


# Programs end with transactions open and locks held.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def tell_left_out(seed: int) -> None:
    """Report a program that ran without the actors of frameworks that are not installed."""
    missing = program_actors.left_out(seed)
    if missing:
        pytest.skip(f"passed without actors of {' and '.join(missing)}, not installed (requirements-test.txt)")


@pytest.mark.parametrize("seed", range(PROGRAMS))
def test_programs(seed: int) -> None:
    ran = random_programs.run(None, seed, STEPS)
    if ran.failure:
        pytest.fail(random_programs.tell(ran, seed))
    tell_left_out(seed)


@pytest.mark.parametrize("seed", range(KILLS))
def test_killed_programs(seed: int) -> None:
    ran = random_programs.killed(seed, STEPS)
    assert not ran.failure, ran.failure
    tell_left_out(seed)


def test_a_wrong_model_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison works: a model whose savepoints keep what they should undo fails soon."""
    monkeypatch.setattr("program_model.Store.restore", lambda *_: None)
    assert any(random_programs.run(None, seed, STEPS).failure for seed in range(40))
