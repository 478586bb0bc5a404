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
"""Whatever camera messages, checkpoints, YAML files and bags hold: a result or a MaskomalyError.

Never another exception, the end of the process, more time or memory than the input is worth, or
code that it brings along. A few hundred examples of each; `make fuzz MINUTES=30` goes on with new
ones. What fuzzing and thinking found is kept as an example of its own.
"""

from __future__ import annotations

import faulthandler
import io
import json
import os
import pickle
import resource
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, note, settings
from hypothesis import strategies as st
from tiny_networks import RedIsAnomalous

from maskomaly_ros.detector import Detector, DetectorConfig
from maskomaly_ros.drives.open import open_source
from maskomaly_ros.drives.source import EVERY_CAMERA
from maskomaly_ros.encodings import decode_compressed
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.networks.checkpoints import CheckpointFolder
from maskomaly_ros.networks.official_config import read_config
from maskomaly_ros.networks.official_weights import transformers_config
from maskomaly_ros.networks.transformers_network import load_model
from maskomaly_ros.networks.unpickling import check_torch_file, read_weights
from maskomaly_ros.parameters import configure, read_parameters
from maskomaly_ros.queries import read_queries
from maskomaly_ros.replay.run import ReplayOptions, ReplaySummary, replay
from maskomaly_ros.scoring import ScoringParameters

# Multiplies the number of examples.
_EFFORT = float(os.environ.get('MASKOMALY_FUZZ_EFFORT', '1'))
_MORE_MEMORY = 3 << 30
_LONGEST = 120.0
_MAX_PIXELS = 1 << 20
_INTERESTING = [b'\0', b'\xff', b'\0\0', b'\xff\xff', b'\x7f\xff\xff\xff', b'\xff\xff\xff\x7f',
                b'\xff' * 4, b'\xff' * 8, b'\0' * 8]  # fmt: skip


def effort(examples: int) -> settings:
    """Return settings for a number of examples, or as many more as the environment says."""
    return settings(
        max_examples=max(1, round(_EFFORT * examples)), suppress_health_check=list(HealthCheck)
    )


@st.composite
def damage(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Draw what overwrites, inserts, removes, repeats or cuts off parts of any bytes."""
    places = st.floats(0, 1, exclude_max=True) | st.integers(0, 200)
    edits = draw(
        st.lists(
            st.tuples(
                st.sampled_from(['overwrite', 'insert', 'remove', 'repeat', 'cut']),
                places,
                st.sampled_from(_INTERESTING) | st.binary(min_size=1, max_size=8),
                st.integers(1, 40),
            ),
            max_size=6,
        )
    )

    def apply(original: bytes) -> bytes:
        data = bytearray(original)
        for kind, place, content, length in edits:
            start = place if isinstance(place, int) else int(place * len(data))
            if kind == 'overwrite':
                data[start : start + len(content)] = content
            elif kind == 'insert':
                data[start:start] = content
            elif kind == 'remove':
                del data[start : start + length]
            elif kind == 'repeat':
                data[start:start] = data[start : start + length] * length
            else:
                del data[start:]
        return bytes(data)

    return apply


@pytest.fixture(autouse=True)
def memory() -> Iterator[None]:
    """Give a test no more than some memory above what is in use."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    in_use = int(Path('/proc/self/statm').read_text(encoding='ascii').split()[0])
    most = in_use * os.sysconf('SC_PAGESIZE') + _MORE_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp('fuzz')


def outcome(
    function: Callable[..., Any], *arguments: Any, may_lack_memory: bool = False, **options: Any
) -> Any:
    """Return what a function returns, or the MaskomalyError that it gives instead.

    What takes too long ends the process, with a trace; lack of memory is no reason.
    """
    faulthandler.dump_traceback_later(_LONGEST, exit=True)
    refused: MaskomalyError | None = None
    try:
        result = function(*arguments, **options)
    except MaskomalyError as error:
        refused = error
    if refused is None:
        faulthandler.cancel_dump_traceback_later()
        return result
    assert 0 < len(str(refused)) < 50_000  # lists of weights can be long
    for cause in () if may_lack_memory else (refused.__cause__, refused.__context__):
        assert not isinstance(cause, MemoryError), f'too much memory: {refused}'
        assert "can't allocate" not in str(cause), f'too much memory: {refused}'
    faulthandler.cancel_dump_traceback_later()
    return refused


# --- camera messages ---------------------------------------------------------------------------


def _encoded(suffix: str, *options: int, size: tuple[int, int] = (16, 24)) -> bytes:
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    return cv2.imencode(suffix, picture, options)[1].tobytes()


_PICTURES = [
    _encoded('.jpg'),
    _encoded('.jpg', cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    _encoded('.jpg', cv2.IMWRITE_JPEG_RST_INTERVAL, 1),
    _encoded('.png'),
    _encoded('.webp', cv2.IMWRITE_WEBP_QUALITY, 50),
    _encoded('.webp', cv2.IMWRITE_WEBP_QUALITY, 101),
]
_FORMATS = ['jpeg', 'png', '', 'rgb8; jpeg compressed bgr8', 'bayer_rggb8; png compressed', 'ä']


def _with_checksums(png: bytes) -> bytes:
    """Correct the checksums of a PNG, so that damage gets as far as the decoder."""
    data, position = bytearray(png), 8
    while position + 12 <= len(data):
        end = position + 8 + int.from_bytes(data[position : position + 4], 'big')
        if end + 4 > len(data):
            break
        data[end : end + 4] = struct.pack('>I', zlib.crc32(data[position + 4 : end]))
        position = end + 4
    return bytes(data)


def _segment(marker: int, length: int, content: bytes = b'') -> bytes:
    return struct.pack('>BBH', 0xFF, marker, length) + content.ljust(length - 2, b'\0')


def _hidden_size(marker: int) -> bytes:
    """Make a JPEG of 2048 x 2048 pixels that looks small to who takes a length for one.

    The decoder knows that this marker has none, and skips the small frame header as a comment.
    """
    large = _encoded('.jpg', size=(2048, 2048))
    comment = bytearray(65533)
    small = b'\xff\xc0\x00\x11\x08\x00\x10\x00\x10\x03'
    jump = 2 + 2 + 0xFFEF - 8
    comment[jump : jump + len(small)] = small
    return large[:2] + bytes((0xFF, marker)) + _segment(0xEF, 65535, comment) + large[2:]


def _many_scans() -> bytes:
    data = _encoded('.jpg', cv2.IMWRITE_JPEG_PROGRESSIVE, 1, size=(1024, 1024))
    start = data.rfind(b'\xff\xda')
    return data[:-2] + 1000 * data[start:-2] + b'\xff\xd9'


class TestCameraMessages:
    @effort(400)
    @given(st.sampled_from(_PICTURES), damage(), st.sampled_from(_FORMATS), st.booleans())
    def test_compressed(
        self, original: bytes, spoil: Callable[[bytes], bytes], format_name: str, mend: bool
    ) -> None:
        data = spoil(original)
        if mend and data[:4] == b'\x89PNG':
            data = _with_checksums(data)
        message = SimpleNamespace(format=format_name, data=data)
        picture = outcome(decode_compressed, message, max_pixels=_MAX_PIXELS)
        if not isinstance(picture, MaskomalyError):
            assert picture.dtype == np.uint8
            assert picture.shape[2] == 3
            assert 0 < picture.shape[0] * picture.shape[1] <= _MAX_PIXELS

    @pytest.mark.parametrize('marker', [0x01, 0xD0, 0xD7])
    def test_a_jpeg_that_hides_its_size(self, marker: int) -> None:
        message = SimpleNamespace(format='jpeg', data=_hidden_size(marker))
        assert cv2.imdecode(np.frombuffer(message.data, np.uint8), 1).shape == (2048, 2048, 3)
        refused = outcome(decode_compressed, message, max_pixels=_MAX_PIXELS)
        assert 'no frame header' in str(refused)

    def test_a_jpeg_of_a_thousand_scans(self) -> None:
        message = SimpleNamespace(format='jpeg', data=_many_scans())
        assert 'scans' in str(outcome(decode_compressed, message, max_pixels=_MAX_PIXELS))

    def test_a_jpeg_of_fill_bytes(self) -> None:
        message = SimpleNamespace(format='jpeg', data=b'\xff\xd8' + b'\xff' * (1 << 24))
        assert 'no frame header' in str(outcome(decode_compressed, message, max_pixels=9))
        whole = _PICTURES[0]
        message.data = whole[:2] + b'\xff' * 1000 + whole[2:]
        assert outcome(decode_compressed, message, max_pixels=_MAX_PIXELS).shape == (16, 24, 3)


# --- checkpoints -------------------------------------------------------------------------------


def _torch_file(content: Any, zipped: bool) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=zipped)
    return stream.getvalue()


_WEIGHTS = {'a.weight': torch.arange(6.0).reshape(2, 3), 'b': torch.ones(3, dtype=torch.bfloat16)}
_ARRAYS = {name: value.float().numpy() for name, value in _WEIGHTS.items()}
_CHECKPOINTS = [
    *(pickle.dumps({'model': _ARRAYS, 'iteration': np.int64(3)}, p) for p in (0, 2, 4, 5)),
    pickle.dumps({'model': _WEIGHTS}, 2),
    _torch_file({'model': _WEIGHTS}, zipped=True),
    _torch_file({'model': _WEIGHTS, 'x': [('a', 1)]}, zipped=False),
]
# Words of the language of pickles, with what a checkpoint says in it.
_WORDS = [
    b'\x80\x02', b'}', b']', b')', b'(', b'.', b'0', b'1', b'2', b'N', b'K\x01',
    b'J\xff\xff\xff\xff',
    b'\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f', b'G\x7f\xf8\0\0\0\0\0\0', b'\x85', b'\x86',
    b'\x87', b't', b'l', b'd', b'e', b'a', b's', b'u', b'R', b'b', b'o', b'\x81', b'\x92',
    b'\x94', b'\x8f',
    b'\x90', b'\x91', b'h\x00', b'h\x01', b'q\x00', b'q\x01', b'r\xff\xff\xff\x7f', b'U\x02<f',
    b'X\x05\0\0\0model', b'B\x04\0\0\0\0\0\0\0', b'cnumpy\nndarray\n', b'cnumpy\ndtype\n',
    b'ccollections\nOrderedDict\n', b'c_codecs\nencode\n', b'cnumpy.core.multiarray\nscalar\n',
    b'cnumpy.core.multiarray\n_reconstruct\n', b'cnumpy._core.numeric\n_frombuffer\n',
    b'ctorch.storage\n_load_from_bytes\n', b'ctorch._utils\n_rebuild_tensor_v2\n',
    b'ctorch._utils\n_rebuild_parameter\n', b'cos\nsystem\n', b'Vtouch has_run\n', b'\x93', b'Q',
]  # fmt: skip
_PROGRAMS = st.lists(
    st.tuples(st.sampled_from(_WORDS), st.sampled_from([1, 1, 1, 1, 2, 3, 1000])), max_size=40
).map(lambda words: b''.join(word * count for word, count in words) + b'.')
_DEEP = b')' + b'\x85' * 1_000_000  # a tuple in a tuple in a tuple …
_TWICE = b')' + b'q\x000h\x00h\x00\x86' * 60  # a tuple of a tuple twice, of one twice …
_TWICE_LISTS = b''.join(b']q%c0' % i for i in range(60)) + b''.join(
    b'h%c(h%ch%ce0' % (i, i + 1, i + 1) for i in range(59)
)


def _archive(program: bytes, *more: bytes, **options: Any) -> bytes:
    """Make what torch.save makes, around a pickle of one's own."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, 'w', **options) as archive:
        archive.writestr('archive/data.pkl', program)
        archive.writestr('archive/version', b'3\n')
        for index, content in enumerate(more):
            archive.writestr(f'archive/data/{index}', content)
    return stream.getvalue()


def _overlapping() -> bytes:
    """Make an archive whose directory names one part a hundred times."""
    data = _archive(b'}.', b'\0' * 100_000)
    end = data.rindex(b'PK\x05\x06')
    last = data.rindex(b'PK\x01\x02')
    many = data[:end] + 100 * data[last:end]
    start = struct.unpack('<I', data[end + 16 : end + 20])[0]
    sizes = struct.pack('<HHII', 103, 103, len(many) - start, start)
    return many + data[end : end + 8] + sizes + b'\0\0'


class TestCheckpoints:
    @effort(300)
    @given(st.sampled_from(_CHECKPOINTS), damage())
    def test_damaged(self, folder: Path, original: bytes, spoil: Callable[[bytes], bytes]) -> None:
        self.read(folder / 'model.pkl', spoil(original))

    @effort(300)
    @given(_PROGRAMS, st.sampled_from(['plain', 'archive', 'legacy']))
    @example(b'}' + _DEEP + b'Ns.', 'plain')
    @example(b'}' + _DEEP + b'Ns.', 'archive')
    @example(b'}' + _DEEP + b'Ns.', 'legacy')
    @example(b'}' + _TWICE + b'Ns.', 'plain')
    @example(b'}' + _TWICE + b'Ns.', 'archive')
    @example(b'cnumpy\ndtype\n' + _TWICE + b'\x85R.', 'plain')
    @example(b'cnumpy\ndtype\n(' + _TWICE_LISTS + b'h\x00tR.', 'plain')
    @example(b'}q\xff' + _TWICE_LISTS + b'h\xffU\x01wh\x00s.', 'plain')
    @example(b'}(K\x01K\x02u.', 'plain')
    def test_programs(self, folder: Path, program: bytes, form: str) -> None:
        if form == 'archive':
            program = _archive(program)
        elif form == 'legacy':
            whole = _torch_file({}, zipped=False)
            program = whole.replace(b'\x80\x02}q\x00.', program, 1)
        self.read(folder / 'model.pkl', program)
        assert not Path('has_run').exists()

    @staticmethod
    def read(path: Path, data: bytes) -> None:
        note(repr(data[:5000]))
        path.write_bytes(data)
        outcome(check_torch_file, path)
        weights = outcome(read_weights, path)
        if not isinstance(weights, MaskomalyError):
            held = sum(w.numel() * w.element_size() for w in weights.values())
            assert held <= 100 * len(data)

    @pytest.mark.parametrize('check', [check_torch_file, read_weights])
    @pytest.mark.parametrize(
        ('data', 'reason'),
        [
            (_archive(b'}' + _DEEP + b'Ns.'), 'nested'),
            (_archive(b'}' + _TWICE + b'Ns.'), 'multiplies'),
            (_archive(b'}.', bytes(100_000), compression=zipfile.ZIP_DEFLATED), 'compressed'),
            (_overlapping(), 'overlap'),
        ],
        ids=['deep', 'twice', 'compressed', 'overlapping'],
    )
    def test_archives_that_end_the_process_or_fill_the_memory(
        self, folder: Path, check: Callable[..., Any], data: bytes, reason: str
    ) -> None:
        path = folder / 'model.pth'
        path.write_bytes(data)
        assert reason in str(outcome(check, path))

    def test_an_archive_inside_a_pickle(self, folder: Path) -> None:
        path = folder / 'model.pkl'
        inner = _archive(b'}.', bytes(100_000), compression=zipfile.ZIP_DEFLATED)
        call = b'ctorch.storage\n_load_from_bytes\nB' + struct.pack('<I', len(inner)) + inner
        path.write_bytes(call + b'\x85R.')
        assert 'bytes of its own' in str(outcome(read_weights, path))


class TestFolders:
    """Folders as transformers writes them: config.json and weights."""

    @pytest.fixture
    def checkpoint(self, tiny_checkpoint: Path, tmp_path: Path) -> Path:
        return Path(shutil.copytree(tiny_checkpoint, tmp_path / 'copy'))

    @staticmethod
    def load(path: Path) -> Any:
        return outcome(load_model, CheckpointFolder('fuzz', path, '0' * 64))

    @effort(25)
    @given(spoil=damage())
    def test_damaged_safetensors(
        self, checkpoint: Path, tiny_checkpoint: Path, spoil: Callable[[bytes], bytes]
    ) -> None:
        whole = (tiny_checkpoint / 'model.safetensors').read_bytes()
        (checkpoint / 'model.safetensors').write_bytes(spoil(whole))
        self.load(checkpoint)

    @pytest.mark.parametrize(
        'header',
        [
            b'\xff' * 8 + b'{}',
            struct.pack('<Q', 1 << 40) + b'{}',
            struct.pack('<Q', 100_000_000) + b'{}',
            struct.pack('<Q', 200_000) + b'[' * 200_000,
            struct.pack('<Q', 75)
            + b'{"w":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}',
        ],
        ids=['all bits', 'a terabyte', 'not there', 'deep', 'a large tensor'],
    )
    def test_headers_of_safetensors(self, checkpoint: Path, header: bytes) -> None:
        (checkpoint / 'model.safetensors').write_bytes(header)
        assert isinstance(self.load(checkpoint), MaskomalyError)

    @effort(25)
    @given(
        name=st.sampled_from(
            ['num_queries', 'hidden_dim', 'feature_size', 'decoder_layers', 'encoder_layers',
             'num_attention_heads', 'backbone_config', 'id2label', 'model_type', 'dim_feedforward',
             'maskomaly_input_size', 'backbone', 'quantization_config', 'auto_map', 'x']
        ),
        value=st.none() | st.booleans() | st.integers(-3, 40) | st.text(max_size=5)
        | st.lists(st.integers(0, 3), max_size=3)
        | st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    )  # fmt: skip
    def test_other_configurations(self, checkpoint: Path, tiny_checkpoint: Path, name: str,
                                  value: Any) -> None:  # fmt: skip
        content = json.loads((tiny_checkpoint / 'config.json').read_text(encoding='utf-8'))
        content[name] = value
        (checkpoint / 'config.json').write_text(json.dumps(content), encoding='utf-8')
        self.load(checkpoint)

    def test_weights_of_torch_that_end_the_process(self, checkpoint: Path) -> None:
        (checkpoint / 'model.safetensors').unlink()
        (checkpoint / 'pytorch_model.bin').write_bytes(_archive(b'}' + _DEEP + b'Ns.'))
        assert 'nested' in str(self.load(checkpoint))


# --- YAML files --------------------------------------------------------------------------------

_QUERIES = b"""\
checkpoint: a
checkpoint_sha256: '0000000000000000000000000000000000000000000000000000000000000000'
anomalous_queries: [3, 1]
mask_threshold: 0.5
provenance: {date: 2026-11-22, dataset: x}
"""
_CONFIG = b"""\
MODEL:
  META_ARCHITECTURE: MaskFormer
  BACKBONE: {NAME: D2SwinTransformer}
  PIXEL_MEAN: [123.675, 116.280, 103.530]
  PIXEL_STD: [58.395, 57.120, 57.375]
  SWIN: {EMBED_DIM: 96, DEPTHS: [2, 2, 6, 2], NUM_HEADS: [3, 6, 12, 24], MLP_RATIO: 4.0}
  SEM_SEG_HEAD:
    NAME: MaskFormerHead
    IN_FEATURES: [res2, res3, res4, res5]
    NUM_CLASSES: 19
    CONVS_DIM: 256
    PIXEL_DECODER_NAME: MSDeformAttnPixelDecoder
    DEFORMABLE_TRANSFORMER_ENCODER_IN_FEATURES: [res3, res4, res5]
    TRANSFORMER_ENC_LAYERS: 6
  MASK_FORMER:
    TRANSFORMER_IN_FEATURE: multi_scale_pixel_decoder
    DEC_LAYERS: 10
DATASETS: {TRAIN: !!python/tuple [cityscapes_fine_sem_seg_train], TEST: ("a",)}
INPUT: {FORMAT: RGB, MIN_SIZE_TEST: 1024, MAX_SIZE_TEST: !!python/object/apply:eval ["[1][0]"]}
"""
_PARAMETERS = b"""\
/**:
  ros__parameters:
    camera_topics: [/front/image_raw]
    checkpoint: demo
    anomalous_queries: [1, 2]
    mask_threshold: 0.3
    variant: paper
    obstacle_threshold: 0.9
    minimum_obstacle_area: 0
    jpeg_quality: 80
"""
_LAUGHS = b'a0: &a0 [1, 1]\n' + b''.join(
    b'a%d: &a%d [*a%d, *a%d]\n' % (i + 1, i + 1, i, i) for i in range(40)
)
_MERGED = b'a0: &a0 {x: 1}\n' + b''.join(
    b'a%d: &a%d {<<: [*a%d, *a%d]}\n' % (i + 1, i + 1, i, i) for i in range(40)
)
_SCALARS = [
    b'!!int ""', b'!!float ""', b'!!bool x', b'!!timestamp x', b'!!null x',
    b'!!binary "\xc3\xa4"',
    b'2001-99-99', b'9' * 5000, b'!!python/object/apply:os.system ["touch has_run"]', b'!!set {a}',
    b'!!omap [a: 1]', b'!!pairs [a: 1]', b'.nan', b'.inf', b'-1', b'1e999', b'0x', b'1:99',
    b'"\\ud800"',
    b'[' * 200, b'{' * 200, b'"{[]: 1}"', b'"' + b'-' * 990 + b'1"', b'"(' + b'1,' * 400 + b')"',
    b'!!python/tuple [1]', b'&x [*x]', b'*nowhere', b'! x', b'@', b'\xff\xfe', b'\0',
    b'--- a\n--- b',
    b'? [a]\n: 1', b'"a\n\nb"', b'1_0', b'~', b'on', b'[[1], {2: 3}]',
]  # fmt: skip


@st.composite
def _yaml(draw: st.DrawFn, original: bytes) -> bytes:
    """Draw a file with another value at some places, and some more damage."""
    lines = original.splitlines()
    for _ in range(draw(st.integers(0, 2))):
        index = draw(st.integers(0, len(lines) - 1))
        name = lines[index].partition(b':')[0]
        lines[index] = name + b': ' + draw(st.sampled_from(_SCALARS))
    text = b'\n'.join(lines) + b'\n'
    return draw(damage())(text) if draw(st.booleans()) else text


class TestYaml:
    @effort(150)
    @given(_yaml(_QUERIES))
    @example(_LAUGHS + b'checkpoint: *a40\n')
    @example(_LAUGHS + b'checkpoint: a\nanomalous_queries: *a40\nprovenance: {x: *a40}\n')
    @example(b'checkpoint: a\nprovenance: {' + _LAUGHS.replace(b'\n', b', ') + b'}\n')
    @example(_MERGED)
    @example(b'checkpoint: a\nanomalous_queries: [' + b'9' * 5000 + b']\n')
    @example(b'checkpoint: 2001-99-99\n')
    @example(b'checkpoint: !!bool x\n')
    @example(b'checkpoint: ' + b'[' * 20_000)
    def test_queries(self, folder: Path, text: bytes) -> None:
        path = folder / 'queries.yaml'
        path.write_bytes(text)
        queries = outcome(read_queries, path)
        if not isinstance(queries, MaskomalyError):
            assert not isinstance(outcome(queries.scoring_parameters), MaskomalyError)
        assert not Path('has_run').exists()

    def test_a_file_without_an_end(self) -> None:
        assert 'larger than' in str(outcome(read_queries, '/dev/zero'))
        assert 'larger than' in str(outcome(read_config, Path('/dev/zero')))

    @effort(100)
    @given(_yaml(_PARAMETERS))
    @example(_PARAMETERS)
    @example(b'&a a: {b: *a, c: *a}\n')
    @example(_LAUGHS.replace(b'[', b'{x: ').replace(b', ', b', y: ').replace(b']', b'}'))
    def test_parameters(self, folder: Path, text: bytes) -> None:
        path = folder / 'parameters.yaml'
        path.write_bytes(text)
        values = outcome(read_parameters, path)
        if not isinstance(values, MaskomalyError):
            network = SimpleNamespace(num_queries=100, device=torch.device('cpu'))
            outcome(configure, Detector(network, DetectorConfig()), values)
        assert not Path('has_run').exists()

    @effort(100)
    @given(_yaml(_CONFIG))
    @example(_CONFIG)
    @example(_CONFIG + _LAUGHS + b'INPUT: {FORMAT: *a40}\n')
    @example(_CONFIG + _LAUGHS + b'DATASETS: {TRAIN: *a40}\n')
    @example(_CONFIG.replace(b'4.0', b'many'))
    @example(_CONFIG.replace(b'[2, 2, 6, 2]', b'[16000, 16000, 16000, 16000]'))
    @example(b'? ' + _LAUGHS.replace(b'[', b'!!python/tuple [').replace(b'\n', b'\n? '))
    @example(_MERGED)
    def test_configurations(self, folder: Path, text: bytes) -> None:
        path = folder / 'config.yaml'
        path.write_bytes(text)
        config = outcome(read_config, path)
        if not isinstance(config, MaskomalyError):
            outcome(transformers_config, config)
        assert not Path('has_run').exists()


# --- bags --------------------------------------------------------------------------------------

_FRONT, _REAR, _FRAMES = '/front/image_raw', '/rear/compressed', 12
_BAGS = (
    'db3', 'db3 zstd', 'mcap', 'mcap no checksums', 'mcap no index', 'mcap neither',
    'mcap no chunks', 'mcap zstd', 'ros1',
)  # fmt: skip


@pytest.fixture(scope='module')
def bags(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write small bags of raw and compressed pictures in all storages, as recorders differ."""
    pytest.importorskip('rosbags', reason='bags need rosbags')
    return {name: _write_bag(tmp_path_factory.mktemp('bags') / 'bag', name) for name in _BAGS}


def _write_bag(path: Path, name: str) -> Path:
    from rosbags import rosbag1, rosbag2
    from rosbags.typesys import Stores, get_typestore

    is_ros1 = name == 'ros1'
    store = get_typestore(Stores.ROS1_NOETIC if is_ros1 else Stores.ROS2_HUMBLE)
    types = store.types
    time = types['builtin_interfaces/msg/Time'](1, 2)
    header = types['std_msgs/msg/Header'](*([7] if is_ros1 else []), time, 'front')
    jpeg = np.frombuffer(_PICTURES[0], np.uint8)
    pixels = np.arange(1800, dtype=np.uint8)
    raw = types['sensor_msgs/msg/Image'](header, 20, 30, 'rgb8', 0, 90, pixels)
    packed = types['sensor_msgs/msg/CompressedImage'](header, 'jpeg', jpeg)
    kinds = {_FRONT: raw.__msgtype__, _REAR: packed.__msgtype__}
    serialize = store.serialize_ros1 if is_ros1 else store.serialize_cdr
    messages = [
        (topic, index * 10**8 + offset, bytes(serialize(message, message.__msgtype__)))
        for index in range(_FRAMES)
        for offset, (topic, message) in enumerate(((_FRONT, raw), (_REAR, packed)))
    ]
    writer: Any
    if is_ros1:
        path = path.with_suffix('.bag')
        writer = rosbag1.Writer(path)
        writer.chunk_threshold = 8000
    else:
        plugins = rosbag2.StoragePlugin
        plugin = plugins.SQLITE3 if 'db3' in name else plugins.MCAP
        writer = rosbag2.Writer(path, version=9, storage_plugin=plugin)
        if name == 'db3 zstd':
            writer.set_compression(rosbag2.CompressionMode.MESSAGE, rosbag2.CompressionFormat.ZSTD)
    with writer:
        connections = {
            topic: writer.add_connection(topic, kind, typestore=store)
            for topic, kind in kinds.items()
        }
        for topic, received_ns, data in messages:
            writer.write(connections[topic], received_ns, data)
    if 'mcap' in name:
        definitions = {topic: c.msgdef.data for topic, c in connections.items()}
        _write_mcap(path / 'bag.mcap', name, kinds, definitions, messages)
    return path


def _write_mcap(
    file: Path,
    name: str,
    kinds: dict[str, str],
    definitions: dict[str, str],
    messages: list[tuple[str, int, bytes]],
) -> None:
    """Write a file in small chunks, with or without checksums and indices."""
    mcap = pytest.importorskip('mcap.writer', reason='files in many chunks need mcap')
    with file.open('wb') as stream:
        writer = mcap.Writer(
            stream,
            chunk_size=8000,
            compression=mcap.CompressionType.ZSTD if 'zstd' in name else mcap.CompressionType.NONE,
            index_types=mcap.IndexType.NONE
            if 'index' in name or 'neither' in name
            else mcap.IndexType.ALL,
            use_chunking='no chunks' not in name,
            enable_crcs='checksums' not in name and 'neither' not in name,
        )
        writer.start('ros2', 'test')
        channels = {}
        for topic, kind in kinds.items():
            schema = writer.register_schema(kind, 'ros2msg', definitions[topic].encode())
            channels[topic] = writer.register_channel(topic, 'cdr', schema)
        for topic, received_ns, data in messages:
            writer.add_message(channels[topic], received_ns, data, received_ns)
        writer.finish()


@pytest.mark.parametrize('name', _BAGS)
@effort(20)
@given(spoil=damage(), what=st.sampled_from(['storage', 'storage', 'storage', 'metadata']),
       with_metadata=st.booleans())  # fmt: skip
def test_bags(
    bags: dict[str, Path],
    folder: Path,
    name: str,
    spoil: Callable[[bytes], bytes],
    what: str,
    with_metadata: bool,
) -> None:
    copy, storage, metadata = _copy(bags[name], folder)
    if what == 'storage' or metadata is None:
        storage.write_bytes(spoil(storage.read_bytes()))
    else:
        metadata.write_bytes(spoil(metadata.read_bytes()))
    if metadata is not None and not with_metadata:
        metadata.unlink()

    def read() -> list[Any]:
        with open_source(copy, topics=EVERY_CAMERA) as source:
            frames = list(source)
            assert all(problem.reason for problem in source.problems)
            # Nothing is lost without a word; damage may also repeat messages.
            assert len(source) <= len(frames) + sum(p.frames for p in source.problems)
            return frames

    # The reader of bags asks for as much memory as a damaged length says, and gets none.
    frames = outcome(read, may_lack_memory=True)
    if not isinstance(frames, MaskomalyError):
        for frame in frames:
            assert frame.image.ndim == 3
            assert frame.image.dtype == np.uint8


@pytest.mark.parametrize('name', _BAGS)
@effort(30)
@given(spoil=damage())
def test_frames_of_a_damaged_bag_are_counted(
    bags: dict[str, Path], folder: Path, name: str, spoil: Callable[[bytes], bytes]
) -> None:
    """Frames announced are frames scored and frames named as lost."""
    copy, storage, metadata = _copy(bags[name], folder)
    storage.write_bytes(spoil(storage.read_bytes()))
    out = folder / 'results'
    shutil.rmtree(out, ignore_errors=True)
    detector = Detector(RedIsAnomalous(), DetectorConfig(ScoringParameters((1,))))  # type: ignore[arg-type]

    def score() -> tuple[int, ReplaySummary]:
        with open_source(copy, topics=(_FRONT, _REAR)) as source:
            announced = len(source)
        options = ReplayOptions(('csv',), topics=(_FRONT, _REAR))
        return announced, replay(copy, out, options, detector=detector)

    result = outcome(score, may_lack_memory=True)
    if isinstance(result, MaskomalyError):
        return
    announced, summary = result
    assert summary.is_complete
    assert summary.frames + summary.lost == announced
    # The bag itself may have lost its count; metadata.yaml has it.
    assert announced <= 2 * _FRAMES
    assert announced == 2 * _FRAMES or metadata is None


def _copy(bag: Path, folder: Path) -> tuple[Path, Path, Path | None]:
    """Return a copy of a bag, its storage file and, in ROS 2, its metadata."""
    copy = folder / bag.name
    if bag.is_file():
        shutil.copy(bag, copy)
        return copy, copy, None
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(bag, copy)
    (storage,) = (path for path in copy.iterdir() if path.name != 'metadata.yaml')
    return copy, storage, copy / 'metadata.yaml'
