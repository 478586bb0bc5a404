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

"""The program that exports a network beside another one that goes on meanwhile.

An export takes a minute of Python, which would hold up every other thread of a process, and
compilers that may crash it.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.networks.checkpoints import find_checkpoint
from maskomaly_ros.networks.export_cache import Shape
from maskomaly_ros.networks.preprocessing import InputSize

TIME_LIMIT = 1800
"""Seconds after which an export is given up."""


@dataclass(frozen=True)
class Order:
    """What to export.

    Attributes:
        checkpoint: as given to `load_network`.
        config: likewise.
        sha256: hash of the weights that it had.
        input_size: what frames are resized to: shortest and longest side.
        shape: batch, height and width of the input.
        runtimes: what may run it, the best first: it is kept where one computes what torch does.
        is_background: do it at a low priority.

    """

    checkpoint: str
    config: str | None
    sha256: str
    input_size: tuple[int, int]
    shape: Shape
    runtimes: tuple[str, ...]
    is_background: bool


def start(order: Order) -> subprocess.Popen[str]:
    """Start a process that exports a network into the cache and ends.

    It goes on where this one ends before, so that the work is not begun anew each time. Its exit
    status is 0 where the file is in the cache; else the end of its standard error says why.

    Raises:
        OSError: no process can be started.

    """
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (root, os.environ.get('PYTHONPATH'))))
    return subprocess.Popen(
        [sys.executable, '-m', __name__, json.dumps(asdict(order))],
        env={**os.environ, 'PYTHONPATH': path, 'OMP_NUM_THREADS': '1'},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors='replace',
        start_new_session=True,  # Ctrl-C is meant for the other program
    )


def main(arguments: list[str]) -> int:
    """Export what an order in JSON says; return the exit status."""
    signal.alarm(TIME_LIMIT)
    content: dict[str, Any] = json.loads(arguments[0])
    for name in ('input_size', 'shape', 'runtimes'):
        content[name] = tuple(content[name])
    order = Order(**content)
    if order.is_background:
        with suppress(OSError):
            os.nice(10)  # at 19 it would never end beside a program that keeps all cores busy
    logging.basicConfig(level=logging.ERROR)
    from maskomaly_ros.networks.onnx_export import export_to_cache

    try:
        checkpoint = find_checkpoint(order.checkpoint, order.config)
        if checkpoint.sha256 != order.sha256:
            raise MaskomalyError(f'the weights of {checkpoint.path} have changed meanwhile')
        export_to_cache(checkpoint, InputSize(*order.input_size), order.shape, order.runtimes)
    except MaskomalyError as error:
        sys.stderr.write(f'{error}\n')
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
