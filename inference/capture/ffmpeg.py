"""Tells what OpenCV was built with, and finds the reason why its FFmpeg does not open a source."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import cv2

REASON_TIMEOUT_S = 6.0
"""The longest wait for the reason."""
# its time-out of 4 s is shorter than REASON_TIMEOUT_S, so that the child can tell the reason before it is ended
OPEN_SCRIPT = """
import sys, cv2
limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 4000]
cv2.VideoCapture(sys.stdin.buffer.read(), cv2.CAP_FFMPEG, limits)
"""
LOG_LEVEL = "24"
"""FFmpeg's log level that includes HTTP statuses. Source: libavutil/log.h"""
FAILURE = re.compile(r"error|fail|not found|cannot|unable|invalid|no such", re.IGNORECASE)
FFMPEG_LINE = re.compile(r"\[(?!.*(?:WARN|ERROR|INFO):)[^\]]*\] *(.+)")
"""FFmpeg's lines begin with [OPENCV:FFMPEG:16] or [rtsp @ 0x55..], OpenCV's own with [ WARN:0@0.01]."""


def built_with(key: str) -> str:
    """Return what OpenCV's build information says after `key`, such as `YES (1.20.3)`; NO where it says nothing."""
    lines = [line.strip() for line in cv2.getBuildInformation().splitlines()]
    return next((line.removeprefix(key).strip() for line in lines if line.startswith(key)), "NO")


def open_failure(uri: str) -> str:
    """Return FFmpeg's reason for not opening `uri`; an empty string where it gives none, or opens it now.

    OpenCV reports no reason, so a child process opens it again with FFmpeg's log on and its output is read.
    The URI goes by stdin, since a password in an argument is seen by everyone on the machine.
    """
    environment = {**os.environ, "OPENCV_FFMPEG_LOGLEVEL": LOG_LEVEL}
    try:
        child = subprocess.run(
            [sys.executable, "-c", OPEN_SCRIPT],
            input=os.fsencode(uri),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,  # OpenCV's version decides which of the two gets FFmpeg's log
            env=environment,
            timeout=REASON_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {REASON_TIMEOUT_S:g} s"
    except OSError:
        return ""
    lines = child.stdout.decode("utf-8", "replace").splitlines()
    reasons = [found.group(1).strip() for line in lines if (found := FFMPEG_LINE.match(line))]
    return next((reason for reason in reasons if FAILURE.search(reason)), "")
