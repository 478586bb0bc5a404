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

"""Exponentials and logarithms in float32 that a compiler turns into vector instructions.

Those of a C library are called number by number. Compiled into their callers; numba notices a
change in the file of a function that it keeps on disk, not in this one.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numba import njit

from maskomaly_ros.fused.numba_compilation import OPTIONS

_f4 = np.float32
# 2 ** f for |f| <= 0.5: the polynomial of least relative error, 1e-7
_POLYNOMIAL: Final = (
    _f4(1.000000071654018),
    _f4(0.6931469670909182),
    _f4(0.24022119727201688),
    _f4(0.055507132232384425),
    _f4(0.009675541245863397),
    _f4(0.0013276488147019937),
)
_ROUND: Final = _f4(1.5 * 2**23)  # added to a small number, leaves the nearest integer in its bits


@njit(**OPTIONS)
def exp2(power: np.float32) -> Any:
    """Return 2 ** power for |power| <= 126, to 2e-7 of it."""
    c0, c1, c2, c3, c4, c5 = _POLYNOMIAL
    rounded = power + _ROUND
    f = power - (rounded - _ROUND)
    fraction = c0 + f * (c1 + f * (c2 + f * (c3 + f * (c4 + f * c5))))
    exponent = np.int32(np.float32(rounded).view(np.int32) << np.int32(23))
    return np.int32(np.float32(fraction).view(np.int32) + exponent).view(np.float32)


@njit(**OPTIONS)
def log1p(value: np.float32) -> Any:
    """Return log(1 + value) for −0.4 <= value <= 0.5."""
    z = value / (_f4(2) + value)
    q = z * z
    series = _f4(1 / 7) + q * (_f4(1 / 9) + q * _f4(1 / 11))
    return _f4(_f4(2) * z * (_f4(1) + q * (_f4(1 / 3) + q * (_f4(1 / 5) + q * series))))


@njit(**OPTIONS)
def log2(value: np.float32) -> Any:
    """Return the logarithm to base 2 of a normal, positive number."""
    bits = np.float32(value).view(np.int32)
    # Shifted so that the mantissa lies around 1, from 0.7 to 1.4.
    exponent = np.int32(np.int32(bits - np.int32(0x3F350000)) >> np.int32(23))
    mantissa = np.int32(bits - np.int32(exponent << np.int32(23))).view(np.float32)
    return _f4(_f4(exponent) + log1p(mantissa - _f4(1)) * _f4(math.log2(math.e)))


@njit(**OPTIONS)
def log(value: np.float32) -> Any:
    """Return the natural logarithm of a normal, positive number."""
    return _f4(log2(value) * _f4(math.log(2)))
