"""A fixed choice of the fuzzer's cases (`fuzz.py`): refused in one line, or accepted and right."""

import fuzz
import pytest


@pytest.fixture(scope="module")
def materials():
    with fuzz.secluded() as found:
        yield found


QUICK = [(target, 4) for target in fuzz.TARGETS if target != "processes"]
SLOW = [pytest.param(target, 100, marks=pytest.mark.slow) for target in fuzz.TARGETS]


@pytest.mark.parametrize(("target", "times"), QUICK + SLOW)
def test_made_up_input_is_refused_in_one_line_or_right(materials, target, times):
    counts = fuzz.run(target, materials, times, 24)
    assert counts.total() >= times * fuzz.TARGETS[target].share
    assert times < 100 or target == "processes" or min(counts["refused"], counts["accepted"]) > 0  # few changed bytes do no harm
