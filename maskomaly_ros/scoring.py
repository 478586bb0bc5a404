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

"""Maskomaly's anomaly score from the raw masks of a mask network (Algorithm 1) and its ablations.

Source: J. Ackermann, C. Sakaridis and F. Yu, "Maskomaly: Zero-Shot Mask Anomaly Segmentation",
BMVC 2023. With m = sigmoid(mask logits, resized bilinearly) and p = softmax(class logits), whose
last column is void ("no object"):

    I      = ground queries ∪ {n : argmax p_n ≠ void and max p_n ≥ mask_threshold}
    reject = min over I of (1 − m_n · max over inlier classes of p_n);   1 where I is empty
    where two masks of I are above border_threshold: reject = min(reject, border_score)
    accept = max over the anomalous queries of m_n · p_n[void];          0 where there are none
    score  = reject_weight · reject + (1 − reject_weight) · accept

The sum is high where one of the two is. Other variants join the same two parts so that both have
to be high (see `ScoringParameters`).

This module needs torch and nothing else, so it serves any network that answers with masks.

The code here, in plain torch, runs everywhere and is the reference. If numba (on a CPU) or triton
(on a GPU) is installed, `maskomaly_ros.fused` gives the same maps to within 1e-5, many times
faster; `form` chooses. That holds for logits of any size: where they are so far apart that
interpolation in float32 would be inexact, all forms use float64.

Two readings of the formulas make them cheap, and neither changes the result. 1 − x falls as x
grows, so reject is one minus the largest m_n · p_n. Two masks are above a threshold exactly where
the second largest is, and sigmoid is monotonic, so borders follow from the second largest logit.
What remains are running maxima over the selected queries, one resized mask at a time.

A power of reject or accept needs them exact where they are next to nothing, and 1 − m · p is not.
There the running value is the logit of 1 − m · p, least for the largest m · p, which is
log(exp(a) + (1 + exp(a)) · exp(−mask logit)) with a = log((1 − p) / p), a sum without cancelling.
"""

from __future__ import annotations

import functools
import importlib
import logging
import math
import numbers
import operator
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Final, Literal, NamedTuple, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    'Form',
    'Fusion',
    'Maps',
    'QuerySelection',
    'ScoringParameters',
    'Variant',
    'accept_map',
    'baseline_map',
    'border_mask',
    'join_maps',
    'reject_map',
    'sample_axes',
    'score_map',
    'select_queries',
    'warm_up',
]

Variant = Literal['paper', 'reference_code', 'geometric', 'product', 'minimum']
# Smaller weights vanish in float32, and 0 to the power of nothing is no longer 0.
_LEAST_WEIGHT: Final = 1e-20
Fusion = Literal['sum', 'geometric', 'product', 'minimum']
Form = Literal['auto', 'torch', 'numba', 'triton']

_logger = logging.getLogger(__name__)

_PAPER: Final[Mapping[str, float]] = {'mask_threshold': 0.3, 'border_score': 0.001}
_VARIANT_DEFAULTS: Final[Mapping[str, Mapping[str, float]]] = {
    'paper': _PAPER,
    'reference_code': {'mask_threshold': 0.7, 'border_score': 0.0},
    'geometric': _PAPER,
    'product': _PAPER,
    'minimum': _PAPER,
}
_FUSIONS: Final[Mapping[Variant, Fusion]] = {
    'paper': 'sum',
    'reference_code': 'sum',
    'geometric': 'geometric',
    'product': 'product',
    'minimum': 'minimum',
}
# Logits up to here are mixed in float32, which is off by 3e-5 at most, 1e-5 of a mask.
_LARGEST_PLAIN: Final = 64.0
_DEFAULT_OF_VARIANT: Final[Any] = None
_LOGIT_TYPES: Final = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def _query_indices(name: str, queries: Iterable[int]) -> tuple[int, ...]:
    if isinstance(queries, (str, bytes)) or not isinstance(queries, Iterable):
        raise TypeError(f'{name} is {queries!r}; it must be a list of query indices')
    indices = []
    for query in queries:
        try:
            index = operator.index(query)
        except TypeError:
            raise TypeError(f'{name} holds {query!r}; a query index is an integer') from None
        if isinstance(query, bool):
            raise TypeError(f'{name} holds {query!r}; a query index is an integer, not a flag')
        if index < 0:
            raise ValueError(f'{name} holds {index}; query indices start at 0')
        indices.append(index)
    return tuple(dict.fromkeys(indices))


def _fraction(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f'{name} is {value!r}; it must be a number from 0 to 1')
    fraction = float(value)
    if not 0 <= fraction <= 1:  # also refuses NaN
        raise ValueError(f'{name} is {fraction}; it must lie from 0 to 1')
    return fraction


@dataclass(frozen=True)
class ScoringParameters:
    """Say how masks become a score; values are checked and frozen.

    Query indices are 0-based and belong to one checkpoint. A list of queries is a set: duplicates
    count once. Real numbers lie in [0, 1].

    ``paper`` is the published algorithm. The function of the authors' program differs from it, and
    ``reference_code`` is that function; what surrounds it there (padding, the size at which it is
    called) is the score ``maskomaly-program`` of the evaluation:

    =================  ===================================  ===================================
    what               ``paper``                            ``reference_code``
    =================  ===================================  ===================================
    inlier confidence  max p ≥ ``mask_threshold``           max p > ``mask_threshold``
    who makes borders  pairs in I                           pairs of all queries whose argmax
                                                            is not void
    ground queries     in I; weight is the largest inlier   in reject only; weight is the
                       probability                          largest probability of any class
    accept weight      p[void]                              largest probability of any class
    =================  ===================================  ===================================

    The other variants take reject with its borders, and accept, as ``paper`` has them, and join
    them otherwise. The weighted sum, λ · reject + (1 − λ) · accept, is high where one of the two
    is; these ask for both. All lie in [0, 1] and never fall where reject or accept rises:

    =============  ====================================  ==========================================
    variant        score                                 of two parts that are equal, that value, …
    =============  ====================================  ==========================================
    ``geometric``  reject^λ · accept^(1 − λ)             … and 0 where one of them is 0
    ``product``    reject · accept                       … squared; ranks as ``geometric``, λ = ½
    ``minimum``    min(reject, accept)                   … and of others the smaller one
    =============  ====================================  ==========================================

    Without inlier queries in a frame reject is 1, also in these. Without anomalous queries every
    variant is reject with borders alone.

    Attributes:
        anomalous_queries: Queries that cover anomalies (set A). Without any, the score is reject
            with borders alone, as with reject_weight 1.
        ground_queries: Queries that always count as inliers.
        mask_threshold: Confidence from which a query is an inlier. Left out (or None): 0.7 for
            ``reference_code``, 0.3 for all others.
        border_threshold: Mask value above which a mask takes part in a border.
        border_score: Most that reject may be on a border. Left out (or None): 0 for
            ``reference_code``, 0.001 for all others.
        reject_weight: Weight λ of reject; accept has 1 − λ. Not used by ``product`` and
            ``minimum``.
        variant: ``paper``, ``reference_code``, ``geometric``, ``product`` or ``minimum``.

    Raises:
        TypeError: Where a query is no integer or a number is no real number.
        ValueError: Where a query is negative, a number outside [0, 1] or the variant unknown.

    """

    anomalous_queries: tuple[int, ...] = ()
    ground_queries: tuple[int, ...] = ()
    mask_threshold: float = _DEFAULT_OF_VARIANT
    border_threshold: float = 0.1
    border_score: float = _DEFAULT_OF_VARIANT
    reject_weight: float = 0.6
    variant: Variant = 'paper'

    def __post_init__(self) -> None:
        if self.variant not in _VARIANT_DEFAULTS:
            known = ', '.join(_VARIANT_DEFAULTS)
            raise ValueError(f'variant is {self.variant!r}; it must be one of {known}')
        for name, value in _VARIANT_DEFAULTS[self.variant].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        for name in ('anomalous_queries', 'ground_queries'):
            object.__setattr__(self, name, _query_indices(name, getattr(self, name)))
        for name in ('mask_threshold', 'border_threshold', 'border_score', 'reject_weight'):
            object.__setattr__(self, name, _fraction(name, getattr(self, name)))

    @classmethod
    def for_variant(cls, variant: Variant, **values: Any) -> ScoringParameters:
        """Return the defaults of a variant, with values in place of those that they name.

        Prefer this to ``dataclasses.replace(parameters, variant=…)``, which keeps the thresholds
        of the variant that it started from.
        """
        return cls(variant=variant, **values)

    @property
    def fusion(self) -> Fusion:
        """How reject and accept are joined."""
        return _FUSIONS[self.variant]


@dataclass(frozen=True)
class QuerySelection:
    """Name the queries that matter for one frame, with their weights.

    Attributes:
        inlier: Weight in reject of every inlier query (set I).
        border_makers: Queries whose overlaps make borders.
        anomalous: Weight in accept of every anomalous query (set A).

    """

    inlier: Mapping[int, float] = field(default_factory=dict)
    border_makers: frozenset[int] = frozenset()
    anomalous: Mapping[int, float] = field(default_factory=dict)

    @property
    def queries(self) -> list[int]:
        """Return every query that has a part in the score, ascending."""
        return sorted({*self.inlier, *self.border_makers, *self.anomalous})


def score_map(
    mask_logits: Tensor,
    class_logits: Tensor,
    size: Sequence[int],
    parameters: ScoringParameters = ScoringParameters(),
    *,
    extent: Sequence[float] | None = None,
    form: Form = 'auto',
) -> Tensor:
    """Return the anomaly score of every pixel (Maskomaly, Algorithm 1, and its variants).

    Computes in float32, or in float64 where the mask logits are float64 or large, on the device
    of the mask logits. Holds a handful of maps of the output size, whatever the number of queries.

    Args:
        mask_logits: Mask logits [N, h, w] or [B, N, h, w]; float16, bfloat16, float32 or float64.
        class_logits: Class logits [N, C+1] or [B, N, C+1], void last, of one of the same types.
        size: Height and width in pixels of the score map.
        parameters: Queries, thresholds, weight and variant.
        extent: Height and width, in mask pixels from the top left, of the part of the masks that
            shows the frame; the rest is padding of the network input. Two more numbers say where
            that part begins, rows and columns, if not in the corner. Output pixel x looks at
            begin + (x + 0.5) · extent / size − 0.5. Default: the masks have no padding.
        form: ``torch``, ``numba`` (on a CPU) or ``triton`` (on a GPU); the last two do not take
            float64. ``auto`` is the fastest that serves the logits and is installed.

    Returns:
        Score in [0, 1], 1 = anomalous: float32 [H, W], or [B, H, W] for a batch.

    Raises:
        TypeError: Where an input is no tensor of real numbers or size holds no integers.
        ValueError: Where shapes do not fit, logits are NaN or infinite (``triton`` looks only at
            those that it uses), size or extent is out of range, or form cannot be had.
        IndexError: Where parameters name a query that the network does not have.

    """
    maps = Maps(mask_logits, class_logits, size, extent=extent, form=form)
    return maps.score(parameters)


def reject_map(
    mask_logits: Tensor,
    class_logits: Tensor,
    size: Sequence[int],
    parameters: ScoringParameters = ScoringParameters(),
    *,
    extent: Sequence[float] | None = None,
    form: Form = 'auto',
) -> Tensor:
    """Return reject alone, without borders: how little the inlier queries claim each pixel.

    Arguments and errors are those of :func:`score_map`.

    Returns:
        float32 [H, W] or [B, H, W] in [0, 1]; 1 where a frame has no inlier query.

    """
    maps = Maps(mask_logits, class_logits, size, extent=extent, form=form)
    return maps.reject(parameters)


def border_mask(
    mask_logits: Tensor,
    class_logits: Tensor,
    size: Sequence[int],
    parameters: ScoringParameters = ScoringParameters(),
    *,
    extent: Sequence[float] | None = None,
    form: Form = 'auto',
) -> Tensor:
    """Return where two masks overlap, which is where score_map holds reject at border_score.

    Arguments and errors are those of :func:`score_map`.

    Returns:
        bool [H, W] or [B, H, W].

    """
    maps = Maps(mask_logits, class_logits, size, extent=extent, form=form)
    return maps.borders(parameters)


def accept_map(
    mask_logits: Tensor,
    class_logits: Tensor,
    size: Sequence[int],
    parameters: ScoringParameters = ScoringParameters(),
    *,
    extent: Sequence[float] | None = None,
    form: Form = 'auto',
) -> Tensor:
    """Return accept alone: how strongly the anomalous queries claim each pixel.

    Arguments and errors are those of :func:`score_map`.

    Returns:
        float32 [H, W] or [B, H, W] in [0, 1]; 0 without anomalous queries.

    """
    maps = Maps(mask_logits, class_logits, size, extent=extent, form=form)
    return maps.accept(parameters)


@torch.no_grad()
def join_maps(reject: Tensor, accept: Tensor, parameters: ScoringParameters) -> Tensor:
    """Return the score that maps of reject and accept make: for studies that keep one of the two.

    Equals :func:`score_map` up to rounding. Where an inlier is certain, the little that is left of
    reject is lost in a float32 map from a GPU or from the torch form, and a root makes that
    visible: there, ``geometric`` is off by up to 1e-7 to the power of reject_weight.

    Args:
        reject: Reject with borders, as `reject_map` and `border_mask` give it, in [0, 1].
        accept: Accept, of the same shape.
        parameters: Variant and weight; with anomalous queries or without, as score_map has them.

    """
    if not parameters.anomalous_queries:
        return reject.clone()
    weight = parameters.reject_weight
    if parameters.fusion == 'geometric':
        return reject.pow(weight).mul_(accept.pow(1 - weight))
    if parameters.fusion == 'product':
        return reject * accept
    if parameters.fusion == 'minimum':
        return torch.minimum(reject, accept)
    return accept.lerp(reject, weight)


@torch.no_grad()
def baseline_map(
    mask_logits: Tensor,
    class_logits: Tensor,
    size: Sequence[int],
    *,
    extent: Sequence[float] | None = None,
) -> Tensor:
    """Return the baseline that Maskomaly is compared with (equation 4).

    Only the strongest mask of each pixel counts, n = argmax m_n: the score is m_n where its
    class is void and 1 − m_n where it is not. Arguments and errors are those of
    :func:`score_map`.

    Returns:
        float32 [H, W] or [B, H, W] in [0, 1], 1 = anomalous.

    """
    prediction = _Prediction(mask_logits, class_logits, size, extent)
    prediction.check_finite()
    void = _is_void(_class_logits_on_cpu(class_logits)).tolist()
    return prediction.collect(prediction.baseline(frame, row) for frame, row in enumerate(void))


@torch.no_grad()
def select_queries(
    class_logits: Tensor, parameters: ScoringParameters
) -> tuple[QuerySelection, ...]:
    """Return, frame by frame, the queries that score_map uses.

    Args:
        class_logits: Class logits [N, C+1] or [B, N, C+1], void last.
        parameters: Queries, thresholds and variant.

    Returns:
        One selection a frame; one in all without a batch dimension.

    Raises:
        TypeError: Where class_logits is no tensor of real numbers.
        ValueError: Where its shape does not fit or it holds NaN or infinity.
        IndexError: Where parameters name a query that the network does not have.

    """
    logits = _class_logits_on_cpu(class_logits)
    _check_queries(parameters, logits.shape[1])
    weighed = _weigh(logits, parameters)
    return tuple(
        QuerySelection(
            inlier=_weights(against_inlier),
            border_makers=frozenset(makers.nonzero().flatten().tolist()),
            anomalous=_weights(against_anomalous),
        )
        for against_inlier, makers, against_anomalous in zip(*weighed, strict=True)
    )


def _weights(against: Tensor) -> dict[int, float]:
    """Return the weights of the queries that have a part, by query."""
    chosen = (against < math.inf).nonzero().flatten()
    return dict(zip(chosen.tolist(), (-against[chosen]).sigmoid().tolist(), strict=True))


def warm_up(device: torch.device | str = 'cpu') -> None:
    """Compile what score_map runs on a device, so that the first frame need not wait for it.

    The result is kept on disk; the next process takes a fraction of a second.
    """
    masks, classes = torch.zeros(2, 4, 4, device=device), torch.zeros(2, 2, device=device)
    for variant in ('paper', 'geometric'):  # on a GPU each fusion is a kernel of its own
        parameters = ScoringParameters(anomalous_queries=(0,), variant=variant)
        score_map(masks, classes, (16, 16), parameters)


class _Fusing(NamedTuple):
    """Say how one pixel's reject and accept become its score."""

    fusion: Fusion = 'sum'
    reject_weight: float = 1.0
    border_score: float = 0.0


_ALONE: Final = _Fusing()


class Maps:
    """Makes any number of maps of one prediction; what they share is checked and found once.

    Arguments and errors are those of :func:`score_map`; some errors come with the first map.
    """

    def __init__(
        self,
        mask_logits: Tensor,
        class_logits: Tensor,
        size: Sequence[int],
        *,
        extent: Sequence[float] | None = None,
        form: Form = 'auto',
    ) -> None:
        self._prediction = _Prediction(mask_logits, class_logits, size, extent)
        self._form = _choose(form, mask_logits)
        _check_class_logits(class_logits)
        self._class_logits = class_logits
        self._weighed: dict[tuple[object, ...], _Weighed] = {}

    def score(self, parameters: ScoringParameters) -> Tensor:
        """Return what :func:`score_map` returns."""
        reject: tuple[str, ...] = ('inlier', 'border_makers')
        accept: tuple[str, ...] = ('anomalous',)
        fusion, reject_weight, parts = parameters.fusion, parameters.reject_weight, reject + accept
        if not parameters.anomalous_queries:
            if (fusion, reject_weight) != ('sum', 1.0):  # else it is what was asked for
                _log_missing_anomalous_queries()
            fusion, reject_weight = 'sum', 1.0
        # A part without weight is not computed, whether it is multiplied by 0 or raised to it.
        if fusion in ('sum', 'geometric') and reject_weight in (0, 1):
            fusion, parts = 'sum', reject if reject_weight else accept
        elif fusion == 'geometric':
            reject_weight = max(reject_weight, _LEAST_WEIGHT)
        return self._fused(
            parameters, parts, _Fusing(fusion, reject_weight, parameters.border_score)
        )

    def reject(self, parameters: ScoringParameters) -> Tensor:
        """Return what :func:`reject_map` returns."""
        return self._fused(parameters, ('inlier',))

    def borders(self, parameters: ScoringParameters) -> Tensor:
        """Return what :func:`border_mask` returns."""
        # Without inlier queries reject is 1 wherever no border holds it at 0.
        return self._fused(parameters, ('border_makers',)) == 0

    def accept(self, parameters: ScoringParameters) -> Tensor:
        """Return what :func:`accept_map` returns."""
        return self._fused(parameters, ('anomalous',), _Fusing(reject_weight=0))

    @torch.no_grad()
    def _fused(
        self, parameters: ScoringParameters, parts: Sequence[str], fusing: _Fusing = _ALONE
    ) -> Tensor:
        """Return what the named parts of the queries are fused to."""
        border_logit = _logit(parameters.border_threshold)
        _check_queries(parameters, self._class_logits.shape[-2])
        prediction = self._prediction
        if self._form == 'triton':
            return prediction.fused_on_gpu(
                self._class_logits, parameters, parts, border_logit, fusing
            )
        weighed = self._weigh(parameters).only(parts)
        evaluate = prediction.fused_on_cpu if self._form == 'numba' else prediction.score
        return prediction.collect(
            evaluate(frame, _Weighed(*one), border_logit, fusing)
            for frame, one in enumerate(zip(*weighed, strict=True))
        )

    def _weigh(self, parameters: ScoringParameters) -> _Weighed:
        """Return the part that queries have by these rules, of logits that have been checked."""
        rules = (
            parameters.mask_threshold,
            parameters.ground_queries,
            parameters.anomalous_queries,
            parameters.variant == 'reference_code',
        )
        if rules not in self._weighed:
            self._weighed[rules] = _weigh(self._checked_class_logits, parameters)
        return self._weighed[rules]

    @functools.cached_property
    def _checked_class_logits(self) -> Tensor:
        self._prediction.check_finite()
        return _class_logits_on_cpu(self._class_logits)


def _choose(form: Form, mask_logits: Tensor) -> Form:
    """Return the form to take; refuse one that does not serve these logits or is not installed."""
    if form not in get_args(Form):
        raise ValueError(f'form is {form!r}; it must be one of {", ".join(get_args(Form))}')
    if form == 'torch':
        return form
    module = {'cpu': 'numba', 'cuda': 'triton'}.get(mask_logits.device.type)
    if form == 'triton' and module == 'numba' and os.environ.get('TRITON_INTERPRET') == '1':
        module = 'triton'
    serves = mask_logits.dtype != torch.float64 and module is not None
    if form == 'auto':
        return cast('Form', module) if serves and _fused(cast('str', module)) else 'torch'
    if form != module or not serves:
        raise ValueError(
            f'form {form} does not take {mask_logits.dtype} on {mask_logits.device}; use torch'
        )
    if _fused(form) is None:
        raise ValueError(f'form {form} needs the package {form}: pip install {form}')
    return form


@functools.cache
def _fused(name: str) -> ModuleType | None:
    """Import a fused form; None where its package is not installed or does not work."""
    try:
        return importlib.import_module(f'maskomaly_ros.fused.{name}_scoring')
    except ImportError as error:
        _logger.info('The score map is computed by torch alone: %s', error)
    except Exception:  # a compiler that fails must not stop a vehicle
        _logger.warning('%s fails here; torch computes the score map', name, exc_info=True)
    return None


class _Weighed(NamedTuple):
    """Say which queries have a part in the score, and how much.

    Of a probability p stands log((1 − p) / p), which is exact next to 0 and next to 1.

    Attributes:
        inlier: of every query's weight in reject; infinity for those that are not in I.
        border_makers: whether overlaps of a query make borders, bool.
        anomalous: of every query's weight in accept; infinity for those that are not in A.

    Each is [B, N], or [N] for one frame; logits are float64.

    """

    inlier: Tensor
    border_makers: Tensor
    anomalous: Tensor

    def only(self, parts: Sequence[str]) -> _Weighed:
        """Return the named parts, the others without any query."""
        return _Weighed(
            *(
                part
                if name in parts
                else torch.full_like(part, False if part.dtype == torch.bool else math.inf)
                for name, part in zip(self._fields, self, strict=True)
            )
        )


class _Maxima(NamedTuple):
    """Hold what one frame's masks reduce to, each [H, W].

    Attributes:
        inlier: Largest m_n · weight of the inlier queries, 0 without any.
        second_logit: Second largest mask logit of the border makers, −inf with fewer than two.
        anomalous: Largest m_n · weight of the anomalous queries, 0 without any.

    Where logits are asked for, `inlier` and `anomalous` are those of 1 − m_n · weight: the least.

    """

    inlier: Tensor
    second_logit: Tensor
    anomalous: Tensor


class _Prediction:
    """Check the masks of a batch of frames and reduce them, one resized mask at a time."""

    def __init__(
        self,
        mask_logits: Tensor,
        class_logits: Tensor,
        size: Sequence[int],
        extent: Sequence[float] | None,
    ) -> None:
        _check_shape('mask_logits', mask_logits, ('N', 'h', 'w'))
        _check_shape('class_logits', class_logits, ('N', 'C+1'))
        if mask_logits.shape[:-2] != class_logits.shape[:-1]:
            raise ValueError(
                f'mask_logits is {_shape(mask_logits)} and class_logits is '
                f'{_shape(class_logits)}: both must be of the same queries and frames'
            )
        self._batched = mask_logits.ndim == 4
        self._masks = _as_batch(mask_logits, 3)
        double = mask_logits.dtype == torch.float64
        self._dtype = torch.float64 if double else torch.float32
        self._size = _output_size(size)
        self._rows, self._columns = sample_axes(
            self._size, extent, mask_logits.shape[-2:], mask_logits.device
        )

    def check_finite(self) -> None:
        """Refuse logits that are NaN, infinite or too far apart; take float64 for large ones."""
        masks = self._masks if self._batched else self._masks[0]
        if _check_finite('mask_logits', masks, self._dtype) > _LARGEST_PLAIN:
            self._dtype = torch.float64

    def score(self, frame: int, weighed: _Weighed, border_logit: float, fusing: _Fusing) -> Tensor:
        """Return the score of one frame."""
        weight = fusing.reject_weight
        if fusing.fusion == 'geometric':
            maxima = self.reduce(frame, weighed, logits=True)
            borders = maxima.second_logit > border_logit
            reject = F.logsigmoid(maxima.inlier)
            on_border = math.log(fusing.border_score) if fusing.border_score else -math.inf
            reject = torch.where(borders, reject.clamp(max=on_border), reject)
            accept = F.logsigmoid(maxima.anomalous.neg_())
            return reject.mul_(weight).add_(accept, alpha=1 - weight).exp_()
        maxima = self.reduce(frame, weighed)
        accept = maxima.anomalous
        reject = 1 - maxima.inlier
        borders = maxima.second_logit > border_logit
        reject = torch.where(borders, reject.clamp(max=fusing.border_score), reject)
        if fusing.fusion == 'product':
            return reject.mul_(accept)
        if fusing.fusion == 'minimum':
            return torch.minimum(reject, accept, out=reject)
        return accept.lerp_(reject, weight)

    def fused_on_cpu(
        self, frame: int, weighed: _Weighed, border_logit: float, fusing: _Fusing
    ) -> Tensor:
        """Return what score returns, by numba."""
        form = cast('Any', _fused('numba'))
        return cast(
            'Tensor',
            form.score(
                self._masks[frame],
                *weighed,
                self._rows,
                self._columns,
                border_logit,
                *fusing,
            ),
        )

    def fused_on_gpu(
        self,
        class_logits: Tensor,
        parameters: ScoringParameters,
        parts: Sequence[str],
        border_logit: float,
        fusing: _Fusing,
    ) -> Tensor:
        """Return the scores of all frames, by triton; waits for the device once, at the end."""
        logits = _as_batch(class_logits, 2).to(self._masks.device, torch.float64)
        form = cast('Any', _fused('triton'))
        for exact in (False, True):
            scores, finite, close = form.score(
                self._masks,
                *_weigh(logits, parameters).only(parts),
                self._rows,
                self._columns,
                border_logit,
                *fusing,
                exact=exact,
            )
            is_finite, is_close = torch.stack([finite & logits.isfinite().all(), close]).tolist()
            if not is_finite:
                _check_finite('class_logits', logits, logits.dtype)
                self.check_finite()
            if is_close:  # else once more, in float64
                break
        return cast('Tensor', scores) if self._batched else cast('Tensor', scores)[0]

    def reduce(self, frame: int, weighed: _Weighed, *, logits: bool = False) -> _Maxima:
        """Return the running maxima of the selected queries of one frame; see `_Maxima`."""
        least = math.inf if logits else 0
        maxima = _Maxima(self._map(least), self._map(-math.inf), self._map(least))
        largest_logit = self._map(-math.inf)
        scratch = self._scratch
        makers = weighed.border_makers.tolist()
        sides = weighed.inlier.tolist(), weighed.anomalous.tolist()
        for query, against in enumerate(zip(*sides, strict=True)):
            if not makers[query] and min(against) == math.inf:
                continue
            mask = self._resize(self._masks[frame, query])
            if makers[query]:
                torch.minimum(largest_logit, mask, out=scratch)
                torch.maximum(maxima.second_logit, scratch, out=maxima.second_logit)
                torch.maximum(largest_logit, mask, out=largest_logit)
            mask = mask.neg_() if logits else mask.sigmoid_()
            for a, found in zip(against, (maxima.inlier, maxima.anomalous), strict=True):
                if a == math.inf:
                    continue
                if logits:
                    torch.add(mask, _softplus(a), out=scratch)
                    torch.logaddexp(scratch, scratch.new_tensor(a), out=scratch)
                    torch.minimum(found, scratch, out=found)
                else:
                    torch.mul(mask, math.exp(-_softplus(a)), out=scratch)
                    torch.maximum(found, scratch, out=found)
        return maxima

    def baseline(self, frame: int, void: Sequence[bool]) -> Tensor:
        """Return equation 4 for one frame, given which of its queries are void."""
        strongest = self._map(-math.inf)
        strongest_is_void = torch.zeros_like(strongest, dtype=torch.bool)
        for mask, is_void in zip(self._masks[frame], void, strict=True):
            logits = self._resize(mask)
            stronger = logits > strongest  # strictly: of equal masks argmax takes the first
            torch.maximum(strongest, logits, out=strongest)
            if is_void:
                strongest_is_void |= stronger
            else:
                strongest_is_void &= ~stronger
        return torch.where(strongest_is_void, strongest, -strongest).sigmoid_()

    def collect(self, maps: Iterable[Tensor]) -> Tensor:
        """Return the maps of all frames in the shape that the input had; holds one at a time."""
        frames = len(self._masks)
        for number, found in enumerate(maps):
            one = found if found.dtype == torch.bool else found.float()
            if frames == 1:
                return one[None] if self._batched else one
            if number == 0:
                results = one.new_empty(frames, *one.shape)
            results[number] = one
        return results

    def _map(self, value: float | None = None) -> Tensor:
        empty = torch.empty(self._size, dtype=self._dtype, device=self._masks.device)
        return empty if value is None else empty.fill_(value)

    @functools.cached_property
    def _logits(self) -> Tensor:
        return self._map()

    @functools.cached_property
    def _scratch(self) -> Tensor:
        return self._map()

    def _resize(self, mask: Tensor) -> Tensor:
        """Resize one mask bilinearly into a buffer that the next call overwrites.

        The same as F.interpolate(mode='bilinear', align_corners=False), in less than half of its
        time on a CPU, because the rows of the output are plain mixtures of two whole rows.
        """
        rows, columns = self._rows, self._columns
        mask = mask.to(self._dtype)
        wide = torch.lerp(
            mask.index_select(1, columns.lower),
            mask.index_select(1, columns.upper),
            columns.weight.to(self._dtype),
        )
        torch.index_select(wide, 0, rows.lower, out=self._logits)
        torch.index_select(wide, 0, rows.upper, out=self._scratch)
        return self._logits.lerp_(self._scratch, rows.weight.to(self._dtype)[:, None])


class Axis(NamedTuple):
    """Say between which two mask pixels each output pixel lies, and how far along (float64)."""

    lower: Tensor
    upper: Tensor
    weight: Tensor

    @classmethod
    @functools.lru_cache(maxsize=32)  # a camera's frames are all of one size
    def sample(
        cls,
        pixels: int,
        extent: float,
        device: torch.device,
        begin: float = 0.0,
        length: int | None = None,
    ) -> Axis:
        """Return where pixels of the output lie that show extent mask pixels from begin on.

        Args:
            pixels: Of the output.
            extent: Mask pixels that they show.
            device: Where the result is.
            begin: Where the first one begins.
            length: Of the masks, whose end is not left; None: they end with the extent.

        """
        end = math.ceil(begin + extent)
        last = (end if length is None else min(end, length)) - 1
        position = (torch.arange(pixels, dtype=torch.float64) + 0.5) * (extent / pixels) - 0.5
        position = position.add_(begin).clamp_(0, last)
        lower = position.long()
        upper = (lower + 1).clamp_(max=last)
        return cls(lower.to(device), upper.to(device), (position - lower).to(device))


def _weigh(logits: Tensor, parameters: ScoringParameters) -> _Weighed:
    """Return which queries have a part, and how much, from class logits float64 [B, N, C+1]."""
    log_p = logits.log_softmax(-1)
    largest = log_p.amax(-1).exp()
    not_void = ~_is_void(logits)
    ground = _members(parameters.ground_queries, logits.shape[1], logits.device)
    anomalous = _members(parameters.anomalous_queries, logits.shape[1], logits.device)
    void = logits.shape[-1] - 1
    if parameters.variant == 'reference_code':
        inlier = not_void & (largest > parameters.mask_threshold)
        border_makers = not_void
        of_inlier = of_anomalous = logits.argmax(-1, keepdim=True)
    else:
        inlier = not_void & (largest >= parameters.mask_threshold) | ground
        border_makers = inlier
        of_inlier = logits[..., :-1].argmax(-1, keepdim=True)
        of_anomalous = torch.full_like(of_inlier, void)
    return _Weighed(
        _against(logits, of_inlier).masked_fill_(~(inlier | ground), math.inf),
        border_makers,
        _against(logits, of_anomalous).masked_fill_(~anomalous, math.inf),
    )


def _against(logits: Tensor, classes: Tensor) -> Tensor:
    """Return log((1 − p) / p) of the given class [B, N, 1] of every query, [B, N]."""
    others = logits.scatter(-1, classes, -math.inf).logsumexp(-1)
    return others - logits.gather(-1, classes)[..., 0]


def _softplus(value: float) -> float:
    """Return log(1 + exp(value))."""
    return max(value, 0.0) + math.log1p(math.exp(-abs(value)))


@functools.lru_cache(maxsize=16)
def _members(queries: tuple[int, ...], count: int, device: torch.device) -> Tensor:
    """Return which of count queries are among those listed, bool [N]."""
    members = torch.zeros(count, dtype=torch.bool)
    members[list(queries)] = True
    return members.to(device)


def _check_queries(parameters: ScoringParameters, count: int) -> None:
    for name in ('anomalous_queries', 'ground_queries'):
        for query in getattr(parameters, name):
            if query >= count:
                raise IndexError(
                    f'{name} names query {query}, but the network has {count} (0 to '
                    f'{count - 1}): the list belongs to another checkpoint'
                )


def _logit(probability: float) -> float:
    """Return the logit of a probability; sigmoid(logit) > 0 always holds and > 1 never does."""
    if probability <= 0:
        return -math.inf
    if probability >= 1:
        return math.inf
    return math.log(probability) - math.log1p(-probability)


def _class_logits_on_cpu(class_logits: Tensor) -> Tensor:
    """Return checked class logits, float64 [B, N, C+1]: a few thousand numbers, one transfer."""
    _check_class_logits(class_logits)
    logits = _as_batch(class_logits, 2).cpu().double()
    _check_finite('class_logits', logits, logits.dtype)
    return logits


def _check_class_logits(class_logits: Tensor) -> None:
    _check_shape('class_logits', class_logits, ('N', 'C+1'))
    if class_logits.shape[-1] < 2:
        raise ValueError(
            f'class_logits is {_shape(class_logits)}; it needs one inlier class at least, and '
            'void last'
        )


def _is_void(class_logits: Tensor) -> Tensor:
    return class_logits.argmax(-1) == class_logits.shape[-1] - 1


def _as_batch(tensor: Tensor, dimensions: int) -> Tensor:
    return tensor if tensor.ndim > dimensions else tensor[None]


@functools.cache
def _log_missing_anomalous_queries() -> None:
    """Say it once a process: a node would otherwise repeat it with every frame."""
    _logger.warning(
        'No anomalous queries are given: the score is reject with borders alone; '
        'reject_weight has no effect'
    )


def _check_shape(name: str, logits: Tensor, dimensions: tuple[str, ...]) -> None:
    if not isinstance(logits, Tensor):
        raise TypeError(f'{name} is a {type(logits).__name__}; it must be a torch.Tensor')
    if logits.dtype not in _LOGIT_TYPES:
        known = ', '.join(str(dtype).removeprefix('torch.') for dtype in _LOGIT_TYPES)
        raise TypeError(f'{name} holds {logits.dtype}; it must be one of {known}')
    rank = len(dimensions)
    if logits.ndim not in (rank, rank + 1):
        wanted = ', '.join(dimensions)
        raise ValueError(f'{name} is {_shape(logits)}; it must be [{wanted}] or [B, {wanted}]')
    if 0 in logits.shape:
        raise ValueError(f'{name} is {_shape(logits)}; no dimension may be empty')


def _check_finite(name: str, logits: Tensor, dtype: torch.dtype) -> float:
    """Refuse NaN, infinity and values so far apart that mixing two of them overflows.

    Returns:
        The largest magnitude.

    """
    lowest, highest = (float(value) for value in torch.stack(torch.aminmax(logits)).tolist())
    if highest - lowest <= torch.finfo(dtype).max:  # false for NaN
        return max(-lowest, highest)
    wrong = (~logits.isfinite()).nonzero()
    if len(wrong) == 0:
        raise ValueError(f'{name} spans {lowest:g} to {highest:g}, more than {dtype} can hold')
    where = tuple(wrong[0].tolist())
    raise ValueError(
        f'{name} holds {float(logits[where])} at {list(where)}; run the network in a precision '
        'that does not overflow, such as bfloat16 or float32'
    )


def _output_size(size: Sequence[int]) -> tuple[int, int]:
    try:
        height, width = (operator.index(pixels) for pixels in size)
    except TypeError:
        raise TypeError(f'size is {size!r}; it must be (height, width) in whole pixels') from None
    except ValueError:
        raise ValueError(f'size is {size!r}; it must be (height, width)') from None
    if height < 1 or width < 1:
        raise ValueError(f'size is {(height, width)}; height and width must be 1 or more')
    return height, width


def sample_axes(
    size: Sequence[int],
    extent: Sequence[float] | None,
    mask_size: Sequence[int],
    device: torch.device,
) -> tuple[Axis, Axis]:
    """Return where the rows and the columns of the output lie among those of the masks.

    Args:
        size: Height and width of the output.
        extent: As in :func:`score_map`.
        mask_size: Height and width of the masks.
        device: Where the result is.

    Raises:
        ValueError: Where extent is out of range.

    """
    if extent is None:
        extent = tuple(map(float, mask_size))
    try:
        height, width, *rest = (float(length) for length in extent)
        top, left = rest or (0.0, 0.0)
    except (TypeError, ValueError):
        raise ValueError(
            f'extent is {extent!r}; it must be (height, width) or (height, width, top, left)'
        ) from None
    lengths, begins = (height, width), (top, left)
    if rest:
        # The middle of each output pixel lies on the masks, but for what rounding moves.
        fits = all(
            length > 0
            and begin + length / pixels / 2 > -1
            and begin + length - length / pixels / 2 < most + 1
            for length, begin, pixels, most in zip(lengths, begins, size, mask_size, strict=True)
        )
    else:
        fits = all(0 < length <= most for length, most in zip(lengths, mask_size, strict=True))
    if not fits:  # NaN does not fit either
        raise ValueError(
            f'extent is {(height, width, *rest)}; it must be above 0 and at most '
            f'{tuple(mask_size)}, the size of the masks'
        )
    rows, columns = (
        Axis.sample(*values[:2], device, *values[2:])
        for values in zip(size, lengths, begins, mask_size, strict=True)
    )
    return rows, columns


def _shape(tensor: Tensor) -> str:
    return str(list(tensor.shape))
