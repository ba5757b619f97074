"""Keep secrets out of every output: the address of a camera may hold a user, a password or a token.

`public_uri` makes the name of a source. `public_text` cleans a sentence that others wrote: FFmpeg, a plug-in, argparse.
Only what is known to be harmless is shown: of an address on the network, its scheme, host and port. User and password
are left out, a path there becomes "/...", anything else that may be secret becomes HIDDEN.
"""

from __future__ import annotations

import re

LOCAL = ("synthetic", "replay", "csi")
"""Schemes that a local path or a number follows, which is shown."""
HARMLESS = re.compile(r"(?:(?:scenario|fps|seed|width|height|frames)=[\w.-]*&?)*")
"""Parameters of the synthetic camera; no other parameter is shown."""
HIDDEN = "***"
SCHEME = r"[A-Za-z][A-Za-z0-9+.-]+"
ADDRESS = re.compile(rf"({SCHEME}):(/{{1,2}})(.*)", re.DOTALL)
HOST = re.compile(r"(?:\[[0-9A-Fa-f:.%]+\]|[\w.-]+)?(?::\d+)?")
USER = re.compile(r"[^/]*:.*@.*", re.DOTALL)
REST = r"[^\s'\"]*"
"""The rest of an address in a text: up to a blank or a quotation mark."""
IN_TEXT = re.compile(
    rf"{SCHEME}:/{{1,2}}(?:[^\n]*@(?=[\w\[]))?{REST}"  # an address; its password may hold blanks and @
    rf"|[^\s'\"/]+:{REST}@{REST}"  # user:password@host
    rf"|{REST}\?[^\s'\"=]+={REST}"  # something with parameters
)


def public_uri(uri: str) -> str:
    """Return the name of a source without user, password, parameters, and without the path on another machine."""
    match = ADDRESS.fullmatch(uri)
    if match is None or match[1].lower() in LOCAL:
        start = match.start(3) if match else 0
        return uri[:start] + _public_path(uri[start:])
    scheme, slashes, rest = match.groups()
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    tail = rest[len(authority) :]
    host = authority.rpartition("@")[2]
    if "@" in tail or not HOST.fullmatch(host):  # a password that holds a slash, say: what is the host is not known
        host = HIDDEN
    return f"{scheme}:{slashes}{host}" + (tail if tail in ("", "/") else "/...")


def _public_path(path: str) -> str:
    start, mark, query = USER.sub(HIDDEN, path, count=1).partition("?")
    return f"{start}{mark}{query if HARMLESS.fullmatch(query) else HIDDEN}"


def public_text(text: str) -> str:
    """Return a text in which every address is public."""
    return IN_TEXT.sub(_public_match, text)


def _public_match(match: re.Match[str]) -> str:
    found = match[0].rstrip(".,:;)")
    return public_uri(found) + match[0][len(found) :]
