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

"""Reading `.pkl` and `.pth` checkpoints without running what they say.

A pickle is a program: it names functions, and reading it calls them. Here it gets none. Names that
stand for arrays, tensors and plain containers lead to replacements of our own, which check
what they are given; every other name is refused before anything is called. Real NumPy functions
are not lent either, as they allocate what they are told to, and their `__setstate__` trusts its
argument.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import pickletools
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskomaly_ros.errors import MaskomalyError

_ZIP = b'PK\x03\x04'
_TORCH_LEGACY = b'\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.'
_NAMED_BY_TORCH = re.compile(r'GLOBAL (\S+)')
_MOST_DIMENSIONS = 8
_NUMBERS = re.compile(r'[<>=|]?(b1|[iu][1248]|f[248])')


class _Refused(pickle.UnpicklingError):
    """The pickle asks for something that weights do not need."""


class _Dtype:
    """What stands for `numpy.dtype`: numbers and booleans only."""

    def __init__(self, code: object, align: object = False, copy: object = False) -> None:
        if not isinstance(code, str) or not _NUMBERS.fullmatch(code):
            raise _Refused(f'arrays of type {code!r:.40}')
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        byte_order = state[1]
        if byte_order not in ('<', '>', '|', '='):
            raise _Refused(f'byte order {byte_order!r:.40}')
        self.dtype = self.dtype.newbyteorder(byte_order)


class _Array:
    """What stands for `numpy.ndarray`: holds as many bytes as its shape says, no more."""

    def __init__(self) -> None:
        self.array: NDArray[Any] = np.empty(0, np.float32)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        shape, dtype, fortran, data = state[-4:]  # a version number may come first
        self.array = _array(data, dtype, shape, 'F' if fortran else 'C')


def _array(data: object, dtype: object, shape: object, order: object) -> NDArray[Any]:
    if isinstance(data, str):  # bytes, as Python 2 wrote them
        data = data.encode('latin-1')
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes | bytearray):
        raise _Refused('arrays of objects')
    if not isinstance(shape, tuple) or len(shape) > _MOST_DIMENSIONS:
        raise _Refused(f'an array of shape {shape!r:.40}')
    if not all(isinstance(n, int) and n >= 0 for n in shape) or (
        math.prod(shape) * dtype.dtype.itemsize != len(data)
    ):
        raise _Refused(f'an array of shape {shape!r:.80} made of {len(data)} bytes')
    flat = np.frombuffer(data, dtype.dtype)
    native = flat.astype(dtype.dtype.newbyteorder('='))  # also a copy that can be written to
    return native.reshape(shape, order='F' if order == 'F' else 'C')


def _reconstruct(subtype: object, shape: object = None, kind: object = None) -> _Array:
    if subtype is not _Array:
        raise _Refused('an array of a type of its own')
    return _Array()


def _from_buffer(data: object, dtype: object, shape: object, order: object = 'C') -> _Array:
    result = _Array()
    result.array = _array(data, dtype, shape, order)
    return result


def _scalar(dtype: object, data: object) -> Any:
    return _array(data, dtype, (), 'C').item()


def _encode(text: object, encoding: object = 'latin1') -> bytes:
    if not isinstance(text, str) or encoding not in ('latin1', 'latin-1'):
        raise _Refused(f'encoding to {encoding!r:.40}')
    return text.encode('latin-1')


def _bytes() -> bytes:
    return b''  # as protocols before 3 write it


def _storage(data: object) -> Any:
    if not isinstance(data, bytes):
        raise _Refused('a tensor without bytes')
    return torch.load(io.BytesIO(data), map_location='cpu', weights_only=True)


def _tensor(storage: object, offset: int, size: Any, stride: Any, *_ignored: object) -> Tensor:
    if not isinstance(storage, torch.storage.TypedStorage):
        raise _Refused('a tensor without storage')
    empty = torch.empty(0, dtype=storage.dtype)
    # Raises where a part of the tensor would lie outside the storage.
    return empty.set_(storage._untyped_storage, offset, size, stride)


def _parameter(data: object, *_ignored: object) -> Tensor:
    if not isinstance(data, Tensor):
        raise _Refused('a parameter that is no tensor')
    return data


class _Mapping(dict[Any, Any]):
    """What stands for `OrderedDict`; attributes that one may have (`_metadata`) are dropped."""

    def __setstate__(self, state: object) -> None:
        pass


class _Function:
    """A function whose attributes a pickle cannot replace."""

    __slots__ = ('_function',)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: object) -> None:
        raise _Refused('a change to a function')


_BUILDERS: dict[str, Callable[..., Any]] = {
    'multiarray._reconstruct': _reconstruct,
    'multiarray.scalar': _scalar,
    'numeric._frombuffer': _from_buffer,
}
_NUMPY: dict[str, Any] = {
    'numpy.ndarray': _Array,
    'numpy.dtype': _Dtype,
    '_codecs.encode': _Function(_encode),
    '__builtin__.bytes': _Function(_bytes),
    'builtins.bytes': _Function(_bytes),
    **{
        f'numpy.{core}.{name}': _Function(function)
        for core in ('core', '_core')
        for name, function in _BUILDERS.items()
    },
}
_PICKLE: dict[str, Any] = {
    **_NUMPY,
    'collections.OrderedDict': _Mapping,
    'torch.storage._load_from_bytes': _Function(_storage),
    'torch._utils._rebuild_tensor_v2': _Function(_tensor),
    'torch._utils._rebuild_parameter': _Function(_parameter),
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _PICKLE[f'{module}.{name}']
        except KeyError:
            raise _Refused(f'{module}.{name}') from None


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the weights of a `.pkl` of detectron2 or a `.pth` of torch, whatever it is called.

    Returns:
        The tensors, on the CPU, by the names that the file gives them. The file may hold them
        at the top or under `model`; the rest of it is dropped.

    Raises:
        MaskomalyError: the file cannot be read, is damaged, holds no weights, or asks for
            anything else than arrays, tensors and plain containers.

    """
    try:
        content = _load(path)
    except _Refused as error:
        raise _refusal(path, str(error)) from error
    except OSError as error:
        raise MaskomalyError(f'cannot read checkpoint {path}: {error.strerror}') from error
    except Exception as error:  # damaged pickles raise whatever they happen to stumble on
        # What torch says before this is advice to read the file without care.
        reason = str(error).rpartition('WeightsUnpickler error: ')[2].strip() or 'no details'
        if named := _NAMED_BY_TORCH.search(reason):
            raise _refusal(path, named[1]) from error
        raise MaskomalyError(
            f'checkpoint {path} is damaged, incomplete or no checkpoint; fetch it again '
            f'({type(error).__name__}: {reason.splitlines()[0]})'
        ) from error
    return _weights(content, path)


def _refusal(path: Path, culprit: str) -> MaskomalyError:
    return MaskomalyError(
        f'checkpoint {path} is refused: reading it would run or make {culprit}; a checkpoint '
        'needs arrays, tensors and plain containers only. Do not use this file'
    )


def _load(path: Path) -> Any:
    with path.open('rb') as stream:
        start = stream.read(len(_TORCH_LEGACY))
        stream.seek(0)
        if start.startswith(_ZIP):
            _check_archive(path)
        elif start != _TORCH_LEGACY:
            _check_pickle(stream)
            # Python 2 wrote bytes as text, which latin-1 gives back.
            return _Unpickler(stream, encoding='latin1').load()
    with torch.serialization.safe_globals([(value, name) for name, value in _NUMPY.items()]):
        return torch.load(path, map_location='cpu', weights_only=True)


def _check_archive(path: Path) -> None:
    """Refuse an archive whose parts grow when unpacked; torch itself never compresses them."""
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > entry.compress_size:
                raise _Refused(f'a compressed {entry.filename}')


def _check_pickle(stream: io.BufferedReader) -> None:
    """Walk through a pickle without executing it: it has to end, and to be modest.

    A memo index makes the unpickler allocate a table of that length, so that a few bytes could
    take all memory.
    """
    size = os.fstat(stream.fileno()).st_size
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name in ('PUT', 'LONG_BINPUT') and (argument or 0) > size:
            raise _Refused(f'a table of {argument} entries')
    stream.seek(0)


def _weights(content: Any, path: Path) -> dict[str, Tensor]:
    if isinstance(content, dict):
        content = content.get('model', content)
    if not isinstance(content, dict) or not content:
        raise MaskomalyError(
            f"checkpoint {path} holds no weights: a mapping of names to arrays, or {{'model': …}}"
        )
    weights: dict[str, Tensor] = {}
    for name, value in content.items():
        if isinstance(value, _Array):
            value = torch.from_numpy(value.array)
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise MaskomalyError(
                f'checkpoint {path} is no checkpoint of a Mask2Former: its entry {name!r:.80} is '
                f'no array but a {type(value).__name__.lstrip("_").lower()}'
            )
        size = value.numel() * value.element_size()
        if value.is_sparse or size > value.untyped_storage().nbytes():
            raise MaskomalyError(
                f'checkpoint {path} is refused: {name!r:.80} of shape {list(value.shape)} is '
                'larger than its data'
            )
        weights[name] = value.detach()
    return weights
