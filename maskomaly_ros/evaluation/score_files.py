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

"""Score maps in the files of the SegmentMeIfYouCan benchmark.

One HDF5 file an image, `{method}/{data set}/{name}.hdf5`, with the score map as float16 in the
variable `value`, compressed by gzip. The benchmark keeps them below `outputs/anomaly_p`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.evaluation.cache import CannotWriteError

_VARIABLE = 'value'
_SUFFIX = '.hdf5'


@dataclass(frozen=True)
class ScoreFolder:
    """The score maps of one method for the images of one data set.

    Attributes:
        method: name of the method.
        folder: has `{name}.hdf5` for the images.

    """

    method: str
    folder: Path

    def read(self, name: str, size: tuple[int, int]) -> NDArray[Any]:
        """Read the score map of an image.

        As in the benchmark, a map that is narrower than the image is enlarged bilinearly.

        Args:
            name: of the image.
            size: height and width of the image.

        Returns:
            Floating point numbers [H, W] of that size, as stored.

        Raises:
            MaskomalyError: the file is missing, broken, no score map, or of another shape.

        """
        h5py = _h5py()
        path = self.folder / f'{name}{_SUFFIX}'
        try:
            with h5py.File(path, 'r') as file:
                stored = file[_VARIABLE]
                if stored.size > 16 * size[0] * size[1]:  # before as much memory is asked for
                    raise MaskomalyError(
                        f'{path} claims {" x ".join(map(str, stored.shape[::-1]))} pixels, '
                        f'but the image has {size[1]} x {size[0]}'
                    )
                score = np.squeeze(np.asarray(stored))
        except MaskomalyError:
            raise
        except FileNotFoundError:
            raise MaskomalyError(f'there is no score file {path}') from None
        except (OSError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise MaskomalyError(f'cannot read {_VARIABLE!r} in {path}: {error}') from error
        if score.ndim != 2 or score.dtype.kind not in 'fiu':
            raise MaskomalyError(f'{path} has {score.dtype} {list(score.shape)}, no score map')
        if score.shape[1] < size[1]:
            score = cv2.resize(score.astype(np.float32), (size[1], size[0]))
        if score.shape != tuple(size):
            raise MaskomalyError(
                f'{path} has {score.shape[1]} x {score.shape[0]} pixels, but the image has '
                f'{size[1]} x {size[0]}'
            )
        return score


def find_scores(folder: Path, dataset: str, names: Sequence[str]) -> list[ScoreFolder]:
    """Find the score files for a data set: of one method, or of several.

    Args:
        folder: `{name}.hdf5` lie in it, or in `{data set}/`, or in `{method}/{data set}/` below.
        dataset: name of the data set, which decides between several folders that fit.
        names: of the images.

    Raises:
        MaskomalyError: there is no such file, or it is not clear which folder is meant.

    """
    if not folder.is_dir():
        raise MaskomalyError(f'folder of score files {folder} does not exist')
    if _fit(folder, names):
        return [ScoreFolder(folder.name, folder)]
    if own := _of_dataset(folder, dataset, names):
        return [ScoreFolder(folder.name, own)]
    methods = [path for path in sorted(folder.iterdir()) if path.is_dir()]
    found = [(path.name, _of_dataset(path, dataset, names)) for path in methods]
    scores = [ScoreFolder(method, own) for method, own in found if own]
    if not scores:
        raise MaskomalyError(
            f'no score files {names[0]}{_SUFFIX} … of {dataset} in {folder}, in folders of data '
            'sets in it, or in METHOD/DATA SET in it'
        )
    return scores


def named_scores(
    specifications: Sequence[str], dataset: str, names: Sequence[str]
) -> list[ScoreFolder]:
    """Find the score files of specifications such as `outputs` or `mine=outputs/method`.

    Args:
        specifications: folders for `find_scores`, each with a name before it if the method is to
            have another than that of its folder.
        dataset: name of the data set.
        names: of the images.

    Raises:
        MaskomalyError: see `find_scores`; or one name is given to several methods.

    """
    found = []
    for specification in specifications:
        name, equals, folder = specification.partition('=')
        path = Path(folder if equals else name).expanduser()
        folders = find_scores(path, dataset, names)
        if equals and len(folders) > 1:
            raise MaskomalyError(
                f'{path} has several methods, which cannot all be named {name}: '
                f'{", ".join(each.method for each in folders)}'
            )
        found += [ScoreFolder(name if equals else f.method, f.folder) for f in folders]
    return found


def write_score(
    folder: Path, method: str, dataset: str, name: str, score: NDArray[np.floating[Any]]
) -> Path:
    """Write the score map of an image where the benchmark looks for it below `folder`.

    Args:
        folder: such as the benchmark's `outputs/anomaly_p`; made where it is missing.
        method: name of the method.
        dataset: name of the data set.
        name: of the image.
        score: [H, W]; stored as float16.

    Returns:
        The file; it is there as a whole or not at all.

    Raises:
        CannotWriteError: it cannot be written.

    """
    h5py = _h5py()
    path = folder / method / dataset / f'{name}{_SUFFIX}'
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        number, part = tempfile.mkstemp(dir=path.parent, prefix='.', suffix='.part')
        os.close(number)
        try:
            with h5py.File(part, 'w') as file:
                file.create_dataset(_VARIABLE, data=score.astype(np.float16), compression='gzip')
            Path(part).chmod(0o644)
            Path(part).replace(path)
        finally:
            Path(part).unlink(missing_ok=True)
    except OSError as error:
        raise CannotWriteError(f'cannot write {path}: {error.strerror or error}') from error
    return path


def _fit(folder: Path, names: Sequence[str]) -> int:
    return sum((folder / f'{name}{_SUFFIX}').is_file() for name in names)


def _of_dataset(folder: Path, dataset: str, names: Sequence[str]) -> Path | None:
    """Return the folder in `folder` that has the most of the files."""
    if _fit(folder / dataset, names):
        return folder / dataset
    inner = [path for path in sorted(folder.iterdir()) if path.is_dir()]
    fits = {path: number for path in inner if (number := _fit(path, names))}
    best = [path for path, number in fits.items() if number == max(fits.values())]
    if len(best) > 1:
        raise MaskomalyError(
            f'{" and ".join(str(path) for path in best)} both have score files for {dataset}; '
            'name one of them'
        )
    return best[0] if best else None


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise MaskomalyError(
            'score files need h5py, which is not installed: pip install h5py'
        ) from error
    return h5py
