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
ADDRESS_START = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{1,31}:/{1,2}")
"""As SCHEME, but of bounded length: in a search, an unbounded one takes quadratic time."""
USER_ALONE = re.compile(r"[^/@]+@[^/]+/")
"""A token in place of user:password, before a host and a path."""
LOCAL_FILE = re.compile(r"[^/]*\.(?:mp4|m4v|avi|mkv|mov|webm|mpe?g|ts|mjpe?g|jpe?g|png|bmp)", re.IGNORECASE)
"""A file in the current folder whose name holds an @."""
LINE_END = re.compile(r"\r?\n(?![^\s'\"/]{0,64}@)")
"""A line ends here, unless the next one begins with what may be the rest of a password and its @."""
TOKEN = re.compile(r"(?:[^\s'\"]|[\r\n])+")
"""What stands between blanks and quotation marks; a line break in it was not taken for the end of a line."""
PROPERTY = re.compile(
    r"((?:user-id|user-pw|proxy-id|proxy-pw|user|username|passwd|password|token|secret)\s?=\s?)"
    r"(?:\"[^\"\n]*\"|'[^'\n]*'|[^\s'\"]+)",
    re.IGNORECASE,
)
"""A property of a GStreamer element, or a setting, that holds a secret."""


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
    if USER_ALONE.match(path) or (path.count("@") and "/" not in path and not LOCAL_FILE.fullmatch(path)):
        return HIDDEN
    path = PROPERTY.sub(rf"\1{HIDDEN}", path)
    user = _start_of_user(path)
    start, mark, query = (path if user is None else path[:user] + HIDDEN).partition("?")
    return f"{start}{mark}{query if HARMLESS.fullmatch(query) else HIDDEN}"


def _start_of_user(text: str) -> int | None:
    """Return where user:password@host begins, after a slash or at the start; None where there is none."""
    colon = text.find(":")
    return text.rfind("/", 0, colon) + 1 if 0 <= colon < text.rfind("@") else None


def public_text(text: str) -> str:
    """Return a text in which every address is public. Its time is linear in the length of the text."""
    parts, position = [], 0
    for end in LINE_END.finditer(text):
        parts += [_public_line(text[position : end.start()]), end[0]]
        position = end.end()
    return "".join(parts) + _public_line(text[position:])


def _public_line(line: str) -> str:
    line = PROPERTY.sub(rf"\1{HIDDEN}", line)
    # the password of an address may hold blanks, quotation marks and @
    last_at = max((at.start() for at in re.finditer(r"@(?=[\w\[])", line)), default=-1)
    parts, position = [], 0
    while token := TOKEN.search(line, position):
        begin = _start_of_secret(token[0])
        end = token.end()
        parts.append(line[position : token.start()])
        if begin is None:
            parts.append(token[0])
        else:
            parts.append(token[0][:begin])
            begin += token.start()
            address = ADDRESS_START.match(line, begin)
            if address and last_at >= address.end() and (rest := TOKEN.match(line, last_at)):
                end = rest.end()
            found = line[begin:end].rstrip(".,:;)")
            parts.append(public_uri(found) + line[begin + len(found) : end])
        position = end
    return "".join(parts) + line[position:]


def _start_of_secret(token: str) -> int | None:
    """Return where an address, user:password@host or something with parameters begins in a token."""
    address = ADDRESS_START.search(token)
    parameters = token.find("?")
    if USER_ALONE.match(token) or -1 < parameters < token.rfind("=") - 1:
        starts = [0]
    else:
        starts = [start for start in (address and address.start(), _start_of_user(token)) if start is not None]
    return min(starts, default=None)
