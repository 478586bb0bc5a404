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

# Numbers of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8

_is_managed = False


def manage() -> None:
    """Let all threads take memory from one heap, which keeps blocks of the size of a frame.

    Call it before anything is imported that starts threads, as NumPy and rclpy do: the heaps that
    they have stay in use.

    Glibc's malloc gives blocks of that size back to the system each time otherwise, and the pages
    of every frame are faulted in anew: 12 to 27 % of the time of a detection on the bundled
    checkpoint.

    It also gives other threads than the main one heaps of their own, in pieces of 64 MB. Frames of
    a few cameras fill these and empty them, and where a small block keeps a piece from being given
    back, resident memory grew by up to 60 MB, whenever that came to pass. And a new thread gets
    any of the heaps: with those by which transformers loads weights, 100 loadings left 120 MB of
    holes. No thread allocates so often that it would have to wait for another.
    """
    global _is_managed
    _is_managed = True
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)  # glibc only
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
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
