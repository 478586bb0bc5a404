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

"""Unpickling: what checkpoints need is read, everything else is refused before it runs."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import struct
import subprocess
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.networks.unpickling import read_weights

_RNG = np.random.default_rng(0)
ARRAYS = {
    'float': _RNG.random((3, 4), np.float32),
    'double': _RNG.random(5),
    'half': _RNG.random((2, 2)).astype(np.float16),
    'integer': np.arange(6).reshape(1, 2, 3),
    'boolean': np.array([True, False]),
    'scalar': np.array(3.5, np.float32),
    'empty': np.zeros((0, 4), np.float32),
    'fortran': np.asfortranarray(_RNG.random((3, 5), np.float32)),
    'big_endian': np.arange(4, dtype='>f4'),
    'part': _RNG.random((6, 6), np.float32)[::2, 1:],
}


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def assert_equal(weights: dict[str, torch.Tensor]) -> None:
    assert list(weights) == list(ARRAYS)
    for name, expected in ARRAYS.items():
        np.testing.assert_array_equal(weights[name].numpy(), expected)
        assert weights[name].numpy().dtype == expected.dtype.newbyteorder('=')  # type: ignore[attr-defined]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / 'model.pkl'


class TestReading:
    @pytest.mark.parametrize('protocol', range(6))
    def test_arrays_as_detectron2_pickles_them(self, path: Path, protocol: int) -> None:
        content = {
            'model': ARRAYS,
            '__author__': 'somebody',
            'matching_heuristics': True,
            'iteration': np.int64(90000),
            'hash': b'\x00\xff',
        }
        path.write_bytes(pickle.dumps(content, protocol))
        assert_equal(read_weights(path))

    def test_a_mapping_with_metadata(self, path: Path) -> None:
        model = OrderedDict(ARRAYS)
        model._metadata = OrderedDict({'': {'version': 2}})  # type: ignore[attr-defined]
        path.write_bytes(pickle.dumps({'model': model}))
        assert_equal(read_weights(path))
        path.write_bytes(pickle.dumps({'model': {**model, '_metadata': model._metadata}}))  # type: ignore[attr-defined]
        assert_equal(read_weights(path))

    def test_tensors_in_a_pickle(self, path: Path) -> None:
        tensor = torch.arange(12.0).reshape(3, 4)
        model = {
            'whole': tensor,
            'part': tensor[1:, ::2],
            'parameter': torch.nn.Parameter(tensor),
            'half': tensor.to(torch.bfloat16),
        }
        path.write_bytes(pickle.dumps({'model': model}))
        weights = read_weights(path)
        for name, value in model.items():
            assert torch.equal(weights[name], value)
            assert not weights[name].requires_grad

    def test_a_pickle_of_python_2(self, path: Path) -> None:
        # {'model': {'w': array([1, 2], float32)}}, with bytes written as text
        path.write_bytes(
            b"(dp0\nS'model'\n(dp1\nS'w'\ncnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n"
            b"(I0\ntS'b'\ntR(I1\n(I2\ntcnumpy\ndtype\n(S'f4'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\n"
            b'I0\ntbI00\nU\x08\x00\x00\x80?\x00\x00\x00@tbss.'
        )
        assert read_weights(path)['w'].tolist() == [1.0, 2.0]

    @pytest.mark.parametrize('zipped', [True, False], ids=['zip', 'legacy'])
    @pytest.mark.parametrize('arrays', [True, False], ids=['arrays', 'tensors'])
    def test_torch_files(self, tmp_path: Path, zipped: bool, arrays: bool) -> None:
        native = {k: v.astype(v.dtype.newbyteorder('=')) for k, v in ARRAYS.items()}  # type: ignore[attr-defined]
        model = native if arrays else {k: torch.from_numpy(v) for k, v in native.items()}
        path = tmp_path / 'model.pth'
        content = {'model': OrderedDict(model), 'iteration': 5, 'scheduler': {'last': [0.1]}}
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        assert_equal(read_weights(path))

    def test_weights_at_the_top(self, path: Path) -> None:
        path.write_bytes(pickle.dumps(ARRAYS))
        assert_equal(read_weights(path))

    def test_weights_can_be_written_to(self, path: Path) -> None:
        path.write_bytes(pickle.dumps(ARRAYS))
        read_weights(path)['float'].zero_()


def nested(value: Any) -> Any:
    for _ in range(50):
        value = [value, {'model': value}]
    return {'model': {'w': ARRAYS['float']}, 'trainer': {'hooks': (value,)}}


def code(marker: Path) -> dict[str, Any]:
    """Return contents that create the file marker when they are unpickled carelessly."""
    write = f"open({str(marker)!r}, 'w').close()"
    inner = pickle.dumps(Call(os.system, f'touch {marker}'), 2)
    return {
        'os.system': Call(os.system, f'touch {marker}'),
        'builtins.eval': Call(eval, write),
        'builtins.exec': Call(exec, write),
        'subprocess.Popen': Call(subprocess.Popen, ['touch', str(marker)]),
        'in the weights': {'model': {'w': Call(os.system, f'touch {marker}')}},
        'beside the weights': {'model': ARRAYS, 'x': Call(os.system, f'touch {marker}')},
        'deep inside': nested(Call(os.system, f'touch {marker}')),
        'pickle.loads': Call(pickle.loads, inner),
        'numpy.load': Call(np.load, io.BytesIO(inner), None, True),
        'torch.load': Call(torch.load, io.BytesIO(inner), None),
        'array of objects': {'model': {'w': np.array([Call(os.system, f'touch {marker}')])}},
        'storage': Call(torch.storage._load_from_bytes, inner),
        'getattr': Call(getattr, os, 'system'),
    }


class TestRefusing:
    @pytest.mark.parametrize('attack', code(Path('x')))
    @pytest.mark.parametrize('protocol', [0, 2, 4])
    def test_code(self, tmp_path: Path, path: Path, attack: str, protocol: int) -> None:
        marker = tmp_path / 'has_run'
        path.write_bytes(self.pickled(code(marker)[attack], protocol))
        with pytest.raises(MaskomalyError, match=r'refused.*Do not use this file'):
            read_weights(path)
        assert not marker.exists()

    def test_the_attacks_would_work(self, tmp_path: Path) -> None:
        """Make sure that the test above proves something."""
        for name in ('os.system', 'builtins.eval', 'builtins.exec', 'deep inside', 'pickle.loads'):
            marker = tmp_path / name.replace(' ', '_')
            pickle.loads(self.pickled(code(marker)[name], 2))
            assert marker.exists(), name

    @staticmethod
    def pickled(content: Any, protocol: int) -> bytes:
        try:
            return pickle.dumps(content, protocol)
        except TypeError:  # a module cannot be pickled by value; a name does as well
            return b'cos\nsystem\n.'

    @pytest.mark.parametrize('zipped', [True, False], ids=['zip', 'legacy'])
    def test_code_in_a_torch_file(self, tmp_path: Path, zipped: bool) -> None:
        marker, path = tmp_path / 'has_run', tmp_path / 'model.pth'
        content = {'model': {'w': Call(os.system, f'touch {marker}')}}
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(MaskomalyError, match=r'refused.*system'):
            read_weights(path)
        assert not marker.exists()

    @pytest.mark.parametrize(
        'name',
        ['numpy load', 'numpy.lib.npyio NpzFile', 'numpy fromfile', 'numpy.core.multiarray empty',
         'collections defaultdict', 'torch load', 'functools partial', 'builtins getattr',
         'numpy._core.multiarray fromfile', 'torch.hub load'],
    )  # fmt: skip
    def test_names_that_are_close_to_what_is_needed(self, path: Path, name: str) -> None:
        path.write_bytes(f'c{name.replace(" ", chr(10))}\n(tR.'.encode())
        with pytest.raises(MaskomalyError, match=rf'refused.*{name.replace(" ", ".")}'):
            read_weights(path)

    def test_a_change_to_what_stands_for_a_function(self, path: Path) -> None:
        function = b'cnumpy.core.multiarray\nscalar\n'
        for state in (b"(dS'x'\nI1\ns", b"(N(dS'__doc__'\nS'x'\nst"):
            path.write_bytes(function + state + b'b.')
            with pytest.raises(MaskomalyError):
                read_weights(path)

    @pytest.mark.parametrize('value', ['text', object, 1.5, [1.0, 2.0], None])
    def test_weights_that_are_none(self, path: Path, value: object) -> None:
        path.write_bytes(pickle.dumps({'model': {'w': value}}))
        with pytest.raises(MaskomalyError):
            read_weights(path)

    @pytest.mark.parametrize('content', [{}, {'model': {}}, [1, 2], 'text', {'model': 3}])
    def test_no_weights(self, path: Path, content: object) -> None:
        path.write_bytes(pickle.dumps(content))
        with pytest.raises(MaskomalyError, match=r'no weights|no array'):
            read_weights(path)


def array_pickle(shape: str, dtype: str = 'f4', data: bytes = b'\0' * 8) -> bytes:
    """Return a pickle of one array whose parts are written as told."""
    return (
        b"(dS'w'\ncnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
        b'(I1\n' + shape.encode() + b"cnumpy\ndtype\n(S'" + dtype.encode() + b"'\nI0\nI1\ntR"
        b"(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\n"
        b'B' + struct.pack('<I', len(data)) + data + b'tbs.'
    )


class TestDamaged:
    def test_the_form_used_below(self, path: Path) -> None:
        path.write_bytes(array_pickle('(I2\nt'))
        assert read_weights(path)['w'].tolist() == [0.0, 0.0]

    @pytest.mark.parametrize(
        'shape',
        ['(I1000000000000\nt', '(I3\nt', '(I-2\nt', '(L1000000000000000000000\nI0\nt',
         '(I2\nI1\nI1\nI1\nI1\nI1\nI1\nI1\nI1\nt', 'I2\n', '(F2.0\nt'],
    )  # fmt: skip
    def test_shapes_that_do_not_match_their_data(self, path: Path, shape: str) -> None:
        path.write_bytes(array_pickle(shape))
        with pytest.raises(MaskomalyError, match=r'refused.*an array of shape'):
            read_weights(path)

    @pytest.mark.parametrize('dtype', ['O', 'O8', 'V8', 'S8', 'f4,f4', 'c8', 'M8', 'U2', 'f16'])
    def test_types_that_are_no_numbers(self, path: Path, dtype: str) -> None:
        path.write_bytes(array_pickle('(I1\nt', dtype))
        with pytest.raises(MaskomalyError, match=rf"refused.*arrays of type '{dtype}'"):
            read_weights(path)

    def test_a_table_that_would_fill_the_memory(self, path: Path) -> None:
        path.write_bytes(b'\x80\x02}r\xff\xff\xff\x7f.')
        with pytest.raises(MaskomalyError, match='a table of 2147483647 entries'):
            read_weights(path)

    def test_a_length_that_would_fill_the_memory(self, path: Path) -> None:
        path.write_bytes(b'\x80\x04\x8e' + struct.pack('<Q', 1 << 60) + b'abc')
        with pytest.raises(MaskomalyError, match='damaged'):
            read_weights(path)

    @pytest.mark.parametrize('protocol', [0, 2, 4, 5])
    def test_truncated_anywhere(self, path: Path, protocol: int) -> None:
        whole = pickle.dumps({'model': ARRAYS, 'iteration': np.int64(3)}, protocol)
        for length in range(0, len(whole), 13):
            path.write_bytes(whole[:length])
            with pytest.raises(MaskomalyError):
                read_weights(path)

    @pytest.mark.parametrize('zipped', [True, False], ids=['zip', 'legacy'])
    def test_truncated_torch_file(self, tmp_path: Path, zipped: bool) -> None:
        path = tmp_path / 'model.pth'
        torch.save({'model': {'w': torch.zeros(100)}}, path, _use_new_zipfile_serialization=zipped)
        whole = path.read_bytes()
        for length in range(0, len(whole) - 1, 97):
            path.write_bytes(whole[:length])
            with pytest.raises(MaskomalyError, match=r'damaged|refused'):
                read_weights(path)

    def test_flipped_bits_raise_our_error_or_nothing(self, path: Path) -> None:
        whole = pickle.dumps({'model': {'w': ARRAYS['float']}}, 2)
        for position in range(len(whole)):
            for bit in (0, 5):
                changed = bytearray(whole)
                changed[position] ^= 1 << bit
                path.write_bytes(changed)
                with contextlib.suppress(MaskomalyError):
                    read_weights(path)

    def test_a_compressed_archive(self, tmp_path: Path) -> None:
        path = tmp_path / 'model.pth'
        torch.save({'w': torch.zeros(100000)}, tmp_path / 'plain')
        with (
            zipfile.ZipFile(tmp_path / 'plain') as plain,
            zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as packed,
        ):
            for entry in plain.infolist():
                packed.writestr(entry.filename, plain.read(entry))
        with pytest.raises(MaskomalyError, match=r'refused.*compressed'):
            read_weights(path)

    def test_a_tensor_larger_than_its_data(self, tmp_path: Path) -> None:
        path = tmp_path / 'model.pth'
        torch.save({'w': torch.zeros(1).expand(1 << 20, 1 << 20)}, path)
        with pytest.raises(MaskomalyError, match='larger than its data'):
            read_weights(path)

    def test_no_checkpoint_at_all(self, path: Path) -> None:
        path.write_text('<html>404 Not Found</html>')
        with pytest.raises(MaskomalyError, match='no checkpoint; fetch it again'):
            read_weights(path)

    def test_no_file(self, path: Path) -> None:
        with pytest.raises(MaskomalyError, match='No such file'):
            read_weights(path)
