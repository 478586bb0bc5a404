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

"""How numba compiles what is fused: what it may assume, and where it keeps the result."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from numba import njit

_logger = logging.getLogger(__name__)

# No reordering of sums, no assumption about infinities: exactness is worth more here.
OPTIONS: Final[Mapping[str, Any]] = {
    'nogil': True,
    'fastmath': {'contract'},
    'error_model': 'numpy',
}


def compiled(signature: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile ahead of the first call, and keep the result on disk where that is possible."""

    def compile_(function: Callable[..., Any]) -> Any:
        try:
            return njit(signature, cache=True, **OPTIONS)(function)
        except Exception as error:  # no folder can be written, the disk is full, a file is damaged
            _logger.info('The compiled score map is not kept on disk: %s', error)
            return njit(signature, **OPTIONS)(function)

    return compile_
