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


"""A program of the rig as a process of ROS."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

import rclpy
from rclpy.signals import SignalHandlerOptions

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.rig.events import stop_on_signal

_LOG = logging.getLogger(__name__)


def run(arguments: Sequence[str], work: Callable[[threading.Event], None]) -> int:
    """Do some work with ROS until SIGINT or SIGTERM.

    Args:
        arguments: of the process, its name first.
        work: is given an event that these signals set.

    Returns:
        Exit status: 0, or 1 where something was wrong, which the log says.

    """
    logging.basicConfig(format='[%(levelname)s] %(message)s', level=logging.INFO)
    stop = stop_on_signal()
    rclpy.init(args=list(arguments), signal_handler_options=SignalHandlerOptions.NO)
    try:
        work(stop)
    except MaskomalyError as error:
        _LOG.error('%s', error)
        return 1
    finally:
        rclpy.utilities.try_shutdown()
    return 0
