# Copyright 2026 The maskomaly_ros contributors
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""Downloads that go on where they broke off."""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import re
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from maskomaly_ros import __version__
from maskomaly_ros.errors import MaskomalyError

_BLOCK = 1 << 20
_ATTEMPTS = 5
Progress = Callable[[int, 'int | None'], None]


class _ConnectionLost(Exception):  # noqa: N818
    """The server cannot be reached, or stopped in the middle."""


def download(
    url: str,
    target: Path,
    *,
    sha256: str | None = None,
    progress: Progress | None = None,
    timeout: float = 30.0,
) -> Path:
    """Download a file; what an earlier attempt left is not fetched again.

    The file gets its name when it is complete. Until then it is called `*.part`, beside
    `*.part.version`, by which the server tells whether both belong to the same file. A connection
    that is lost after some progress is taken up at once, a few times.

    Args:
        url: http or https address.
        target: path of the file; its folder is made.
        sha256: hash that the file must have, in hexadecimal; None where it is not known.
        progress: called with the bytes that are here and those of the whole file, which is None
            where the server does not say.
        timeout: longest silence of the server, in seconds.

    Returns:
        The path of the file.

    Raises:
        MaskomalyError: the server does not have the file or cannot be reached, the hash is
            another one (the file is then deleted), the disk cannot be written to, or another
            process is at it.

    """
    if not url.startswith(('http://', 'https://')):  # urlopen also knows file: and others
        raise MaskomalyError(f'{url} is no http or https address')
    part = target.with_name(f'{target.name}.part')
    version = target.with_name(f'{target.name}.part.version')
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with part.open('ab') as stream:
            try:
                _lock(stream, part)
                _fetch(url, target, stream, version, progress, timeout)
                _check(stream, part, sha256)
                part.replace(target)
            finally:
                if part.exists() and not part.stat().st_size:
                    part.unlink()
                if not part.exists():
                    version.unlink(missing_ok=True)
    except OSError as error:
        raise MaskomalyError(f'cannot write {part}: {error.strerror or error}') from error
    return target


def _lock(stream: BinaryIO, part: Path) -> None:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise MaskomalyError(f'{part} is being written by another process; wait for it') from None


def _fetch(
    url: str,
    target: Path,
    stream: BinaryIO,
    version: Path,
    progress: Progress | None,
    timeout: float,
) -> None:
    for attempt in range(1, _ATTEMPTS + 1):
        before = _size(stream)
        try:
            _transfer(url, stream, version, progress, timeout)
            return
        except HTTPError as error:
            raise MaskomalyError(
                f'cannot download {url}: the server answers {error.code} {error.reason}. If you '
                f'can get the file elsewhere, put it at {target}'
            ) from error
        except _ConnectionLost as error:
            here = _size(stream)
            if here > before and attempt < _ATTEMPTS:
                continue
            kept = f' {here} bytes are kept; the same command goes on from there.' if here else ''
            raise MaskomalyError(
                f'cannot download {url}: {error}.{kept} Without access from this machine, fetch '
                f'the file elsewhere and put it at {target}'
            ) from error


def _transfer(
    url: str, stream: BinaryIO, version: Path, progress: Progress | None, timeout: float
) -> None:
    """Fetch what is missing from a file, in one request.

    Raises:
        HTTPError: the server refuses.
        _ConnectionLost: some is still missing.

    """
    known = version.read_text(encoding='utf-8') if version.exists() else ''
    if not known:  # what is here could belong to another version of the file
        stream.truncate(0)
    here = _size(stream)
    headers = {'User-Agent': f'maskomaly_ros/{__version__}', 'Accept-Encoding': 'identity'}
    if here:
        headers |= {'Range': f'bytes={here}-', 'If-Range': known}
    try:
        request = Request(url, headers=headers)  # noqa: S310 (http or https, see download)
        with urlopen(request, timeout=timeout) as response:  # noqa: S310
            if response.status != http.client.PARTIAL_CONTENT:
                stream.truncate(0)
                here = 0
            elif not response.headers.get('Content-Range', '').startswith(f'bytes {here}-'):
                stream.truncate(0)
                raise _ConnectionLost('the server sends another part than asked for')
            version.write_text(_version(response.headers), encoding='utf-8')
            length = response.headers.get('Content-Length')
            total = here + int(length) if length else None
            while block := _read(response):
                stream.write(block)
                here += len(block)
                if progress:
                    progress(here, total)
    except HTTPError as error:
        complete = re.fullmatch(r'bytes \*/(\d+)', error.headers.get('Content-Range', ''))
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE or not here:
            raise
        if complete and int(complete[1]) == here:
            return
        stream.truncate(0)
        raise _ConnectionLost('the server has a shorter file than before') from error
    except (URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        raise _ConnectionLost(str(getattr(error, 'reason', error)) or 'no answer') from error
    if total is not None and here != total:
        raise _ConnectionLost(f'the connection was lost after {here} of {total} bytes')


def _size(stream: BinaryIO) -> int:
    return stream.seek(0, 2)


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(_BLOCK)
    except OSError as error:  # not to be taken for one of writing
        raise ConnectionError(str(error)) from error


def _version(headers: http.client.HTTPMessage) -> str:
    """Return what tells versions of the file apart, or nothing where no part may be reused."""
    tag = headers.get('ETag', '')
    return tag if tag and not tag.startswith('W/') else headers.get('Last-Modified', '')


def _check(stream: BinaryIO, part: Path, sha256: str | None) -> None:
    stream.flush()
    if sha256 is None:
        return
    with part.open('rb') as whole:
        digest = hashlib.sha256()
        while block := whole.read(_BLOCK):
            digest.update(block)
    if digest.hexdigest() != sha256:
        stream.truncate(0)
        raise MaskomalyError(
            f'the checksum of the downloaded {part.name} is {digest.hexdigest()}, and must be '
            f'{sha256}: it was damaged on its way, or is another file. It has been deleted; '
            'try again'
        )
