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

"""The process `maskomaly_node`: what comes before anything is imported that starts threads."""

from __future__ import annotations

import sys
from typing import NoReturn

from maskomaly_ros.node import memory

_HELP = """\
usage: maskomaly_node [--ros-args [-p NAME:=VALUE] [--params-file FILE] [-r FROM:=TO] ...]

Find obstacles in camera topics and publish the results beside them, until SIGINT or SIGTERM.

  -h, --help           print this
  -p NAME:=VALUE       set a parameter, such as camera_topics:=['/front/image_raw']
  --params-file FILE   set those of a file; config/camera.yaml has all of them, with comments
  -r FROM:=TO          remap a topic, __node or __ns

`ros2 launch maskomaly_ros camera.launch.py --show-args` lists what the launch file takes.
"""


def main() -> NoReturn:
    """Set up the memory of the process, then run the node; see `maskomaly_node.main`."""
    own = sys.argv[1 : sys.argv.index('--ros-args')] if '--ros-args' in sys.argv else sys.argv[1:]
    if {'-h', '--help'} & set(own):
        sys.stdout.write(_HELP)
        raise SystemExit(0)
    memory.manage()
    from maskomaly_ros.node import maskomaly_node

    maskomaly_node.main()


if __name__ == '__main__':
    main()
