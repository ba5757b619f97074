"""Settings and fixtures of every test."""

import pytest
from hypothesis import settings

from core.log import set_up

settings.register_profile("rearguard", deadline=None)  # a slow example on a busy machine is no failure
settings.load_profile("rearguard")


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Use one thread: on a busy machine the two threads of a small tensor wait for each other, 30 times as long."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _log():
    """Reset the log, which a command sets for its whole process."""
    set_up()
