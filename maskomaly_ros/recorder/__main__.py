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

"""The process `maskomaly_event_recorder`."""

from __future__ import annotations

import sys

_HELP = """\
usage: maskomaly_event_recorder [--ros-args [-p NAME:=VALUE] [--params-file FILE] ...]

Keep the last seconds of topics in memory, and write them where an obstacle, a service call or a
button asks for it, until SIGINT or SIGTERM.

  -h, --help           print this
  -p NAME:=VALUE       set a parameter, such as folder:=/data/events
  --params-file FILE   set those of a file; config/event_recorder.yaml has all of them
  -r FROM:=TO          remap a topic, __node or __ns

`maskomaly events FOLDER` shows what was recorded.
"""


def main() -> None:
    """Run the node; see `node.main`."""
    own = sys.argv[1 : sys.argv.index('--ros-args')] if '--ros-args' in sys.argv else sys.argv[1:]
    if {'-h', '--help'} & set(own):
        sys.stdout.write(_HELP)
        return
    from maskomaly_ros.recorder import node

    node.main()


if __name__ == '__main__':
    main()
