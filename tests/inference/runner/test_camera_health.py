"""The health of a camera by given times: no clock is read, so that a busy machine changes nothing."""

import pytest

from inference.frame.states import State
from inference.runner.camera_health import CameraHealth, HealthTimeouts

SECOND = 1_000_000_000
NOMINAL_S = 0.1


@pytest.fixture
def health():
    return CameraHealth(HealthTimeouts(), 0, log_changes=True)


def receive(health, intervals_s, now_s=0.0):
    """Receive a frame after each interval; return the time of the last one in seconds."""
    for interval_s in intervals_s:
        now_s += interval_s
        health.frame_received(round(now_s * SECOND), NOMINAL_S)
    return now_s


def test_a_camera_that_is_faster_than_it_says_has_two_of_its_nominal_intervals(health):
    receive(health, [NOMINAL_S / 3] * 20)
    assert health.stale_after_s(NOMINAL_S) == pytest.approx(2 * NOMINAL_S)


@pytest.mark.parametrize("times", [2, 3])
def test_a_camera_that_is_slower_than_it_says_has_two_of_its_own_after_a_few_frames(health, times):
    receive(health, [times * NOMINAL_S] * 5)
    assert health.stale_after_s(NOMINAL_S) > 1.1 * times * NOMINAL_S
    receive(health, [times * NOMINAL_S] * 50, 5 * times * NOMINAL_S)
    assert health.stale_after_s(NOMINAL_S) == pytest.approx(2 * times * NOMINAL_S, rel=0.01)


def test_one_long_gap_does_not_delay_the_next_stale(health):
    receive(health, [*[NOMINAL_S] * 20, 1.9])
    assert health.stale_after_s(NOMINAL_S) < 3.5 * NOMINAL_S


def test_without_a_frame_it_is_stale_and_after_two_seconds_lost(health):
    now_s = receive(health, [NOMINAL_S])
    assert health.frame_missed(round((now_s + 0.2) * SECOND)) == (State.STALE, "no frame for 200 ms")
    assert health.frame_missed(round((now_s + 2.0) * SECOND))[0] is State.STALE
    assert health.frame_missed(round((now_s + 2.1) * SECOND)) == (State.LOST, "no frame for 2.1 s")


def test_the_first_frame_after_each_opening_has_more_time(health):
    assert health.frame_missed(9 * SECOND) is None
    assert health.frame_missed(11 * SECOND) == (State.LOST, "no frame within 10 s of opening")
    health.opened(20 * SECOND)
    assert health.frame_missed(29 * SECOND) is None
    assert health.frame_missed(31 * SECOND)[0] is State.LOST


def test_the_pauses_double_up_to_the_longest_until_it_is_given_up(health):
    assert [health.next_pause_s(at * SECOND) for at in range(8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert health.next_pause_s(59 * SECOND) == 5.0
    assert health.next_pause_s(60 * SECOND) is None


def test_a_frame_ends_the_loss(health):
    for at in range(5):
        health.next_pause_s(at * SECOND)
    health.frame_received(50 * SECOND, NOMINAL_S)
    assert health.next_pause_s(70 * SECOND) == 0.1
