"""Settings and fixtures of every test."""

import random

import pytest
from hypothesis import HealthCheck, settings

from core.log import set_up

# an example that is slow, or slow to make, is no failure on a busy machine; every run tries the same examples.
# --hypothesis-profile=search tries new ones
settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("rearguard", settings.get_profile("search"), derandomize=True)
settings.load_profile("rearguard")


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Use one thread: on a busy machine the two threads of a small tensor wait for each other, 30 times as long."""
    import torch

    torch.set_num_threads(1)


def seed_all():
    import numpy as np
    import torch

    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup():
    """Let each fixture draw the same numbers, whatever ran before it in the same process."""
    seed_all()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call():
    """Let each test draw the same numbers, whatever ran before it in the same process."""
    seed_all()


@pytest.fixture(autouse=True)
def _log():
    """Reset the log, which a command sets for its whole process."""
    set_up()


@pytest.fixture
def patient_streams(monkeypatch):
    """Give streams as much time as a busy machine needs: a test that uses it is not about their time-outs."""
    from tests.inference.patient_run import stream_patience

    for module, name, value in stream_patience():
        monkeypatch.setattr(module, name, value)
