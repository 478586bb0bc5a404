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

"""Where the files that a ROS package installs to share/ are."""

from __future__ import annotations

import sys
from pathlib import Path

from maskomaly_ros.errors import MaskomalyError

_PACKAGE = 'maskomaly_ros'


def share_directory() -> Path:
    """Return the folder that holds `config/` and `launch/`.

    A source checkout (also one installed with `pip install -e`) comes first, as its code and its
    files belong together; then the ament index, as `ros2 launch` uses it; then the prefix that
    pip installed to.

    Raises:
        MaskomalyError: the folder is in none of these places.

    """
    candidates = [Path(__file__).parents[1]]
    try:
        from ament_index_python.packages import get_package_share_directory

        candidates.append(Path(get_package_share_directory(_PACKAGE)))
    except (ImportError, LookupError, OSError):  # no ROS, not installed there, none sourced
        pass
    candidates.append(Path(sys.prefix) / 'share' / _PACKAGE)
    for candidate in candidates:
        if (candidate / 'config' / 'queries').is_dir():
            return candidate
    raise MaskomalyError(
        f'the files of {_PACKAGE} are in none of {", ".join(map(str, candidates))}; '
        'install the package again'
    )
