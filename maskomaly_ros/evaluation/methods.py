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

"""Published anomaly scores of mask networks, all from one output of the network.

Notation: m_n = sigmoid(mask logits of query n, resized bilinearly to the frame), p_n = softmax of
its class logits over C inlier classes and void, and

    s_c = Σ_n p_n[c] · m_n        the semantic map of Mask2Former, c = 1 … C, without void

Methods that were published for the logits of a network with one output for each pixel and class
take s_c in their place, as the comparisons of Nayal et al. (ICCV 2023) do. Higher is more
anomalous for all of them. Maskomaly and its ablations lie in [0, 1], the others where their
formulas put them; the Maximal Detection Margin is defined for [0, 1] alone.

Sources:
    Maskomaly: Ackermann, Sakaridis, Yu, BMVC 2023.
    EAM: Grcić, Šarić, Šegvić, On Advantages of Mask-level Recognition for Outlier-aware
        Segmentation, CVPR Workshops 2023.
    RbA: Nayal, Yavuz, Henriques, Güney, RbA: Segmenting Unknown Regions Rejected by All, ICCV
        2023.
    Mask2Anomaly: Rai, Cermelli, Fontanel, Masone, Caputo, Unmasking Anomalies in Road-Scene
        Segmentation, ICCV 2023 (without its mask refinement and the mean with the mirrored
        image).
    max-softmax: Hendrycks, Gimpel, A Baseline for Detecting Misclassified and Out-of-Distribution
        Examples in Neural Networks, ICLR 2017.
    max-logit: Hendrycks et al., Scaling Out-of-Distribution Detection for Real-World Settings,
        ICML 2022.
    energy: Liu, Wang, Owens, Li, Energy-based Out-of-distribution Detection, NeurIPS 2020.
    entropy: Chan, Rottmann, Gottschalk, Entropy Maximization and Meta Classification for
        Out-of-Distribution Detection in Semantic Segmentation, ICCV 2021 (without its training).
    SML: Jung, Lee, Gwak, Choi, Choo, Standardized Max Logits, ICCV 2021 (without its boundary
        suppression and smoothing).
    ODIN: Liang, Li, Srikant, Enhancing the Reliability of Out-of-distribution Image Detection in
        Neural Networks, ICLR 2018 (without its perturbation of the input, which needs a gradient
        and a second run of the network for each image).
"""

from __future__ import annotations

import functools
import importlib
import logging
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.networks import MaskPrediction
from maskomaly_ros.scoring import (
    ScoringParameters,
    _log_missing_anomalous_queries,
    _logit,
    accept_map,
    reject_map,
    sample_axes,
    score_map,
    select_queries,
)

_LOG = logging.getLogger(__name__)

ODIN_TEMPERATURE = 1000.0
"""The temperature that the paper of ODIN recommends."""

_PIXELS_AT_ONCE = 1 << 15  # small enough to stay in a processor's cache with all queries

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class ClassStatistics:
    """Mean and standard deviation of the largest s_c where class c is the predicted one.

    Attributes:
        mean: float64 [C].
        deviation: float64 [C], above 0.
        source: name of the images that they are of.

    """

    mean: FloatArray
    deviation: FloatArray
    source: str

    @classmethod
    def of_sums(cls, sums: FloatArray, source: str) -> ClassStatistics:
        """Make statistics of `class_sums`; a class that is nowhere gets those of all pixels.

        No deviation is less than a hundredth of that of all pixels: a class of a few pixels that
        are alike would make scores of any size elsewhere.
        """
        everything = sums.sum(1, keepdims=True)
        sums = np.concatenate([np.where(sums[0] > 0, sums, everything), everything], 1)
        number, total, squares = sums
        mean = total / number
        deviation = np.sqrt(np.maximum(squares / number - mean * mean, 0.0))
        least = max(1e-6, 0.01 * float(deviation[-1]))
        return cls(mean[:-1], np.maximum(deviation[:-1], least), source)


@torch.inference_mode()
def class_sums(prediction: MaskPrediction) -> FloatArray:
    """Sum up what `ClassStatistics.of_sums` needs over one frame.

    Returns:
        Number, sum and sum of squares of the largest s_c over the pixels of each predicted class,
        float64 [3, C]; pixels that two windows show count twice. Those of several frames may be
        added.

    """
    if len(prediction.parts) > 1:
        return np.asarray(sum(class_sums(part) for part in prediction.parts))
    if (fused := _fused(prediction)) is not None:
        logits = _finite_logits(prediction)[0].contiguous().numpy()
        weights = _class_probabilities(prediction)[0][:, :-1].contiguous().numpy()
        found: FloatArray = fused.class_maxima(logits, weights, *_axes(prediction))
        return found
    classes = prediction.class_logits.shape[-1] - 1
    sums = np.zeros((3, classes))
    for band in _bands(prediction):
        largest, predicted = band.semantic.max(0)
        index, values = predicted.cpu().numpy(), largest.double().cpu().numpy()
        for row, weights in enumerate((None, values, values * values)):
            sums[row] += np.bincount(index, weights, minlength=classes)
    return sums


class _Band(NamedTuple):
    """Some rows of a frame, as P pixels.

    Attributes:
        pixels: where they are in the frame.
        semantic: s_c, [C, P].
        masks: Σ_n max_c p_n[c] · m_n, [P].
        logits: mask logits, [N, P].
        void: which queries are void, bool [N].

    """

    pixels: slice
    semantic: Tensor
    masks: Tensor
    logits: Tensor
    void: Tensor


_BandScore = Callable[[_Band], Tensor]


@dataclass(frozen=True)
class Method:
    """A published score.

    Attributes:
        name: what options, tables and files call it.
        formula: the score, in the notation of this module.
        source: where it was published.

    """

    name: str
    formula: str
    source: str


def _eam(band: _Band) -> Tensor:
    return -band.masks


def _rba(band: _Band) -> Tensor:
    return -band.semantic.tanh().sum(0)


def _mask2anomaly(band: _Band) -> Tensor:
    return 1 - band.semantic.amax(0)


def _max_softmax(band: _Band) -> Tensor:
    # The largest softmax is 1 / Σ exp(s_c - max s).
    return 1 - 1 / (band.semantic - band.semantic.amax(0)).exp_().sum(0)


def _max_logit(band: _Band) -> Tensor:
    return -band.semantic.amax(0)


def _energy(band: _Band) -> Tensor:
    return -band.semantic.logsumexp(0)


def _entropy(band: _Band) -> Tensor:
    logarithms = band.semantic.log_softmax(0)
    entropy = -(logarithms.exp() * logarithms).sum(0)
    return entropy / math.log(max(len(logarithms), 2))


def _odin_temperature(band: _Band) -> Tensor:
    # At this temperature all softmax values nearly equal 1 / C, closer than float16 can tell. So
    # the same order on another scale: T · (log Σ exp(s_c / T) - max s / T - log C).
    scaled = band.semantic / ODIN_TEMPERATURE
    difference = (scaled - scaled.amax(0)).double()
    spread = difference.exp().sum(0).log() - math.log(len(difference))
    return (ODIN_TEMPERATURE * spread).float()


def _sml(band: _Band, statistics: ClassStatistics) -> Tensor:
    largest, predicted = band.semantic.max(0)
    mean, deviation = (
        torch.from_numpy(values).to(largest)[predicted]
        for values in (statistics.mean, statistics.deviation)
    )
    return (mean - largest) / deviation


def _baseline(band: _Band) -> Tensor:
    # Compared as logits, in which large values do not coincide yet.
    least = band.logits.new_full((1, band.logits.shape[1]), -math.inf)
    void, other = (
        torch.cat([least, band.logits[chosen]]).amax(0) for chosen in (band.void, ~band.void)
    )
    strongest_is_void = void > other
    equal = void == other
    if equal.any():  # of equal masks argmax takes the first
        strongest_is_void[equal] = band.void[band.logits[:, equal].argmax(0)]
    strongest = torch.maximum(void, other)
    return torch.where(strongest_is_void, strongest, -strongest).sigmoid_()


_BAND_SCORES: Mapping[str, _BandScore] = {
    'baseline': _baseline,
    'eam': _eam,
    'rba': _rba,
    'mask2anomaly': _mask2anomaly,
    'max-softmax': _max_softmax,
    'max-logit': _max_logit,
    'energy': _energy,
    'entropy': _entropy,
    'odin-temperature': _odin_temperature,
}

METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method('maskomaly', 'λ · reject + (1 − λ) · accept, as calibrated', 'Maskomaly, alg. 1'),
        Method('maskomaly-paper', "the same with the paper's parameters", 'Maskomaly, alg. 1'),
        Method('maskomaly-reference', "the same as in the authors' program", 'Maskomaly, program'),
        Method('reject+borders', 'reject, at most ε_b where two masks overlap', 'Maskomaly'),
        Method('reject', '1 − max over I of m_n · max_c p_n[c]', 'Maskomaly'),
        Method('accept', 'max over A of m_n · p_n[void]', 'Maskomaly'),
        Method('baseline', 'm_n or 1 − m_n of the strongest mask', 'Maskomaly, eq. 4'),
        Method('eam', '−Σ_n m_n · max_c p_n[c]', 'EAM'),
        Method('rba', '−Σ_c tanh(s_c)', 'RbA'),
        Method('mask2anomaly', '1 − max_c s_c', 'Mask2Anomaly'),
        Method('max-softmax', '1 − max_c softmax(s)_c', 'max-softmax'),
        Method('max-logit', '−max_c s_c', 'max-logit'),
        Method('energy', '−log Σ_c exp(s_c)', 'energy'),
        Method('entropy', 'entropy of softmax(s) / log C', 'entropy'),
        Method('sml', '−(max_c s_c − μ_ĉ) / σ_ĉ, ĉ = argmax_c s_c', 'SML'),
        Method(
            'odin-temperature',
            '−max_c softmax(s / T)_c, T = 1000, without perturbation of the input',
            'ODIN',
        ),
    )
}
"""The methods, in the order of tables."""

ACCEPTING = frozenset({'accept'})
"""Methods that mean nothing without anomalous queries."""


def check_methods(methods: Collection[str], parameters: ScoringParameters) -> None:
    """Raise MaskomalyError if a method is unknown or lacks anomalous queries."""
    for method in methods:
        if method not in METHODS:
            raise MaskomalyError(f'method {method!r} is none of {", ".join(METHODS)}')
    lacking = ACCEPTING & set(methods)
    if lacking and not parameters.anomalous_queries:
        raise MaskomalyError(
            f'method {min(lacking)} needs anomalous queries, and none are given; '
            '`maskomaly calibrate` finds them'
        )


def default_methods(parameters: ScoringParameters) -> tuple[str, ...]:
    """Return all methods but those that need anomalous queries where there are none."""
    return tuple(m for m in METHODS if m not in ACCEPTING or parameters.anomalous_queries)


@torch.inference_mode()
def compute_scores(
    prediction: MaskPrediction,
    parameters: ScoringParameters,
    methods: Sequence[str] = tuple(METHODS),
    statistics: ClassStatistics | None = None,
) -> dict[str, NDArray[np.float32]]:
    """Compute the scores of one frame with several methods.

    Args:
        prediction: of one frame.
        parameters: queries and parameters of Maskomaly.
        methods: names in `METHODS`.
        statistics: what SML needs.

    Returns:
        Score maps, float32 [H, W] of the size of the frame, by method in the order of methods.

    Raises:
        MaskomalyError: a method is unknown, or lacks anomalous queries or statistics.
        ValueError: the prediction has NaN or infinite values.

    """
    check_methods(methods, parameters)
    if 'sml' in methods and statistics is None:
        raise MaskomalyError('method sml needs the statistics of the classes')
    if len(prediction.parts) > 1:
        return _blended(
            prediction,
            [compute_scores(part, parameters, methods, statistics) for part in prediction.parts],
        )
    found = _maskomaly_scores(prediction, parameters, methods)
    dense = [method for method in methods if method in _BAND_SCORES or method == 'sml']
    if dense:
        maps = {method: torch.empty(math.prod(prediction.frame_size)) for method in dense}
        for band in _bands(prediction):
            for method in dense:
                if method == 'sml' and statistics is not None:
                    values = _sml(band, statistics)
                else:
                    values = _BAND_SCORES[method](band)
                maps[method][band.pixels] = values.cpu()
        found |= {method: m.view(prediction.frame_size) for method, m in maps.items()}
    return {method: found[method].cpu().numpy() for method in methods}


def compute_stored_scores(
    prediction: MaskPrediction,
    parameters: ScoringParameters,
    methods: Sequence[str] = tuple(METHODS),
    statistics: ClassStatistics | None = None,
) -> dict[str, NDArray[np.float16]]:
    """Compute the scores of one frame as they are stored and measured: rounded to float16.

    Where numba is installed and the prediction lies on the CPU, all of them come from one pass
    over the frame (`maskomaly_ros.fused.numba_methods`), within the rounding of
    `compute_scores`, whose arguments and errors this has.
    """
    fused = _fused(prediction)
    if fused is None:
        found = compute_scores(prediction, parameters, methods, statistics)
        with np.errstate(over='ignore'):  # infinite scores are told by `count_scores`
            return {method: score.astype(np.float16) for method, score in found.items()}
    check_methods(methods, parameters)
    if 'sml' in methods and statistics is None:
        raise MaskomalyError('method sml needs the statistics of the classes')
    if len(prediction.parts) > 1:
        return _blended(
            prediction,
            [
                compute_stored_scores(part, parameters, methods, statistics)
                for part in prediction.parts
            ],
        )
    logits = _finite_logits(prediction)[0]
    maps = fused.compute(
        logits.contiguous().numpy(),
        _plan(fused, prediction, parameters, methods, statistics),
        *_axes(prediction),
        len(methods),
    )
    return dict(zip(methods, maps, strict=True))


def _blended(
    prediction: MaskPrediction, scores: Sequence[Mapping[str, NDArray[Any]]]
) -> dict[str, NDArray[Any]]:
    """Join the scores of the parts of a prediction, method by method."""
    return {
        method: prediction.blend([torch.from_numpy(each[method]) for each in scores]).numpy()
        for method in scores[0]
    }


def _fused(prediction: MaskPrediction) -> Any:
    """Return the module that computes all methods in one pass, or None where it cannot."""
    if prediction.mask_logits.device.type != 'cpu':
        return None
    module = _fused_module()
    if module is None:
        return None
    ratio = prediction.mask_logits.shape[1] / ODIN_TEMPERATURE
    return module if ratio <= module.LARGEST_TEMPERATURE_RATIO else None


@functools.cache
def _fused_module() -> ModuleType | None:
    try:
        return importlib.import_module('maskomaly_ros.fused.numba_methods')
    except ImportError as error:
        _LOG.info('Scores are computed by torch alone: %s', error)
    except Exception:  # a compiler that fails must not stop an evaluation
        _LOG.warning('numba fails here; torch computes the scores', exc_info=True)
    return None


def _plan(
    fused: Any,
    prediction: MaskPrediction,
    parameters: ScoringParameters,
    methods: Sequence[str],
    statistics: ClassStatistics | None,
) -> Any:
    """Say what the fused form has to compute; equal maxima and counts are computed once."""
    probabilities, void = _class_probabilities(prediction)
    weights = probabilities[:, :-1].contiguous().numpy()
    count, classes = weights.shape
    maxima: dict[bytes, NDArray[np.float32]] = {}
    makers: dict[tuple[bytes, float], NDArray[np.bool_]] = {}

    def maximum(chosen: Mapping[int, float]) -> int:
        row = np.zeros(count, np.float32)
        row[list(chosen)] = list(chosen.values())
        return _place(maxima, row.tobytes(), row)

    combined, factors = [], []
    for method, (part, chosen) in _maskomaly_parts(parameters).items():
        if method not in methods:
            continue
        (selection,) = select_queries(prediction.class_logits[0], chosen)
        reject_weight = chosen.reject_weight if chosen.anomalous_queries else 1.0
        borders = -1
        if part is score_map:
            row = np.zeros(count, np.bool_)
            row[list(selection.border_makers)] = True
            threshold = chosen.border_threshold
            borders = _place(makers, (row.tobytes(), threshold), row)
            if not chosen.anomalous_queries:
                _log_missing_anomalous_queries()
        inlier = maximum({} if part is accept_map else selection.inlier)
        anomalous = maximum({} if part is reject_map else selection.anomalous)
        combined.append((methods.index(method), inlier, borders, anomalous))
        weight = {accept_map: 0.0, reject_map: 1.0}.get(part, reject_weight)
        factors.append((chosen.border_score, weight))
    return fused.Plan(
        weights=weights,
        void=void.numpy(),
        maxima=np.array([*maxima.values()], np.float32).reshape(-1, count),
        makers=np.array([*makers.values()], np.bool_).reshape(-1, count),
        border_logits=np.array([_logit(threshold) for _, threshold in makers]),
        combined=np.array(combined, np.int64).reshape(-1, 4),
        factors=np.array(factors, np.float32).reshape(-1, 2),
        places=np.array([methods.index(m) if m in methods else -1 for m in fused.SUMS]),
        mean=(statistics.mean if statistics else np.zeros(classes)).astype(np.float32),
        deviation=(statistics.deviation if statistics else np.ones(classes)).astype(np.float32),
        temperature=ODIN_TEMPERATURE,
    )


K = TypeVar('K')
V = TypeVar('V')


def _place(known: dict[K, V], key: K, value: V) -> int:
    """Return the place of a key in a dictionary; it is added where it is missing."""
    known.setdefault(key, value)
    return list(known).index(key)


def _maskomaly_scores(
    prediction: MaskPrediction, parameters: ScoringParameters, methods: Collection[str]
) -> dict[str, Tensor]:
    """Return those of Maskomaly and its parts that are asked for, by what the node runs."""
    inputs = prediction.mask_logits[0], prediction.class_logits[0], prediction.frame_size
    extent = prediction.extent
    return {
        method: part(*inputs, chosen, extent=extent)
        for method, (part, chosen) in _maskomaly_parts(parameters).items()
        if method in methods
    }


def _maskomaly_parts(
    parameters: ScoringParameters,
) -> Mapping[str, tuple[Callable[..., Tensor], ScoringParameters]]:
    """Return what Maskomaly and its parts are made by, with which parameters."""
    return {
        'maskomaly': (score_map, parameters),
        'maskomaly-paper': (score_map, paper_parameters(parameters)),
        'maskomaly-reference': (score_map, reference_parameters(parameters)),
        'reject+borders': (score_map, replace(parameters, reject_weight=1.0)),
        'reject': (reject_map, parameters),
        'accept': (accept_map, parameters),
    }


def paper_parameters(parameters: ScoringParameters) -> ScoringParameters:
    """Return the paper's parameters for the same queries."""
    return ScoringParameters(parameters.anomalous_queries, parameters.ground_queries)


def reference_parameters(parameters: ScoringParameters) -> ScoringParameters:
    """Return the parameters and the variant of the authors' program for the same queries."""
    return ScoringParameters.for_variant(
        'reference_code',
        anomalous_queries=parameters.anomalous_queries,
        ground_queries=parameters.ground_queries,
    )


def _bands(prediction: MaskPrediction) -> Iterator[_Band]:
    """Go through a frame some rows at a time, so that nothing of the size N · H · W is held."""
    logits, _ = _finite_logits(prediction)
    probabilities, void = _class_probabilities(prediction)
    inlier = probabilities[:, :-1]
    weights = torch.cat([inlier, inlier.amax(1, keepdim=True)], 1).T.contiguous()
    height, width = prediction.frame_size
    rows, columns = (
        (axis.lower, axis.upper, axis.weight.float())
        for axis in sample_axes(
            prediction.frame_size, prediction.extent, logits.shape[-2:], logits.device
        )
    )
    step = max(1, _PIXELS_AT_ONCE // width)
    for top in range(0, height, step):
        lower, upper, weight = (part[top : top + step] for part in rows)
        first = int(lower[0])
        source = logits[:, first : int(upper[-1]) + 1]
        wide = torch.lerp(
            source.index_select(2, columns[0]), source.index_select(2, columns[1]), columns[2]
        )
        resized = torch.lerp(
            wide.index_select(1, lower - first),
            wide.index_select(1, upper - first),
            weight[:, None],
        ).flatten(1)
        sums = weights @ resized.sigmoid()
        yield _Band(
            slice(top * width, top * width + resized.shape[1]), sums[:-1], sums[-1], resized, void
        )


def _finite_logits(prediction: MaskPrediction) -> tuple[Tensor, Tensor]:
    """Return float32 mask and class logits of a frame; ValueError where they are not finite."""
    logits, classes = prediction.mask_logits[0].float(), prediction.class_logits[0].float()
    # The sum of finite numbers may overflow, and then each is looked at.
    for values in (logits, classes):
        if not (bool(values.sum().isfinite()) or bool(values.isfinite().all())):
            raise ValueError(
                'the network answered with NaN or infinity; run it in a precision that does not '
                'overflow, such as bfloat16 or float32'
            )
    return logits, classes


def _class_probabilities(prediction: MaskPrediction) -> tuple[Tensor, Tensor]:
    """Return p_n, float32 [N, C+1], and which queries are void, bool [N]."""
    classes = prediction.class_logits[0]
    void = classes.argmax(-1) == classes.shape[-1] - 1
    return classes.double().softmax(-1).float(), void


def _axes(prediction: MaskPrediction) -> list[tuple[NDArray[Any], ...]]:
    """Return where the pixels of the frame lie among those of the masks: rows, columns."""
    axes = sample_axes(
        prediction.frame_size,
        prediction.extent,
        prediction.mask_logits.shape[-2:],
        torch.device('cpu'),
    )
    return [tuple(part.numpy() for part in axis) for axis in axes]
