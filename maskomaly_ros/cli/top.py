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
"""`maskomaly top`: how the nodes are."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from maskomaly_ros.cli.common import OUT
from maskomaly_ros.errors import MaskomalyError


def top(
    once: Annotated[
        bool, typer.Option('--once', help='Print one snapshot and end; always so into a pipe.')
    ] = False,
    timeout: Annotated[
        float, typer.Option(min=0.0, help='Seconds that a snapshot waits for a node.')
    ] = 10.0,
) -> None:
    """Show the state of nodes and cameras live, from /diagnostics; Ctrl-C ends it.

    A snapshot ends with status 1 where no node was heard.
    """
    try:
        from maskomaly_ros.node.top import show
    except ImportError as error:
        raise MaskomalyError(
            f'maskomaly top needs ROS 2 ({error}): source a distribution, or '
            "pip install '.[ros]' in a checkout of this package"
        ) from error
    is_snapshot = once or not sys.stdout.isatty()
    if not show(OUT, once=is_snapshot, timeout=timeout) and is_snapshot:
        raise typer.Exit(1)
