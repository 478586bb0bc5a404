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

"""The detector: frames in, score maps and obstacles out.

The live node, offline replay, evaluation and the benchmarks all go through `Detector.detect`, so
that what is measured offline is what runs on the vehicle.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskomaly_ros import obstacles as obstacle_search
from maskomaly_ros import visualization
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.networks import (
    EXPORT_WAIT,
    InputSize,
    MaskPrediction,
    Network,
    load_network,
)
from maskomaly_ros.networks.preprocessing import check_frames
from maskomaly_ros.obstacles import Components, Obstacle
from maskomaly_ros.queries import Queries, bundled_queries, read_queries
from maskomaly_ros.road_prior import find_road_classes, road_evidence, weigh
from maskomaly_ros.score_scales import ScoreCalibration
from maskomaly_ros.scores import SCORES, check_scores, compute_scores
from maskomaly_ros.scoring import ScoringParameters, score_map, warm_up

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class DetectorConfig:
    """Everything about a detector that can change while it runs.

    Attributes:
        scoring: parameters of the score map.
        obstacle_threshold: pixels that score above this are obstacles, in [0, 1].
        minimum_obstacle_area: smaller obstacles, in pixels, are not listed.
        score: name in `SCORES` of what the score map is.
        average_mirrored: take the mean with the score of the mirrored frame; the network then
            runs twice.
        road_prior: weight of where the road is, from 0, which leaves it out; see `road_prior`.

    """

    scoring: ScoringParameters = field(default_factory=ScoringParameters)
    obstacle_threshold: float = 0.9
    minimum_obstacle_area: int = 0
    score: str = 'maskomaly'
    average_mirrored: bool = False
    road_prior: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.score not in SCORES:
            raise MaskomalyError(f'score {self.score!r} is none of {", ".join(SCORES)}')
        if not 0.0 <= self.obstacle_threshold <= 1.0:
            raise MaskomalyError(
                f'obstacle_threshold {self.obstacle_threshold} is out of range: 0 to 1'
            )
        if not 0.0 <= self.road_prior <= 10.0:
            raise MaskomalyError(f'road_prior {self.road_prior} is out of range: 0 to 10')
        if self.minimum_obstacle_area < 0:
            raise MaskomalyError(
                f'minimum_obstacle_area {self.minimum_obstacle_area} is negative; 0 keeps all'
            )


@dataclass(frozen=True)
class Detection:
    """What was found in one frame. Derived results are computed when first asked for, once.

    Results are computed on the device of the score and downloaded from there: if the score map is
    on a GPU, a mask or an overlay costs only its own transfer.

    Attributes:
        frame: the camera frame, RGB uint8 [H, W, 3].
        score_tensor: score map, float32 [H, W] in [0, 1], 1 = anomalous, on the network's device.
        config: the configuration it was made with.
        timings: seconds spent on the batch that this frame was part of, by stage.
        known: the components, where more is known of them than the mask says.

    """

    frame: NDArray[np.uint8]
    score_tensor: Tensor
    config: DetectorConfig
    timings: dict[str, float]
    known: Components | None = None

    @cached_property
    def score(self) -> NDArray[np.float32]:
        """Score map, float32 [H, W] in [0, 1], 1 = anomalous."""
        return _download(self.score_tensor)

    def with_score(self, score: NDArray[np.float32]) -> Detection:
        """Return the detection that another score map of the same frame gives."""
        return replace(self, score_tensor=torch.from_numpy(score), known=None)

    def with_components(self, components: Components) -> Detection:
        """Return the detection with more known of its obstacles, such as ids."""
        detection = replace(self, known=components)
        for name in ('score', 'mask', 'mask_tensor'):  # computed and downloaded once
            if name in self.__dict__:
                detection.__dict__[name] = self.__dict__[name]
        return detection

    @cached_property
    def mask(self) -> NDArray[np.uint8]:
        """Obstacle mask, uint8 [H, W]: 255 where the score is above the threshold, else 0."""
        if self.mask_tensor is not None:
            return _download(self.mask_tensor)
        return obstacle_search.obstacle_mask(self.score, self.config.obstacle_threshold)

    @cached_property
    def components(self) -> Components:
        """The obstacles, and which pixels are whose."""
        if self.known is not None:
            return self.known
        return obstacle_search.find_components(
            self.score, self.mask, self.config.minimum_obstacle_area
        )

    @property
    def obstacles(self) -> tuple[Obstacle, ...]:
        """The 8-connected components of the mask, largest first."""
        return self.components.obstacles

    def overlay(self, opacity: float = 0.5) -> NDArray[np.uint8]:
        """Return the frame with the score in colour and obstacles outlined, RGB [H, W, 3].

        Ids and ranges stand beside the obstacles where they are known.
        """
        picture = self._blended(opacity)
        if self.known is not None:
            visualization.write_labels(picture, self.known.obstacles)
        return picture

    def _blended(self, opacity: float) -> NDArray[np.uint8]:
        if self.mask_tensor is None:
            return visualization.overlay(self.frame, self.score, self.mask, opacity)
        with torch.inference_mode():
            frame = torch.from_numpy(self.frame.copy())  # which may be read-only or strided
            blended = visualization.overlay_on_device(
                frame.to(self.score_tensor.device), self.score_tensor, self.mask_tensor, opacity
            )
            return _download(blended)

    @cached_property
    def mask_tensor(self) -> Tensor | None:
        """The mask on the device; None on the CPU, where OpenCV is faster than torch."""
        if self.score_tensor.device.type == 'cpu':
            return None
        with torch.inference_mode():
            above = self.score_tensor > self.config.obstacle_threshold
            return above.to(torch.uint8).mul_(255)


class Detector:
    """A network, its queries and thresholds, ready to find obstacles.

    Args:
        network: what `load_network` returns.
        config: scoring parameters and thresholds; see also `from_checkpoint`.
        scores: what was calibrated for other scores than Maskomaly; those that do not lie in
            [0, 1] need it.

    """

    def __init__(
        self,
        network: Network,
        config: DetectorConfig | None = None,
        scores: Mapping[str, ScoreCalibration] | None = None,
    ) -> None:
        self.network = network
        self.scores = dict(scores or {})
        self.config = config or DetectorConfig()
        self._calibrated_threshold = self.config.obstacle_threshold
        warm_up(network.device)

    @classmethod
    def from_checkpoint(
        cls,
        checkpoint: str | Path,
        *,
        queries_file: str | Path | None = None,
        backend: str = 'auto',
        device: str = 'auto',
        precision: str = 'float32',
        input_size: InputSize | None = None,
        compile: bool = False,
        export_wait: float = EXPORT_WAIT,
    ) -> Detector:
        """Load a network with the queries that were calibrated for it.

        Args:
            checkpoint: `demo`, a local folder or a Hugging Face id; see `load_network`.
            queries_file: path of a queries file; None takes the one that comes with this
                package, or, where there is none, the paper's defaults without anomalous queries.
            backend: see `load_network`.
            device: see `load_network`.
            precision: see `load_network`.
            input_size: see `load_network`.
            compile: see `load_network`.
            export_wait: see `load_network`.

        Raises:
            MaskomalyError: the checkpoint, the queries file or the device cannot be used.

        """
        network = load_network(
            checkpoint,
            backend=backend,
            device=device,
            precision=precision,
            input_size=input_size,
            compile=compile,
            export_wait=export_wait,
        )
        queries = find_queries(network, queries_file)
        detector = cls(
            network,
            DetectorConfig(queries.scoring_parameters(), queries.obstacle_threshold),
            queries.scores,
        )
        if queries.score != 'maskomaly':
            detector.config = replace(
                detector.config,
                score=queries.score,
                obstacle_threshold=detector.threshold_of(queries.score),
            )
        return detector

    @property
    def config(self) -> DetectorConfig:
        """The configuration in force; assigning replaces it as a whole.

        A call of `detect` that is under way keeps the one that it began with.

        Raises:
            MaskomalyError: on assigning query indices that the network does not have.

        """
        return self._config

    @config.setter
    def config(self, config: DetectorConfig) -> None:
        self.check(config)
        self._config = config

    def check(self, config: DetectorConfig) -> None:
        """Raise MaskomalyError if a configuration asks for something that the network lacks.

        That is a query, a class that is road, or the scale or the statistics of a score.
        """
        check_scores([config.score], config.scoring)
        calibration = self.scores.get(config.score)
        for is_missing, what in (
            (not SCORES[config.score].bounded and not (calibration and calibration.raw), 'scale'),
            (config.score == 'sml' and not (calibration and calibration.class_mean), 'statistics'),
        ):
            if is_missing:
                raise MaskomalyError(
                    f'score {config.score} has no {what} in the queries file of network '
                    f'{self.network.name}; `maskomaly calibrate-scores` finds it'
                )
        if config.road_prior and not find_road_classes(self.network.class_names):
            raise MaskomalyError(
                f'road_prior needs a class that is road, and network {self.network.name} has '
                f'{", ".join(self.network.class_names)}; leave it at 0'
            )
        check_queries(self.network, config.scoring)

    def threshold_of(self, score: str) -> float:
        """Return the obstacle threshold that was calibrated for a score.

        A score without one has the threshold of Maskomaly.
        """
        known = self.scores.get(score)
        return known.obstacle_threshold if known else self._calibrated_threshold

    def detect(self, frames: Sequence[NDArray[np.uint8]]) -> list[Detection]:
        """Find obstacles in frames, RGB uint8 [H, W, 3]; their sizes may differ.

        Frames of one size share a batch.

        Returns:
            One Detection a frame, in the order of frames.

        Raises:
            MaskomalyError: a frame is not RGB uint8 [H, W, 3].

        """
        config = self._config
        groups: dict[tuple[int, ...], list[int]] = {}
        for index, frame in enumerate(frames):
            check_frames([frame])
            groups.setdefault(frame.shape, []).append(index)
        detections: dict[int, Detection] = {}
        for indices in groups.values():
            batch = [frames[i] for i in indices]
            scores, timings = self._score(batch, config)
            for i, frame, score in zip(indices, batch, scores, strict=True):
                detections[i] = Detection(frame, score, config, timings)
        return [detections[i] for i in range(len(frames))]

    def warm_up(self, frame_size: tuple[int, int] | None = None, batch: int = 1) -> None:
        """Do in advance what the first batch of frames of one size would have to wait for.

        Libraries compile, choose algorithms and take memory when they first see a size.

        Args:
            frame_size: height and width of the camera frames; None takes those that the
                network expects, see `PixelNetwork.usual_frame_size`.
            batch: frames a batch.

        Raises:
            MaskomalyError: the network cannot be compiled or exported, or does not take frames
                of this size.

        """
        expected = getattr(self.network, 'usual_frame_size', self.network.input_size.usual)
        frame_size = frame_size or expected
        self.network.warm_up(frame_size, batch)
        for detection in self.detect([np.full((*frame_size, 3), 127, np.uint8)] * batch):
            _ = detection.obstacles, detection.overlay()

    def scored(
        self,
        prediction: MaskPrediction,
        config: DetectorConfig | None = None,
        mirrored: MaskPrediction | None = None,
    ) -> Tensor:
        """Return the score maps of what the network answered, as `detect` computes them.

        The one function behind heatmaps: evaluation and calibration call it as the node does.

        Args:
            prediction: of B frames.
            config: None takes the one in force.
            mirrored: likewise, of the same frames mirrored, left for right; taken into the mean
                where it is given.

        Returns:
            float32 [B, H, W] in [0, 1], on the device of the prediction.

        """
        config = config or self._config
        with torch.inference_mode():
            if config.score == 'maskomaly':
                score = prediction.scored(score_map, config.scoring)
            else:
                score = torch.stack(
                    [self._other_score(one, config) for one in prediction.frames()]
                )
            if config.road_prior:
                road = find_road_classes(self.network.class_names)
                score = weigh(score, road_evidence(prediction, road), config.road_prior)
            if mirrored is not None:
                score = (score + self.scored(mirrored, config).flip(-1)) / 2
            return score

    def _other_score(self, prediction: MaskPrediction, config: DetectorConfig) -> Tensor:
        """Return the score map of one frame that is not Maskomaly's, on its scale."""
        calibration = self.scores.get(config.score)
        statistics = calibration.statistics if calibration else None
        found = compute_scores(prediction, config.scoring, [config.score], statistics)
        score = found[config.score]
        return calibration.apply(score) if calibration else score

    def _score(
        self, frames: list[NDArray[np.uint8]], config: DetectorConfig
    ) -> tuple[list[Tensor], dict[str, float]]:
        start = time.perf_counter()
        predictions = [self.network.predict(frames)]
        if config.average_mirrored:
            predictions.append(self.network.predict([f[:, ::-1].copy() for f in frames]))
        prediction = predictions[0]
        predicted = time.perf_counter()
        with torch.inference_mode():
            # A CPU takes frame after frame in any case; a block of memory for all of them
            # finds no place in a heap from which frames are taken meanwhile, so that it grows.
            on_gpu = prediction.device.type == 'cuda'
            batches = zip(*([p] if on_gpu else p.frames() for p in predictions), strict=True)
            scores = [
                score
                for batch, *mirrored in batches
                for score in self.scored(batch, config, *mirrored)
            ]
            if prediction.device.type == 'cuda':
                torch.cuda.synchronize(prediction.device)
        # On CUDA predict() only queues work; its time then shows under scoring, where it is
        # waited for. The sum is right on every device.
        return scores, {'network': predicted - start, 'scoring': time.perf_counter() - predicted}


def check_queries(network: Network, parameters: ScoringParameters) -> None:
    """Raise MaskomalyError if parameters name queries that a network lacks."""
    for name in ('anomalous_queries', 'ground_queries'):
        for query in getattr(parameters, name):
            if query >= network.num_queries:
                raise MaskomalyError(
                    f'{name} has query {query}, but network {network.name} has '
                    f'{network.num_queries} queries, numbered from 0'
                )


def _download(tensor: Tensor) -> NDArray[Any]:
    """Return a tensor as an array; from CUDA by way of pinned memory, which torch reuses."""
    if not tensor.is_cuda:
        return tensor.cpu().numpy()
    return torch.empty_like(tensor, device='cpu', pin_memory=True).copy_(tensor).numpy()


def find_queries(network: Network, queries_file: str | Path | None) -> Queries:
    """Return the queries for a network: from a file, else bundled, else the paper's defaults.

    Logs a warning when the queries belong to other weights or were calibrated at another input
    size, or when there are none.

    Raises:
        MaskomalyError: the file cannot be read or is wrong.

    """
    queries = read_queries(queries_file) if queries_file else bundled_queries(network.name)
    if queries is None:
        _LOG.warning(
            'no queries file for checkpoint %s: no anomalous queries, the score is reject and '
            'borders alone; `maskomaly calibrate` finds them',
            network.name,
        )
        return Queries(checkpoint=network.name)
    source = getattr(network, 'source_sha256', None)
    if queries.checkpoint_sha256 not in (None, network.sha256, source):
        _LOG.warning(
            'the queries of %s belong to weights %.12s, but checkpoint %s has %.12s; '
            'calibrate again',
            queries_file or queries.checkpoint,
            queries.checkpoint_sha256,
            network.name,
            network.sha256,
        )
    calibrated = queries.provenance.get('input_size')
    size = asdict(network.input_size)
    if isinstance(calibrated, dict) and calibrated != size:
        _LOG.warning(
            'the queries of %s were calibrated at input size %s, and the network runs at %s: '
            'threshold and parameters may not fit; calibrate again with --input-size %s',
            queries_file or queries.checkpoint,
            *('x'.join(map(str, sides.values())) for sides in (calibrated, size, size)),
        )
    return queries
