"""Sends messages to systemd: ready, alive, the state. Without systemd nothing is sent."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress


class Systemd:
    """The service manager's socket, where the environment names one. Source: sd_notify(3), sd_watchdog_enabled(3)."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # a leading @ stands for an address in the abstract name space, which begins with a zero byte
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) if address else None
        pid = environment.get("WATCHDOG_PID")
        usec = environment.get("WATCHDOG_USEC", "")
        watched = usec.isdigit() and pid in (None, str(os.getpid()))
        self.watchdog_interval_s = int(usec) / 2e6 if watched else float("inf")
        """The interval at which WATCHDOG=1 must be sent: half of what systemd allows."""

    def notify(self, message: str) -> None:
        """Send one message, such as READY=1; a manager that does not listen changes nothing here."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.sendto(message.encode(), socket.MSG_DONTWAIT, self._address)
