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

"""The registry of anomaly scores: what node, replay, evaluation and calibration can compute.

All are made from one output of a network. What the node publishes for a score and what evaluation
measures of it is computed by the same code: Maskomaly's scores by `scoring`, the others here, on a
CPU with numba by `fused.numba_methods`, on a GPU with triton by `fused.triton_methods`, in
float32; evaluation rounds afterwards.

Notation: m_n = sigmoid(mask logits of query n, resized bilinearly to the frame), p_n = softmax of
its class logits over C inlier classes and void, and

    s_c = Σ_n p_n[c] · m_n        the semantic map of Mask2Former, c = 1 … C, without void

Methods that were published for the logits of a network with one output for each pixel and class
take s_c in their place, as the comparisons of Nayal et al. (ICCV 2023) do. Higher is more
anomalous for all of them. Maskomaly and its ablations lie in [0, 1], the others where their
formulas put them.

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
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.fused.sums import LARGEST_TEMPERATURE_RATIO, SUMS
from maskomaly_ros.networks import MaskPrediction
from maskomaly_ros.scoring import (
    Maps,
    ScoringParameters,
    Variant,
    sample_axes,
    score_map,
)

_LOG = logging.getLogger(__name__)

ODIN_TEMPERATURE = 1000.0
"""The temperature that the paper of ODIN recommends."""

_PIXELS_AT_ONCE = 1 << 15  # small enough to stay in a processor's cache with all queries

_NOT_FINITE = (
    'the network answered with NaN or infinity; run it in a precision that does not overflow, '
    'such as bfloat16 or float32'
)

_NO_STATISTICS = 'score sml needs the statistics of the classes'

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


@dataclass(frozen=True)
class ClassMaxima:
    """The largest s_c of every pixel of a frame: what `sml` is of, once statistics are known.

    Attributes:
        largest: float32 [H, W].
        predicted: its class, uint8 [H, W].
        sums: as `class_sums` returns them.

    """

    largest: NDArray[np.float32]
    predicted: NDArray[np.uint8]
    sums: FloatArray

    def standardized(self, statistics: ClassStatistics) -> Tensor:
        """Return `sml`, float32 [H, W], the same to the last bit as `compute_scores` does."""
        tables = np.ones((2, 256), np.float32)
        tables[:, : len(statistics.mean)] = statistics.mean, statistics.deviation
        score, deviation = (np.asarray(cv2.LUT(self.predicted, table)) for table in tables)
        np.subtract(score, self.largest, out=score)
        return torch.from_numpy(np.divide(score, deviation, out=score))


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
_Form = Callable[[MaskPrediction, Sequence[str], 'ClassStatistics | None'], dict[str, Tensor]]


@dataclass(frozen=True)
class Score:
    """A score that a network's output can be given.

    Attributes:
        name: what options, tables and files call it.
        formula: the score, in the notation of this module.
        source: where it was published.
        bounded: whether it lies in [0, 1].

    """

    name: str
    formula: str
    source: str
    bounded: bool = False


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

SCORES: Mapping[str, Score] = {
    score.name: score
    for score in (
        Score(
            'maskomaly',
            'reject and accept, joined as calibrated',
            'Maskomaly, alg. 1',
            bounded=True,
        ),
        Score(
            'maskomaly-paper',
            "λ · reject + (1 − λ) · accept, with the paper's parameters",
            'Maskomaly, alg. 1',
            bounded=True,
        ),
        Score(
            'maskomaly-reference',
            "the same by the function of the authors' program",
            'Maskomaly, program',
            bounded=True,
        ),
        Score(
            'maskomaly-program',
            'that with what surrounds it there: scored at the padded input, resized with the '
            'padding in it',
            'Maskomaly, program',
            bounded=True,
        ),
        Score('geometric', 'reject^λ · accept^(1 − λ)', 'here', bounded=True),
        Score('product', 'reject · accept', 'here', bounded=True),
        Score('minimum', 'min(reject, accept)', 'here', bounded=True),
        Score(
            'reject+borders',
            'reject, at most ε_b where two masks overlap',
            'Maskomaly',
            bounded=True,
        ),
        Score('reject', '1 − max over I of m_n · max_c p_n[c]', 'Maskomaly', bounded=True),
        Score('accept', 'max over A of m_n · p_n[void]', 'Maskomaly', bounded=True),
        Score(
            'baseline', 'm_n or 1 − m_n of the strongest mask', 'Maskomaly, eq. 4', bounded=True
        ),
        Score('eam', '−Σ_n m_n · max_c p_n[c]', 'EAM'),
        Score('rba', '−Σ_c tanh(s_c)', 'RbA'),
        Score('mask2anomaly', '1 − max_c s_c', 'Mask2Anomaly'),
        Score('max-softmax', '1 − max_c softmax(s)_c', 'max-softmax', bounded=True),
        Score('max-logit', '−max_c s_c', 'max-logit'),
        Score('energy', '−log Σ_c exp(s_c)', 'energy'),
        Score('entropy', 'entropy of softmax(s) / log C', 'entropy', bounded=True),
        Score('sml', '−(max_c s_c − μ_ĉ) / σ_ĉ, ĉ = argmax_c s_c', 'SML'),
        Score(
            'odin-temperature',
            '−max_c softmax(s / T)_c, T = 1000, without perturbation of the input',
            'ODIN',
        ),
    )
}
"""All scores, in the order of tables."""

ACCEPTING = frozenset({'geometric', 'product', 'minimum', 'accept'})
"""Scores that mean nothing without anomalous queries."""


_STRIDE = 4  # pixels of the network input for one of a mask

_PROGRAM = 'maskomaly-program'
ON_REQUEST = frozenset({_PROGRAM})
"""Scores that serve to reproduce figures of others, and are computed where they are named."""


def check_scores(names: Collection[str], parameters: ScoringParameters) -> None:
    """Raise MaskomalyError if a score is unknown or lacks anomalous queries."""
    for name in names:
        if name not in SCORES:
            raise MaskomalyError(f'score {name!r} is none of {", ".join(SCORES)}')
    lacking = ACCEPTING & set(names)
    if lacking and not parameters.anomalous_queries:
        raise MaskomalyError(
            f'score {min(lacking)} needs anomalous queries, and none are given; '
            '`maskomaly calibrate` finds them'
        )


def default_scores(parameters: ScoringParameters) -> tuple[str, ...]:
    """Return all scores but those on request, and those that lack anomalous queries."""
    left_out = ON_REQUEST if parameters.anomalous_queries else ON_REQUEST | ACCEPTING
    return tuple(name for name in SCORES if name not in left_out)


@torch.inference_mode()
def compute_scores(
    prediction: MaskPrediction,
    parameters: ScoringParameters,
    names: Sequence[str] = tuple(SCORES),
    statistics: ClassStatistics | None = None,
) -> dict[str, Tensor]:
    """Compute scores of one frame.

    A score is the same to the last bit whichever others are asked for with it.

    Args:
        prediction: of one frame.
        parameters: queries and parameters of Maskomaly.
        names: of scores in `SCORES`.
        statistics: what SML needs.

    Returns:
        Score maps, float32 [H, W] of the size of the frame, on the device of the prediction, by
        name in the order of names.

    Raises:
        MaskomalyError: a score is unknown, or lacks anomalous queries or statistics.
        ValueError: the prediction has NaN or infinite values.

    """
    check_scores(names, parameters)
    if 'sml' in names and statistics is None:
        raise MaskomalyError(_NO_STATISTICS)
    parts = [_scores_of_part(part, parameters, names, statistics) for part in prediction.parts]
    return {name: prediction.blend([part[name] for part in parts]) for name in names}


@torch.inference_mode()
def stream_scores(
    prediction: MaskPrediction,
    parameters: ScoringParameters,
    names: Sequence[str],
    statistics: ClassStatistics | None = None,
    *,
    maxima: bool = False,
) -> tuple[Iterator[tuple[str, Tensor]], ClassMaxima | None]:
    """Compute scores of one frame one after another, so that a map may go before the next is made.

    Arguments, scores and errors are those of `compute_scores`.

    Returns:
        Names and scores, and, if maxima are asked for, what `sml` needs beside statistics, where
        the same pass can find it: in a frame seen as a whole, on a CPU with numba, for at most 256
        classes; else None.

    """
    check_scores(names, parameters)
    fused = _fused(prediction)
    classes, size = prediction.class_logits.shape[-1] - 1, prediction.frame_size
    if fused is None or len(prediction.parts) > 1 or classes > 256:
        scores = compute_scores(prediction, parameters, names, statistics)
        return iter(scores.items()), None
    (part,) = prediction.parts
    largest = None
    if maxima:
        largest = fused.Maxima(
            np.zeros((3, classes)), np.empty(size, np.float32), np.empty(size, np.uint8)
        )
    dense = [name for name in names if name in SUMS]
    if 'sml' in dense and statistics is None:
        raise MaskomalyError(_NO_STATISTICS)
    summed = _scores_by_numba(fused, part, dense, statistics, largest) if dense or maxima else {}
    others = _maskomaly_scores(part, parameters, [name for name in names if name not in SUMS])

    def each() -> Iterator[tuple[str, Tensor]]:
        for name in names:
            if name in SUMS:
                yield name, summed.pop(name)
            else:
                with torch.inference_mode():
                    found = next(others)
                yield found

    found = ClassMaxima(largest.largest, largest.predicted, largest.sums) if largest else None
    return each(), found


def _scores_of_part(
    prediction: MaskPrediction,
    parameters: ScoringParameters,
    names: Sequence[str],
    statistics: ClassStatistics | None,
) -> dict[str, Tensor]:
    found = dict(_maskomaly_scores(prediction, parameters, names))
    dense = [name for name in names if name not in found]
    if dense:
        by: _Form = _scores_by_torch
        if (numba := _fused(prediction)) is not None:
            by = functools.partial(_scores_by_numba, numba)
        elif (triton := _fused_on_gpu(prediction)) is not None:
            by = functools.partial(_scores_by_triton, triton)
        found |= by(prediction, dense, statistics)
    return found


def _scores_by_torch(
    prediction: MaskPrediction, names: Sequence[str], statistics: ClassStatistics | None
) -> dict[str, Tensor]:
    """Compute scores that sum masks, a band of rows at a time."""
    device, size = prediction.device, prediction.frame_size
    maps = {name: torch.empty(math.prod(size), device=device) for name in names}
    for band in _bands(prediction):
        for name in names:
            if name == 'sml' and statistics is not None:
                values = _sml(band, statistics)
            else:
                values = _BAND_SCORES[name](band)
            maps[name][band.pixels] = values
    return {name: values.view(size) for name, values in maps.items()}


def _scores_by_numba(
    fused: Any,
    prediction: MaskPrediction,
    names: Sequence[str],
    statistics: ClassStatistics | None,
    maxima: Any = None,
) -> dict[str, Tensor]:
    """Compute the same in one pass over the frame."""
    logits = _finite_logits(prediction)[0].contiguous()
    probabilities, void = _class_probabilities(prediction)
    weights = probabilities[:, :-1].contiguous().numpy()
    classes = weights.shape[1]
    mean = statistics.mean if statistics else np.zeros(classes)
    deviation = statistics.deviation if statistics else np.ones(classes)
    plan = fused.Plan(
        weights=weights,
        void=void.numpy(),
        wanted=np.array([each in names for each in SUMS]),
        mean=mean.astype(np.float32),
        deviation=deviation.astype(np.float32),
        temperature=ODIN_TEMPERATURE,
    )
    maps = fused.compute(logits.numpy(), plan, *_axes(prediction), maxima)
    return {name: torch.from_numpy(maps[name]) for name in names}


def _scores_by_triton(
    fused: Any,
    prediction: MaskPrediction,
    names: Sequence[str],
    statistics: ClassStatistics | None,
) -> dict[str, Tensor]:
    """Compute the same, one pass over the frame for each."""
    logits, classes = prediction.mask_logits[0], prediction.class_logits[0]
    probabilities, void = _class_probabilities(prediction)
    weights = probabilities[:, :-1]
    number = weights.shape[1]
    known = statistics or ClassStatistics(np.zeros(number), np.ones(number), '')
    mean, deviation = (
        torch.from_numpy(each).to(weights) for each in (known.mean, known.deviation)
    )
    axes = sample_axes(prediction.frame_size, prediction.extent, logits.shape[-2:], logits.device)
    arguments = logits, weights, void, mean, deviation, *axes
    maps = {}
    for name in names:
        maps[name], finite, close = fused.score(*arguments, name, ODIN_TEMPERATURE)
        if not bool(finite & close):
            maps[name], finite, _ = fused.score(*arguments, name, ODIN_TEMPERATURE, exact=True)
        if not bool(finite & classes.isfinite().all()):
            raise ValueError(_NOT_FINITE)
    return maps


def _fused(prediction: MaskPrediction) -> Any:
    """Return the module that computes all methods in one pass, or None where it cannot."""
    if prediction.mask_logits.device.type != 'cpu':
        return None
    return _serving(prediction, _fused_module())


def _fused_on_gpu(prediction: MaskPrediction) -> Any:
    """Return the module that computes one method in one pass on a GPU, or None likewise."""
    interpreted = os.environ.get('TRITON_INTERPRET') == '1'
    if prediction.mask_logits.device.type != 'cuda' and not interpreted:
        return None
    module = _triton_module()
    if module is None or prediction.class_logits.shape[-1] - 1 > module.MOST_CLASSES:
        return None
    return _serving(prediction, module)


def _serving(prediction: MaskPrediction, module: Any) -> Any:
    """Return the module where its series of ODIN's differences are exact."""
    if module is None:
        return None
    ratio = prediction.mask_logits.shape[1] / ODIN_TEMPERATURE
    return module if ratio <= LARGEST_TEMPERATURE_RATIO else None


@functools.cache
def _fused_module() -> ModuleType | None:
    return _import('numba')


@functools.cache
def _triton_module() -> ModuleType | None:
    return _import('triton')


def _import(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(f'maskomaly_ros.fused.{name}_methods')
    except ImportError as error:
        _LOG.info('Scores are computed by torch alone: %s', error)
    except Exception:  # a compiler that fails must not stop an evaluation
        _LOG.warning('%s fails here; torch computes the scores', name, exc_info=True)
    return None


def _maskomaly_scores(
    prediction: MaskPrediction, parameters: ScoringParameters, names: Collection[str]
) -> Iterator[tuple[str, Tensor]]:
    """Yield those of Maskomaly and its parts that are asked for, of a prediction of one part."""
    inputs = prediction.mask_logits[0], prediction.class_logits[0], prediction.frame_size
    parts, maps = maskomaly_parts(parameters), None
    for name in names:
        if name == _PROGRAM:
            yield name, program_map(*inputs, reference_parameters(parameters))
        elif name in parts:
            maps = maps or Maps(*inputs, extent=prediction.extent)
            part, chosen = parts[name]
            yield name, part(maps, chosen)


def maskomaly_parts(
    parameters: ScoringParameters,
) -> Mapping[str, tuple[Callable[[Maps, ScoringParameters], Tensor], ScoringParameters]]:
    """Return which maps the scores of Maskomaly and its parts are, with which parameters."""
    variants: tuple[Variant, ...] = ('geometric', 'product', 'minimum')
    rules = parameters.variant if parameters.fusion == 'sum' else 'paper'
    return {
        'maskomaly': (Maps.score, parameters),
        'maskomaly-paper': (Maps.score, paper_parameters(parameters)),
        'maskomaly-reference': (Maps.score, reference_parameters(parameters)),
        **{variant: (Maps.score, fused_parameters(parameters, variant)) for variant in variants},
        'reject+borders': (Maps.score, replace(parameters, variant=rules, reject_weight=1.0)),
        'reject': (Maps.reject, parameters),
        'accept': (Maps.accept, parameters),
    }


def program_map(
    mask_logits: Tensor,
    class_logits: Tensor,
    size: tuple[int, int],
    parameters: ScoringParameters,
) -> Tensor:
    """Return the score with what surrounds the function in the authors' program.

    Their published figures were made so: the padded input is scored, padding and all, the map is
    resized to the frame by areas with the padding still in it, and reject keeps its weight where
    there are no anomalous queries. Where the input has padding, the map is shifted against the
    frame.

    Args:
        mask_logits: [N, h, w], at a quarter of the padded input.
        class_logits: [N, C+1].
        size: height and width of the frame.
        parameters: of the function.

    Returns:
        float32 [H, W] in [0, 1].

    """
    height, width = mask_logits.shape[-2:]
    padded = score_map(mask_logits, class_logits, (_STRIDE * height, _STRIDE * width), parameters)
    if not parameters.anomalous_queries:
        padded = padded * parameters.reject_weight
    resized = cv2.resize(padded.cpu().numpy(), (size[1], size[0]), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(np.asarray(resized)).to(mask_logits.device)


def fused_parameters(parameters: ScoringParameters, variant: Variant) -> ScoringParameters:
    """Return parameters for another way to join reject and accept.

    Thresholds stay, unless they are those of the authors' program, and so does a weight that was
    calibrated for this variant. Otherwise accept counts three times as much as reject.
    """
    if parameters.variant == variant:
        return parameters
    if parameters.variant == 'reference_code':
        parameters = paper_parameters(parameters)
    return replace(parameters, variant=variant, reject_weight=0.25)


def paper_parameters(parameters: ScoringParameters) -> ScoringParameters:
    """Return the paper's parameters for the same queries."""
    return ScoringParameters(parameters.anomalous_queries, parameters.ground_queries)


def reference_parameters(parameters: ScoringParameters) -> ScoringParameters:
    """Return what the function of the authors' program has, for the same queries."""
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
            raise ValueError(_NOT_FINITE)
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
