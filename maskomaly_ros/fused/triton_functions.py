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

"""What the kernels of a GPU share."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def mixed_logit(  # type: ignore[no-untyped-def]
    mask,
    upper,
    lower,
    left,
    right,
    down,
    across,
    kind: tl.constexpr,
):
    """Mix the four logits around each pixel, bilinearly.

    Args:
        mask: pointer to the logits of one query.
        upper: offset of the upper row of each pixel.
        lower: likewise of the lower row.
        left: likewise of the left column.
        right: likewise of the right column.
        down: weight of the lower row, of type kind.
        across: weight of the right column, of type kind.
        kind: type to mix in, float32 or float64.

    Returns:
        Logit, float32, and the largest difference of neighbours that were mixed, of type kind.

    """
    upper_left = tl.load(mask + upper + left).to(kind)
    upper_right = tl.load(mask + upper + right).to(kind)
    lower_left = tl.load(mask + lower + left).to(kind)
    lower_right = tl.load(mask + lower + right).to(kind)
    upper_step = upper_right - upper_left
    lower_step = lower_right - lower_left
    above = upper_left + upper_step * across
    below = lower_left + lower_step * across
    step = below - above
    farthest = tl.maximum(tl.maximum(tl.abs(upper_step), tl.abs(lower_step)), tl.abs(step))
    return (above + step * down).to(tl.float32), farthest
