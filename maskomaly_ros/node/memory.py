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

"""What the process of a node does about its memory, so that it neither grows nor pauses.

All of it concerns the whole process. Who runs a MaskomalyNode among other things may have other
needs: nothing happens here before `manage` was called, but that freed memory is given back.
"""

from __future__ import annotations

import ctypes
import gc
import os

# Numbers of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3

_is_managed = False


def manage() -> None:
    """Let malloc keep blocks of the size of a frame for the next one, and networks in one heap.

    It gives blocks of that size back to the system each time otherwise, and the pages of every
    frame are faulted in anew: 12 to 27 % of the time of a detection on the bundled checkpoint.

    Transformers loads weights with several threads, new ones each time, and glibc's malloc gives
    a thread any of its heaps: 100 loadings, one after the other, left 120 MB of holes in them.
    """
    global _is_managed
    _is_managed = True
    os.environ.setdefault('HF_DEACTIVATE_ASYNC_LOAD', '1')
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)  # glibc only
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        mallopt(_M_TRIM_THRESHOLD, 512 << 20)


def settle() -> None:
    """Take what there is now out of the sight of Python's collector, as it is here to stay.

    With torch and a network loaded there are half a million objects. Looking through all of them
    takes 0.2 s, for which a frame would have to wait whenever Python sees fit.
    """
    if _is_managed:
        gc.collect()
        gc.freeze()


def give_back() -> None:
    """Free what a network held, and let malloc give it back to the system.

    Networks hold themselves in cycles, and much memory. The next one takes other blocks; without
    giving back, the heap had grown by 30 MB after a few loadings.
    """
    if _is_managed:
        gc.unfreeze()
    gc.collect()
    malloc_trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)  # glibc only
    if malloc_trim is not None:
        malloc_trim(0)
