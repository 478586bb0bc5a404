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

from typing import NoReturn

from maskomaly_ros.node import memory


def main() -> NoReturn:
    """Set up the memory of the process, then run the node; see `maskomaly_node.main`."""
    memory.manage()
    from maskomaly_ros.node import maskomaly_node

    maskomaly_node.main()


if __name__ == '__main__':
    main()
