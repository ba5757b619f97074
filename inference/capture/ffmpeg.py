"""Tells what OpenCV was built with, and finds the reason that its FFmpeg does not open something."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import cv2

OPENED_AGAIN_S = 6.0
"""The longest wait for the reason."""
# its time-out of 4 s is shorter than OPENED_AGAIN_S, so that the child can tell the reason before it is ended
OPEN = """
import sys, cv2
limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 4000]
cv2.VideoCapture(sys.stdin.buffer.read(), cv2.CAP_FFMPEG, limits)
"""
WARNING = "24"
"""FFmpeg's log level that includes HTTP statuses. Source: libavutil/log.h"""
FAILURE = re.compile(r"error|fail|not found|cannot|unable|invalid|no such", re.IGNORECASE)
FFMPEG_LINE = re.compile(r"\[(?!.*(?:WARN|ERROR|INFO):)[^\]]*\] *(.+)")
"""FFmpeg's lines begin with [OPENCV:FFMPEG:16] or [rtsp @ 0x55..], OpenCV's own with [ WARN:0@0.01]."""


def built_with(key: str) -> str:
    """Return what OpenCV's build information says after `key`, such as `YES (1.20.3)`; NO where it says nothing."""
    lines = [line.strip() for line in cv2.getBuildInformation().splitlines()]
    return next((line.removeprefix(key).strip() for line in lines if line.startswith(key)), "NO")


def open_failure(uri: str) -> str:
    """Return FFmpeg's reason for not opening `uri`, or an empty string where it gives none, as when it opens now.

    OpenCV reports no reason, so a child process opens it again with FFmpeg's log on and its output is read.
    The URI goes by stdin, since a password in an argument is seen by everyone on the machine.
    """
    environment = {**os.environ, "OPENCV_FFMPEG_LOGLEVEL": WARNING}
    try:
        child = subprocess.run(
            [sys.executable, "-c", OPEN],
            input=os.fsencode(uri),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,  # OpenCV 5 writes FFmpeg's log to the one, OpenCV 4 to the other
            env=environment,
            timeout=OPENED_AGAIN_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {OPENED_AGAIN_S:g} s"
    except OSError:
        return ""
    lines = child.stdout.decode("utf-8", "replace").splitlines()
    reasons = [found.group(1).strip() for line in lines if (found := FFMPEG_LINE.match(line))]
    return next((reason for reason in reasons if FAILURE.search(reason)), "")
