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

"""Measure where the time of a frame goes, and how that compares with doing it plainly.

Two baselines are part of every run, on the same frames and in turns with what they are compared
with, so that a busy machine slows both: Algorithm 1 as it is written, in NumPy, and the plain
transformers model in float32.
"""

from __future__ import annotations

import itertools
import math
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from maskomaly_ros.detector import Detector
from maskomaly_ros.encodings import decode_compressed
from maskomaly_ros.networks import MaskPrediction, Network
from maskomaly_ros.networks.agreement import compare
from maskomaly_ros.scoring import (
    Form,
    ScoringParameters,
    sample_axes,
    score_map,
    select_queries,
)

Frame = NDArray[np.uint8]

STAGES: Final = (
    'decode',
    'upload',
    'preprocess',
    'network',
    'scoring',
    'threshold',
    'download',
    'overlay',
)
_PACKAGES: Final = ('torch', 'transformers', 'numpy', 'numba', 'triton', 'onnxruntime', 'openvino')
_WARM_UP: Final = 3
_KERNEL: Final = '_score_tile'
_KERNEL_RUNS: Final = 20
_SEED: Final = 0


@dataclass(frozen=True)
class Settings:
    """How much to measure.

    Attributes:
        batches: batches that are timed.
        batch: frames in each.
        baseline_batches: batches that the plain network is timed with; 0 leaves it out.
        literal_repeats: times that the literal algorithm is run; 0 leaves it out.

    """

    batches: int = 20
    batch: int = 1
    baseline_batches: int = 5
    literal_repeats: int = 2


def benchmark(
    detector: Detector,
    load_plain: Callable[[], Network] | None,
    frames: Sequence[Frame],
    settings: Settings,
) -> dict[str, Any]:
    """Measure a detector on frames of one size.

    Args:
        detector: what is measured.
        load_plain: gives the same checkpoint by transformers, float32 and not compiled, on the
            same device; called when the memory of the other has been measured. None leaves the
            comparison out.
        frames: RGB uint8 [H, W, 3]; taken in turns.
        settings: how much to measure.

    Returns:
        What JSON can hold: `ratios` first, then the seconds of each stage (`p50`, `p95`, `p99`)
        and of `detect` as a whole, frames per second, memory in bytes, agreement with the plain
        network, the baselines, the machine.

    """
    device = detector.network.device
    clock = _Clock(device)
    turns = itertools.cycle(frames)
    batches = [[next(turns) for _ in range(settings.batch)] for _ in range(settings.batches)]
    load_before = os.getloadavg()[0]
    warm_up, _ = clock.time(
        lambda: detector.warm_up((frames[0].shape[0], frames[0].shape[1]), settings.batch)
    )
    for batch in batches[:_WARM_UP] * _WARM_UP if device.type == 'cuda' else batches[:_WARM_UP]:
        _finish(detector, batch)
    if device.type == 'cuda':
        torch.cuda.reset_peak_memory_stats(device)
        allocated = torch.cuda.memory_allocated(device)
        requested = torch.cuda.memory_stats(device).get('num_device_alloc')
    stages: dict[str, list[float]] = {stage: [] for stage in STAGES}
    whole = []
    for batch in batches:
        for stage, seconds in _time_stages(detector, batch, clock).items():
            stages[stage].append(seconds)
        whole.append(clock.time(partial(_finish, detector, batch))[0])
    memory: dict[str, Any] = _resident_memory()
    if device.type == 'cuda':
        memory['device_peak'] = torch.cuda.max_memory_allocated(device)
        memory['device_kept_by_frames'] = torch.cuda.memory_allocated(device) - allocated
        if requested is not None:  # by torch, of the driver, while frames were timed
            taken = torch.cuda.memory_stats(device)['num_device_alloc'] - requested
            memory['device_allocations'] = taken

    report: dict[str, Any] = {
        'ratios': {},
        'detect': _statistics(whole),
        'frames_per_second': settings.batch * len(whole) / sum(whole),
        'warm_up_seconds': warm_up,
        'stages': {stage: _statistics(seconds) for stage, seconds in stages.items()},
        'memory': memory,
        'baselines': {},
    }
    predicted = detector.network.predict(batches[0])
    if load_plain is not None and settings.baseline_batches:
        plain = load_plain()
        _compare_networks(report, detector.network, plain, batches, settings, clock)
        expected = plain.predict(batches[0])
        report['agreement_with_float32'] = agreement(
            predicted, expected, detector.config.scoring
        ) | {'violations': compare(predicted, expected).violations(detector.network.precision)}
    if settings.literal_repeats:
        _compare_scoring(report, predicted, detector.config.scoring, settings, clock)
    report['machine'] = machine(device) | {
        'load_average_before': round(load_before, 1),
        'load_average_after': round(os.getloadavg()[0], 1),
    }
    return report


def _finish(detector: Detector, frames: Sequence[Frame]) -> None:
    """Do what a vehicle needs: upload, predict, score, threshold, download."""
    for detection in detector.detect(frames):
        _ = detection.score, detection.mask


def _time_stages(detector: Detector, frames: list[Frame], clock: _Clock) -> dict[str, float]:
    """Time every stage of one batch by itself, each from an idle device to an idle device."""
    network, device, config = detector.network, detector.network.device, detector.config
    messages = [
        SimpleNamespace(format='jpeg', data=cv2.imencode('.jpg', frame[..., ::-1])[1].tobytes())
        for frame in frames
    ]
    size = frames[0].shape[0] * frames[0].shape[1]
    decode, _ = clock.time(lambda: [decode_compressed(m, max_pixels=size) for m in messages])
    upload, _ = clock.time(lambda: torch.from_numpy(np.stack(frames)).to(device))
    ready, _ = clock.time(lambda: network.input_form.prepare(frames, device))
    predict, prediction = clock.time(lambda: network.predict(frames))
    scoring, _ = clock.time(lambda: _score(prediction, config.scoring))
    detections = detector.detect(frames)
    on_device = device.type != 'cpu'
    if on_device:
        threshold, _ = clock.time(lambda: [d.mask_tensor for d in detections])
        download, _ = clock.time(lambda: [(d.score, d.mask) for d in detections])
    else:
        download, _ = clock.time(lambda: [d.score for d in detections])
        threshold, _ = clock.time(lambda: [d.mask for d in detections])
    overlay, _ = clock.time(lambda: [d.overlay() for d in detections])
    return {
        'decode': decode,
        'upload': upload,
        'preprocess': max(ready - upload, 0.0),  # which uploads as well
        'network': max(predict - ready, 0.0),  # which preprocesses as well
        'scoring': scoring,
        'threshold': threshold,
        'download': download,
        'overlay': overlay,
    }


def _compare_networks(
    report: dict[str, Any],
    network: Network,
    plain: Network,
    batches: list[list[Frame]],
    settings: Settings,
    clock: _Clock,
) -> None:
    plain.predict(batches[0])
    ours, theirs = [], []
    for batch in batches[: settings.baseline_batches]:
        theirs.append(clock.time(partial(plain.predict, batch))[0])
        ours.append(clock.time(partial(network.predict, batch))[0])
    report['baselines']['transformers_float32_eager'] = _statistics(theirs)
    report['ratios']['network: transformers float32 eager / this'] = _ratio(theirs, ours)


def _compare_scoring(
    report: dict[str, Any],
    prediction: MaskPrediction,
    parameters: ScoringParameters,
    settings: Settings,
    clock: _Clock,
) -> None:
    one = prediction.frame(0)
    on_host = one.to('cpu')
    _score(one, parameters)
    literal, ours, form = [], [], []
    busy_literal, busy_ours = [], []
    for _ in range(settings.literal_repeats):
        seconds, expected = clock.time(lambda: literal_score(on_host, parameters))
        literal.append(seconds)
        busy_literal.append(clock.busy)
        for _ in range(5):
            seconds, found = clock.time(lambda: _score(one, parameters))
            ours.append(seconds)
            busy_ours.append(clock.busy)
        form.append(clock.time(lambda: _score(one, parameters, 'torch'))[0])
    selection = select_queries(on_host.class_logits, parameters)[0]
    report['baselines']['literal_algorithm_1'] = _statistics(literal)
    report['baselines']['scoring_by_torch'] = _statistics(form)
    report['ratios']['scoring: literal / this'] = _ratio(literal, ours)
    if one.device.type == 'cpu':
        report['ratios']['scoring: literal / this, processor time'] = _ratio(
            busy_literal, busy_ours
        )
    report['ratios']['scoring: torch form / this'] = _ratio(form, ours)
    report['scoring'] = {
        'queries': on_host.num_queries,
        'inlier': len(selection.inlier),
        'anomalous': len(selection.anomalous),
        'seconds': _statistics(ours),
        'kernel_seconds': _kernel_seconds(lambda: _score(one, parameters), one.device),
        'largest_difference_from_literal': float(np.abs(found[0].cpu().numpy() - expected).max()),
        'pixels_that_differ_by_more_than_1e-5': int(
            (np.abs(found[0].cpu().numpy() - expected) > 1e-5).sum()
        ),
    }


def benchmark_scoring(
    device: torch.device, kind: str, size: tuple[int, int] = (720, 1280), repeats: int = 2
) -> dict[str, Any]:
    """Measure scoring by itself: 100 queries of which 20 are inliers and 4 anomalous.

    Args:
        device: where our form runs; the literal one runs on the CPU.
        kind: `smooth` masks, as a network gives, or `noise`, which leaves nothing to skip.
        size: of the score map; masks have a quarter of it.
        repeats: times that the literal form is run.

    """
    masks, classes, parameters = invented_masks(kind, size)
    extent = (float(masks.shape[1]), float(masks.shape[2]))
    prediction = MaskPrediction(masks[None].to(device), classes[None].to(device), size, extent)
    return compare_scoring(prediction, parameters, repeats)


def compare_scoring(
    prediction: MaskPrediction, parameters: ScoringParameters, repeats: int = 2
) -> dict[str, Any]:
    """Measure scoring of the first frame of a prediction beside the literal form, in turns."""
    report: dict[str, Any] = {'ratios': {}, 'baselines': {}}
    settings = Settings(literal_repeats=repeats)
    clock = _Clock(prediction.mask_logits.device)
    _compare_scoring(report, prediction, parameters, settings, clock)
    return report


def invented_masks(
    kind: str, size: tuple[int, int], inliers: int = 20, anomalous: int = 4, queries: int = 100
) -> tuple[torch.Tensor, torch.Tensor, ScoringParameters]:
    """Return mask logits [N, H/4, W/4], class logits [N, 20] and parameters.

    Smooth masks divide the image among the inlier queries, with logits that fall off across
    their edges over about ten mask pixels, and have texture; other queries cover small discs.
    """
    rng = np.random.default_rng(_SEED)
    height, width = size[0] // 4, size[1] // 4
    shape = (queries, height, width)
    if kind == 'noise':
        masks = rng.normal(0, 4, shape).astype(np.float32)
    else:
        y, x = np.mgrid[:height, :width].astype(np.float32)
        centres = rng.uniform((0, 0), (height, width), (queries, 2)).astype(np.float32)
        distance = np.stack([np.hypot(y - v, x - u) for v, u in centres])
        nearest = np.sort(distance[:inliers], 0)[:2]
        others = np.where(distance[:inliers] == nearest[0], nearest[1], nearest[0])
        masks = np.empty(shape, np.float32)
        masks[:inliers] = np.clip(1.2 * (others - distance[:inliers]), -14, 12)
        radius = rng.uniform(5, 25, (queries - inliers, 1, 1))
        masks[inliers:] = np.clip(radius - distance[inliers:], -16, 8)
        for mask in masks:
            coarse = rng.normal(0, 1, (height // 6, width // 6)).astype(np.float32)
            mask += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        masks += rng.normal(0, 0.15, shape).astype(np.float32)
    classes = rng.normal(0, 0.5, (queries, 20)).astype(np.float32)
    classes[:, -1] += 12
    for query in range(inliers):
        classes[query, query % 19] += rng.uniform(14, 20)
    named = tuple(range(inliers, inliers + anomalous))
    classes[list(named), -1] -= rng.uniform(6, 10, anomalous)
    return (
        torch.from_numpy(masks),
        torch.from_numpy(classes),
        ScoringParameters(anomalous_queries=named),
    )


def literal_score(
    prediction: MaskPrediction, parameters: ScoringParameters
) -> NDArray[np.float32]:
    """Return the score of the first frame as Algorithm 1 is written, in NumPy and float32.

    Every mask at full size first, then every pair of inlier masks; of the classes, only weights.
    """
    parts = prediction.frame(0).parts
    scores = [torch.from_numpy(_literal_part(part, parameters)) for part in parts]
    return prediction.blend(scores).numpy()


def _literal_part(
    prediction: MaskPrediction, parameters: ScoringParameters
) -> NDArray[np.float32]:
    size = prediction.frame_size
    axes = sample_axes(
        size, prediction.extent, prediction.mask_logits.shape[-2:], torch.device('cpu')
    )
    (top, bottom, down), (left, right, across) = ([part.numpy() for part in axis] for axis in axes)
    down, across = down.astype(np.float32)[:, None], across.astype(np.float32)
    logits = prediction.mask_logits[0].numpy()
    masks = np.empty((len(logits), *size), np.float32)
    for mask, logit in zip(masks, logits, strict=True):
        wide = logit[:, left] * (1 - across) + logit[:, right] * across
        with np.errstate(over='ignore'):
            mask[:] = 1 / (1 + np.exp(-(wide[top] * (1 - down) + wide[bottom] * down)))

    (selection,) = select_queries(prediction.class_logits[0], parameters)
    reject = np.ones(size, np.float32)
    for query, weight in selection.inlier.items():
        reject = np.minimum(reject, 1 - masks[query] * np.float32(weight))
    threshold = np.float32(parameters.border_threshold)
    for a, b in itertools.combinations(sorted(selection.border_makers), 2):
        border = (masks[a] > threshold) & (masks[b] > threshold)
        reject = np.where(border, np.minimum(reject, np.float32(parameters.border_score)), reject)
    if not parameters.anomalous_queries:
        return reject
    accept = np.zeros(size, np.float32)
    for query, weight in selection.anomalous.items():
        accept = np.maximum(accept, masks[query] * np.float32(weight))
    weight = np.float32(parameters.reject_weight)
    return np.asarray(weight * reject + (1 - weight) * accept, np.float32)


def agreement(
    actual: MaskPrediction, expected: MaskPrediction, parameters: ScoringParameters
) -> dict[str, float]:
    """Return how far a prediction is from another of the same frames."""
    difference = (_score(actual, parameters) - _score(expected, parameters)).abs()
    inside, wanted = actual.mask_logits > 0, expected.mask_logits > 0
    union = (inside | wanted).sum().item()
    return {
        'score_error_mean': difference.mean().item(),
        'score_error_max': difference.max().item(),
        'mask_iou': (inside & wanted).sum().item() / union if union else 1.0,
    }


def machine(device: torch.device) -> dict[str, Any]:
    """Return what the figures were measured on."""
    cpuinfo = Path('/proc/cpuinfo')
    lines = cpuinfo.read_text(encoding='utf-8').splitlines() if cpuinfo.exists() else []
    names = [line.partition(': ')[2] for line in lines if line.startswith('model name')]
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        'processor': names[0] if names else platform.processor(),
        'cores': len(os.sched_getaffinity(0)),
        'torch_threads': torch.get_num_threads(),
        'gpu': torch.cuda.get_device_name(device) if device.type == 'cuda' else None,
        'python': platform.python_version(),
        'versions': versions,
    }


class _Clock:
    """Times work on a device, from idle to idle.

    Attributes:
        busy: seconds that all processors together spent on the last work, which other programs
            on the machine hardly change.

    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.busy = 0.0

    def time(self, work: Callable[[], Any]) -> tuple[float, Any]:
        """Return the seconds that work took, and its result."""
        self._wait()
        start, busy = time.perf_counter(), time.process_time()
        result = work()
        self._wait()
        self.busy = time.process_time() - busy
        return time.perf_counter() - start, result

    def _wait(self) -> None:
        if self._device.type == 'cuda':
            torch.cuda.synchronize(self._device)


def _score(
    prediction: MaskPrediction, parameters: ScoringParameters, form: Form = 'auto'
) -> torch.Tensor:
    with torch.inference_mode():
        return prediction.scored(score_map, parameters, form=form)


def _kernel_seconds(work: Callable[[], Any], device: torch.device) -> float | None:
    """Return the mean time of the fused kernel by itself; None where there is none."""
    if device.type != 'cuda':
        return None
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(_KERNEL_RUNS):
            work()
        torch.cuda.synchronize(device)
    for event in profile.key_averages():
        if _KERNEL in event.key:
            return float(event.device_time) / 1e6
    return None


def _statistics(seconds: Sequence[float]) -> dict[str, float]:
    p50, p95, p99 = np.percentile(seconds, (50, 95, 99)).tolist()
    return {'p50': p50, 'p95': p95, 'p99': p99, 'least': min(seconds), 'samples': len(seconds)}


def _ratio(slow: Sequence[float], fast: Sequence[float]) -> float:
    return float(np.median(slow) / np.median(fast)) if fast else math.nan


def _resident_memory() -> dict[str, Any]:
    unit = 1 if sys.platform == 'darwin' else 1024
    memory = {'resident_peak': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    statm = Path('/proc/self/statm')
    if statm.exists():
        pages = int(statm.read_text(encoding='ascii').split()[1])
        memory['resident'] = pages * os.sysconf('SC_PAGESIZE')
    return memory
