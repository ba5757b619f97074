from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from models.deployed import DeployedNetwork

MEAN, STD = (0.4, 0.5, 0.6), (0.3, 0.25, 0.2)


@given(n=st.integers(1, 3), height=st.integers(1, 9), width=st.integers(1, 9), seed=st.integers(0, 99))
def test_rows_are_normalised_to_the_bits_that_the_exported_graph_is_given_by_channel(
    n: int, height: int, width: int, seed: int
) -> None:
    frames = torch.randint(0, 256, (n, height, width, 3), dtype=torch.uint8, generator=torch.manual_seed(seed))
    deployed = DeployedNetwork(nn.Identity(), MEAN, STD)
    by_channel = frames.to(torch.float32).permute(0, 3, 1, 2) * deployed.scale + deployed.offset
    assert torch.equal(deployed.normalize(frames), by_channel)


def test_normalised_frames_keep_their_order_in_memory() -> None:
    frames = torch.zeros((2, 5, 5, 3), dtype=torch.uint8)
    assert DeployedNetwork(nn.Identity(), MEAN, STD).normalize(frames).is_contiguous(memory_format=torch.channels_last)
