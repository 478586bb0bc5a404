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
import mmap
import os
import pickle
import pickletools
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from reprlib import repr as short
from typing import IO, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskomaly_ros.errors import MaskomalyError

_ZIP = b'PK\x03\x04'
_TORCH_LEGACY = b'\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.'
_NAMED_BY_TORCH = re.compile(r'GLOBAL (\S+)')
_LEGACY_PICKLES = 5  # magic number, protocol, system, content, keys of the storages
_MOST_DIMENSIONS = 8
_LONGEST_SIDE = 1 << 40
_MOST_NESTED = 100
_MOST_WORK = 10_000_000
_NUMBERS = re.compile(r'[<>=|]?(b1|[iu][1248]|f[248])')


class _Refused(pickle.UnpicklingError):
    """The pickle asks for something that weights do not need."""


class _Dtype:
    """What stands for `numpy.dtype`: numbers and booleans only."""

    def __init__(self, code: object, align: object = False, copy: object = False) -> None:
        if not isinstance(code, str) or not _NUMBERS.fullmatch(code):
            raise _Refused(f'arrays of type {short(code):.80}')
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        byte_order = state[1]
        if byte_order not in ('<', '>', '|', '='):
            raise _Refused(f'byte order {short(byte_order):.80}')
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
        raise _Refused(f'an array of shape {short(shape):.80}')
    if not all(isinstance(n, int) and 0 <= n < _LONGEST_SIDE for n in shape) or (
        math.prod(shape) * dtype.dtype.itemsize != len(data)
    ):
        raise _Refused(f'an array of shape {short(shape):.80} made of {len(data)} bytes')
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
        raise _Refused(f'encoding to {short(encoding):.80}')
    return text.encode('latin-1')


def _bytes() -> bytes:
    return b''  # as protocols before 3 write it


def _storage(data: object) -> Any:
    # An archive inside a pickle could hold more than it weighs; torch writes none.
    if not isinstance(data, bytes) or not data.startswith(_TORCH_LEGACY):
        raise _Refused('a tensor without bytes of its own')
    content = io.BytesIO(data)
    for _ in range(_LEGACY_PICKLES):
        _check_pickle(content)
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
    with _reading(path):
        content = _load(path)
    return _weights(content, path)


def check_torch_file(path: Path) -> None:
    """Check what `torch.load(weights_only=True)` does not: it can crash or fill the memory.

    Raises:
        MaskomalyError: the file is dangerous, damaged, or none that `torch.save` writes.

    """
    with _reading(path), path.open('rb') as stream:
        if not _starts_as_torch_file(stream):
            raise pickle.UnpicklingError('not written by torch.save')
        _check_torch_file(stream)


def plain_reason(error: Exception) -> str:
    """Return what a library says of a file, without torch's advice to read it without care."""
    reason = str(error).rpartition('WeightsUnpickler error: ')[2].strip()
    kept = [line for line in reason.splitlines() if 'weights_only' not in line]
    return '\n'.join(kept).strip() or 'no details'


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn whatever reading a checkpoint raises into a MaskomalyError."""
    try:
        yield
    except _Refused as error:
        raise _refusal(path, str(error)) from error
    except OSError as error:
        raise MaskomalyError(f'cannot read checkpoint {path}: {error.strerror}') from error
    except Exception as error:  # damaged pickles raise whatever they happen to stumble on
        reason = plain_reason(error)
        if named := _NAMED_BY_TORCH.search(reason):
            raise _refusal(path, named[1]) from error
        raise MaskomalyError(
            f'checkpoint {path} is damaged, incomplete or no checkpoint; fetch it again '
            f'({type(error).__name__}: {reason.splitlines()[0]:.200})'
        ) from error


def _refusal(path: Path, culprit: str) -> MaskomalyError:
    return MaskomalyError(
        f'checkpoint {path} is refused: reading it would run or make {culprit}; a checkpoint '
        'needs arrays, tensors and plain containers only. Do not use this file'
    )


def _load(path: Path) -> Any:
    with path.open('rb') as stream:
        if _starts_as_torch_file(stream):
            _check_torch_file(stream)
        else:
            with _mapped(stream) as content:
                _check_pickle(content)
            # Python 2 wrote bytes as text, which latin-1 gives back.
            return _Unpickler(stream, encoding='latin1').load()
    with torch.serialization.safe_globals([(value, name) for name, value in _NUMPY.items()]):
        return torch.load(path, map_location='cpu', weights_only=True)


def _starts_as_torch_file(stream: IO[bytes]) -> bool:
    start = stream.read(len(_TORCH_LEGACY))
    stream.seek(0)
    return start == _TORCH_LEGACY or start.startswith(_ZIP)


def _check_torch_file(stream: IO[bytes]) -> None:
    if stream.read(len(_ZIP)) == _ZIP:
        _check_archive(stream)
    else:
        with _mapped(stream) as content:
            for _ in range(_LEGACY_PICKLES):
                _check_pickle(content)


def _mapped(stream: IO[bytes]) -> mmap.mmap:
    """Return the contents of a file; reading more than there is takes no memory, as it would."""
    return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)


def _check_archive(stream: IO[bytes]) -> None:
    """Refuse an archive that grows when unpacked; torch itself never compresses its parts."""
    size = stream.seek(0, os.SEEK_END)
    with zipfile.ZipFile(stream) as archive:
        entries = archive.infolist()
        for entry in entries:
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > entry.compress_size:
                raise _Refused(f'a compressed {entry.filename}')
        if sum(entry.file_size for entry in entries) > size:
            raise _Refused('parts that overlap')
        for entry in entries:
            if entry.filename.lower().endswith('.pkl'):
                _check_pickle(io.BytesIO(archive.read(entry)))


class _Extent(NamedTuple):
    """How far a value reaches when it is walked through, as for its hash."""

    depth: int = 0
    size: int = 1


_MARK = _Extent(-1)
_TUPLES = ('EMPTY_TUPLE', 'TUPLE', 'TUPLE1', 'TUPLE2', 'TUPLE3', 'FROZENSET')
_STORE = ('PUT', 'BINPUT', 'LONG_BINPUT', 'MEMOIZE')
_RECALL = ('GET', 'BINGET', 'LONG_BINGET')


def _check_pickle(stream: io.BytesIO | mmap.mmap) -> None:
    """Walk through a pickle without executing it: it has to end, and to be modest.

    A memo index makes the unpickler allocate a table of that length. The hash of a key of a
    mapping is computed by recursion without a limit: a deep tuple ends the process, and one that
    holds the same tuple twice, and that another one twice, takes forever.
    """
    start = stream.tell()
    stream.seek(0, os.SEEK_END)
    size = stream.tell() - start
    stream.seek(start)
    stack: list[_Extent] = []
    memo: dict[int, _Extent] = {}
    work = 0
    for opcode, argument, _ in pickletools.genops(stream):  # type: ignore[arg-type]
        name = opcode.name
        if name in _STORE:
            index = len(memo) if argument is None else int(argument)
            if index > size:
                raise _Refused(f'a table of {index} entries')
            memo[index] = stack[-1]
        elif name in _RECALL:
            stack.append(memo[int(argument or 0)])
        elif name == 'DUP':
            stack.append(stack[-1])
        elif name == 'MARK':
            stack.append(_MARK)
        else:
            popped = _popped(stack, opcode)
            work += sum(extent.size for extent in popped)
            made = _Extent()
            if name in _TUPLES:
                depth = 1 + max((extent.depth for extent in popped), default=0)
                made = _Extent(depth, 1 + sum(extent.size for extent in popped))
                if depth > _MOST_NESTED:
                    raise _Refused(f'tuples nested more than {_MOST_NESTED} deep')
            if max(work, made.size) > _MOST_WORK:
                raise _Refused('a structure that multiplies itself')
            stack += [made] * len(opcode.stack_after)


def _popped(stack: list[_Extent], opcode: pickletools.OpcodeInfo) -> list[_Extent]:
    """Take from a stack what an opcode takes; IndexError where it has less."""
    popped: list[_Extent] = []
    before = opcode.stack_before
    count = len(before)
    if pickletools.markobject in before:
        count = before.index(pickletools.markobject)
        while (extent := stack.pop()) is not _MARK:
            popped.append(extent)
    elif opcode.name == 'POP' and stack[-1] is _MARK:
        stack.pop()
        return []
    for _ in range(count):
        popped.append(stack.pop())
    return popped


def _weights(content: Any, path: Path) -> dict[str, Tensor]:
    if isinstance(content, dict):
        content = content.get('model', content)
    if not isinstance(content, dict) or not content:
        raise MaskomalyError(
            f"checkpoint {path} holds no weights: a mapping of names to arrays, or {{'model': …}}"
        )
    weights: dict[str, Tensor] = {}
    for name, value in content.items():
        if name == '_metadata':  # versions of modules, where somebody kept them as an entry
            continue
        if isinstance(value, _Array):
            value = torch.from_numpy(value.array)
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise MaskomalyError(
                f'checkpoint {path} is no checkpoint of a Mask2Former: its entry '
                f'{short(name):.80} is no array but a {type(value).__name__.lstrip("_").lower()}'
            )
        size = value.numel() * value.element_size()
        if value.is_sparse or size > value.untyped_storage().nbytes():
            raise MaskomalyError(
                f'checkpoint {path} is refused: {short(name):.80} of shape {list(value.shape)} is '
                'larger than its data'
            )
        weights[name] = value.detach()
    return weights
