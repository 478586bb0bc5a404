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

"""Export of checkpoints to ONNX, with a check that the file computes what torch does."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.networks.agreement import Agreement, compare
from maskomaly_ros.networks.checkpoints import (
    CheckpointFile,
    CheckpointFolder,
    find_checkpoint,
)
from maskomaly_ros.networks.export_cache import PART, ExportCache, versions
from maskomaly_ros.networks.exported_file import (
    INPUT_NAME,
    METADATA_KEY,
    OUTPUT_NAMES,
    Description,
    pack,
    probe_pixels,
    sample,
)
from maskomaly_ros.networks.onnx_network import OnnxNetwork, UnfitError
from maskomaly_ros.networks.preprocessing import (
    PIXEL_MEAN,
    PIXEL_STD,
    InputSize,
)
from maskomaly_ros.networks.runtime_form import runtime_form
from maskomaly_ros.networks.transformers_network import TransformersNetwork

_LOG = logging.getLogger(__name__)
_OPSET = 18
_CPU = torch.device('cpu')


@dataclass(frozen=True)
class Export:
    """An exported file.

    Attributes:
        file: where it is.
        shape: batch, height and width of its input.
        agreement: how far its outputs are from those of torch in float32.

    """

    file: Path
    shape: tuple[int, int, int]
    agreement: Agreement


def export(
    checkpoint: str | Path,
    out: str | Path,
    *,
    config: str | Path | None = None,
    input_size: InputSize | None = None,
    frame_size: tuple[int, int] | None = None,
    batch: int = 1,
    runtime: str = 'onnxruntime',
    device: torch.device = _CPU,
    precision: str = 'float32',
    frames: Sequence[NDArray[np.uint8]] = (),
) -> Export:
    """Write a checkpoint as an .onnx file with inputs of a fixed size, and check it.

    The file maps normalised and padded pixels, float32 [B, 3, H, W], to mask logits
    [B, N, H/4, W/4] and class logits [B, N, C+1] (opset 18); of networks with windows, B is
    that of all windows of all frames. `load_network` takes it.

    Args:
        checkpoint: whatever `load_network` takes, but for exported files.
        out: the file to write.
        config: yaml configuration of an official file, where it is not beside it.
        input_size: size of the network input; None takes the checkpoint's own.
        frame_size: height and width of the camera frames that it is meant for, which no padding
            is wasted on; None makes the input as large as input_size, the longest side across,
            or takes two windows.
        batch: frames a batch.
        runtime: what to check the file with: `onnxruntime`, `tensorrt` or `openvino`.
        device: where to check it.
        precision: in which precision of the runtime to check it.
        frames: images to check it on, RGB uint8 [H, W, 3], which are stretched to the size of
            the input; a built-in picture comes first.

    Raises:
        MaskomalyError: the checkpoint or a library is missing, the file cannot be written, or
            its outputs disagree with those of torch (then no file is left).

    """
    out = Path(out).expanduser()
    if out.suffix != '.onnx':
        raise MaskomalyError(f'the file to export to is called {out.name}; it must end in .onnx')
    if batch < 1:
        raise MaskomalyError(f'batch {batch} is out of range: at least 1')
    network = TransformersNetwork(find_checkpoint(checkpoint, config), _CPU, input_size=input_size)
    form = network.input_form
    shown = frame_size or form.size.usual
    number, height, width = form.shape(*shown)
    stretched = [np.asarray(cv2.resize(f, form.resized(*shown)[::-1]), np.uint8) for f in frames]
    return _export(
        network, out, (batch * number, height, width), (runtime,), device, precision, stretched
    )


def export_to_cache(
    checkpoint: CheckpointFolder | CheckpointFile,
    input_size: InputSize,
    shape: tuple[int, int, int],
    runtimes: Sequence[str] = ('onnxruntime',),
) -> Path:
    """Return the exported form of a checkpoint from the cache, exporting it if need be.

    Processes that need the same one at once wait for the first of them. What makes an export
    impossible is noted in the cache.

    Args:
        checkpoint: the checkpoint.
        input_size: what frames are resized to.
        shape: batch, height and width of the input.
        runtimes: one of these has to compute what torch does; they are tried in turn.

    Raises:
        MaskomalyError: it cannot be exported or written, or no runtime agrees with torch.

    """
    cache = ExportCache(checkpoint)
    file = cache.file(input_size, shape)
    if file.is_file():
        return file
    try:
        with cache.locked(file):
            if file.is_file():
                return file
            _LOG.info(
                'exporting %s for inputs of %dx%d; this takes minutes, once, and is kept as %s',
                checkpoint.name,
                shape[2],
                shape[1],
                file,
            )
            network = TransformersNetwork(checkpoint, _CPU, input_size=input_size)
            _export(network, file, shape, runtimes, _CPU, 'float32', ())
    except UnfitError as error:
        cache.write_refusal(file, str(error))
        raise
    except OSError as error:
        raise _cannot_write(file, error) from error
    return file


def _cannot_write(file: Path, error: OSError) -> MaskomalyError:
    return MaskomalyError(f'cannot write {file}: {error.strerror or error}')


def _export(
    network: TransformersNetwork,
    out: Path,
    shape: tuple[int, int, int],
    runtimes: Sequence[str],
    device: torch.device,
    precision: str,
    frames: Sequence[NDArray[np.uint8]],
) -> Export:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f'{PART}{out.stem}-', dir=out.parent) as folder:
            file = Path(folder) / out.name
            _write(network, file, shape)
            for runtime in runtimes:
                try:
                    exported = OnnxNetwork(file, runtime, device, precision)
                    agreement = _check(exported, network, shape, frames)
                    break
                except MaskomalyError:
                    if runtime == runtimes[-1]:
                        raise
            file.replace(out)  # whole or not at all
    except OSError as error:
        raise _cannot_write(out, error) from error
    return Export(out, shape, agreement)


def _check(
    exported: OnnxNetwork,
    network: TransformersNetwork,
    shape: tuple[int, int, int],
    frames: Sequence[NDArray[np.uint8]],
) -> Agreement:
    """Return the agreement where it is worst; raise where it is not good enough."""
    batch, height, width = shape
    network.fix_padded_size((height, width))
    picture = probe_pixels((1, height, width))[0].permute(1, 2, 0).numpy()
    built_in = (picture * PIXEL_STD + PIXEL_MEAN).clip(0, 255).astype(np.uint8)
    worst: Agreement | None = None
    for frame in (built_in, *frames):
        # A batch of different frames, so that a batch which is mixed up shows.
        group = [np.roll(frame, 7 * i, axis=1) for i in range(batch)]
        found = compare(exported.predict(group), network.predict(group))
        violations = found.violations(exported.precision)
        if violations:
            raise UnfitError(
                f'the exported network disagrees with torch: {"; ".join(violations)}. It was not '
                'written; try other versions of torch and of the runtime, and report this'
            )
        worst = found if worst is None else worst.worse(found)
    assert worst is not None
    return worst


def _write(network: TransformersNetwork, file: Path, shape: tuple[int, int, int]) -> None:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MaskomalyError(
            f'exporting needs {error.name}: pip install onnx onnxscript'
        ) from error
    pixels = probe_pixels(shape)
    model = network.traceable()
    with torch.inference_mode():
        reference = sample(*model(pixels))
    description = Description(
        name=network.name,
        sha256=network.sha256,
        shape=shape,
        input_size=(network.input_size.shortest, network.input_size.longest),
        num_queries=network.num_queries,
        class_names=network.class_names,
        made_with=versions(),
        reference=pack(reference),
        square=network.input_form.square,
        source_sha256=network.source_sha256,
    )
    try:
        with _quiet(), torch.no_grad(), runtime_form(model):
            program = torch.onnx.export(
                model,
                (pixels,),
                dynamo=True,
                opset_version=_OPSET,
                input_names=[INPUT_NAME],
                output_names=list(OUTPUT_NAMES),
                verbose=False,
            )
            assert program is not None
            program.model.metadata_props[METADATA_KEY] = description.to_json()
            program.save(file, external_data=False)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # the exporter's own exceptions are no public names
        raise UnfitError(f'{network.name} cannot be exported: {error}') from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the remarks of the exporter, which no user can act on."""
    loggers = [logging.getLogger(name) for name in ('torch.onnx', 'onnxscript', 'onnx_ir')]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
