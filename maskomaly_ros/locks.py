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

"""One program at a time in a folder of results."""

from __future__ import annotations

import fcntl
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from maskomaly_ros.errors import MaskomalyError


@contextmanager
def held(path: Path, what: str) -> Iterator[None]:
    """Hold a lock, which the kernel releases however the program ends.

    Args:
        path: of the lock file; made where it is missing, and left there.
        what: is locked, for errors.

    Raises:
        MaskomalyError: another program holds it, or it cannot be written.

    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open('a+', encoding='utf-8')
    except OSError as error:
        raise MaskomalyError(f'cannot write {path}: {error.strerror}') from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read(200).strip() or 'another program'
            raise MaskomalyError(
                f'{what} is in use by {holder}; wait until it has ended, or give another folder'
            ) from None
        except OSError as error:
            raise MaskomalyError(f'cannot lock {path}: {error.strerror}') from error
        file.truncate(0)
        file.write(f'process {os.getpid()} on {platform.node()}')
        file.flush()
        yield
