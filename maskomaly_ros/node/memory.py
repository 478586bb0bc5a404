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
needs: until `manage` is called, nothing happens here but that freed memory is given back.
docs/operations.md has the measurements behind each step.
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

    Otherwise glibc's malloc gives blocks of that size back to the system each time, and the pages
    of every frame are faulted in anew. It also gives threads other than the main one heaps of
    their own, in pieces of 64 MB. The frames of a few cameras fill and empty these, and a small
    block can keep a whole piece from being given back. A new thread gets any of the heaps, so that
    loading a network again and again fills them with holes. No thread allocates so often that it
    would have to wait for another.
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

    With torch and a network loaded there are half a million objects. While the collector looks
    through all of them, a frame has to wait.
    """
    if _is_managed:
        gc.collect()
        gc.freeze()


def give_back() -> None:
    """Free what a network held, and let malloc give it back to the system.

    Networks hold themselves in cycles, and much memory. The next one takes other blocks, so that
    the heap would grow with each loading.
    """
    if _is_managed:
        gc.unfreeze()
    gc.collect()
    malloc_trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)  # glibc only
    if malloc_trim is not None:
        malloc_trim(0)
