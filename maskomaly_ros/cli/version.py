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

"""`maskomaly version`: of this package and of what it runs on."""

from __future__ import annotations

from importlib import metadata

from maskomaly_ros import __version__
from maskomaly_ros.cli.common import OUT


def version() -> None:
    """Print the version of this package and of what it runs on."""
    OUT.print(f'maskomaly_ros {__version__}', highlight=False)
    for package in ('torch', 'transformers', 'numpy', 'opencv-python', 'ros-rclpy'):
        try:
            OUT.print(f'  {package} {metadata.version(package)}', highlight=False)
        except metadata.PackageNotFoundError:
            continue
