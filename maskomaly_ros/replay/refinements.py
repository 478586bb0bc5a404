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

"""Regions, filters and trackers of a replay's cameras, applied as the node applies them."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from maskomaly_ros.detector import Detection
from maskomaly_ros.drives.source import SourceFrame
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.parameters import load_settings, read_regions, refinement_parameters
from maskomaly_ros.refinement.refine import Refiner
from maskomaly_ros.refinement.regions import Region
from maskomaly_ros.replay.journal import Part
from maskomaly_ros.topics import absolute_topic, outputs_of


class Refinements:
    """The region, the temporal filter and the tracker of each camera.

    What the filters remember is saved with each part, so that a rerun goes on as if there had been
    no end.

    Args:
        cameras: their topics.
        values: of all parameters, see `DEFAULTS`.
        folder: for what the filters remember.

    Attributes:
        identity: of the regions, by camera; empty without regions.

    Raises:
        MaskomalyError: a parameter is wrong, or regions are given, but not for a camera.

    """

    name = 'filters'

    def __init__(self, cameras: Iterable[str], values: Mapping[str, Any], folder: Path) -> None:
        self._folder = folder
        self._parameters = refinement_parameters(values)
        cameras = tuple(cameras)
        settings = load_settings(values)
        known = {
            outputs_of(absolute_topic(topic)): region
            for topic, region in zip(settings.camera_topics, read_regions(settings), strict=True)
        }
        has_regions = any(known.values())
        unknown = [camera for camera in cameras if outputs_of(camera) not in known]
        if has_regions and unknown:
            raise MaskomalyError(
                f'road_regions and ego_regions belong to camera_topics '
                f'{", ".join(settings.camera_topics)}, and {", ".join(unknown)} is not among '
                "them; name it there, with regions of its own or ''"
            )
        self._refiners = {
            camera: Refiner(known[outputs_of(camera)] if has_regions else Region())
            for camera in cameras
        }
        self.identity = {c: r.region.sha256 for c, r in self._refiners.items() if r.region}

    def __bool__(self) -> bool:
        """Whether anything is changed."""
        return bool(self.identity) or self._remember

    @property
    def _remember(self) -> bool:
        """Whether what comes depends on frames before."""
        return self._parameters.remembers

    def check(self, camera: str, frame: SourceFrame) -> None:
        """Raise MaskomalyError where the region of a camera does not fit a frame."""
        region = self._refiners[camera].region
        if region:
            region.inside((frame.image.shape[0], frame.image.shape[1]))

    def apply(self, camera: str, frame: SourceFrame, detection: Detection) -> Detection:
        """Return the refined detection in the next frame of a camera."""
        # The node knows the header alone, which may be 0.
        stamp = frame.stamp_ns if frame.message is None else frame.header_ns
        return self._refiners[camera].apply(detection, stamp, self._parameters)

    def size_bytes(self) -> int:
        """Return how much `save` would write."""
        kept = [refiner.save() for refiner in self._refiners.values()]
        return sum(array.nbytes for arrays in kept for array in arrays.values())

    def save(self, number: int) -> Any:
        """Write what the filters remember after a part; return what `restore` needs, for JSON."""
        if not self._remember:
            return None
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f'{number}.npz'
        arrays: dict[str, Any] = {
            f'{n} {name}': value
            for n, refiner in enumerate(self._refiners.values())
            for name, value in refiner.save().items()
        }
        with path.open('wb') as file:
            np.savez(file, **arrays)
        return path.name

    def restore(self, parts: Sequence[Part]) -> None:
        """Go on after the last part, and forget what was saved before it.

        Raises:
            MaskomalyError: what was saved is missing or damaged.

        """
        name = None
        if parts and self._remember:
            name = parts[-1].files.get(self.name, 'nothing')
            path = self._folder / name
            try:
                with np.load(path, allow_pickle=False) as arrays:
                    for n, refiner in enumerate(self._refiners.values()):
                        mine = [a for a in arrays.files if a.startswith(f'{n} ')]
                        kept = {a.partition(' ')[2]: np.array(arrays[a]) for a in mine}
                        refiner.restore(kept, self._parameters)
            except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
                raise MaskomalyError(
                    f'{path}, which temporal filters go on with, cannot be read: {error}. '
                    'Start again with --restart'
                ) from error
        self.clear(keep=name)

    def clear(self, keep: str | None = None) -> None:
        """Delete what was saved, but for one file."""
        for path in self._folder.glob('*.npz'):
            if path.name != keep:
                path.unlink()
