"""The device that these tests run on: the one that `python -m tests.gpu` names, else a GPU where there is one."""

from __future__ import annotations

import os

import pytest
import torch


@pytest.fixture(scope="session")
def device():
    return os.environ.get("REARGUARD_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
