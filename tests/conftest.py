"""Settings and fixtures of every test."""

import pytest
from hypothesis import settings

from core.log import set_up

settings.register_profile("rearguard", deadline=None)  # a busy machine is no failure
settings.load_profile("rearguard")


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Small tensors on two threads wait for each other: on a busy machine for 30 times as long."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _log():
    """The log as it is before a command line is read; a command sets it for its process."""
    set_up()
