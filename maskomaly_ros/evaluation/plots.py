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

"""Figures of evaluation and analysis, with matplotlib: as files, and as parts of HTML pages.

A figure is drawn once. As a file it is dark on white; in a page its text has the colour of the
text around it, and each series can be hidden by its name (see `maskomaly_ros.html`).
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from maskomaly_ros import html
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.evaluation.metrics import Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

# Of middle lightness, to be seen on white and on black; the hues of Okabe and Ito, which
# colour-blind eyes tell apart, then the same again with other dashes.
_COLORS = (
    '#d55e00', '#0f84c9', '#009e73', '#c75a95', '#e69f00', '#3fa9e0', '#8c6bd1', '#8a8f98',
)  # fmt: skip
_DASHES: tuple[str | tuple[int, tuple[float, ...]], ...] = (
    'solid', (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)),
)  # fmt: skip
_INK = '#1c2430'
_STYLE: Any = {
    'axes.axisbelow': True,
    'axes.edgecolor': _INK,
    'axes.grid': True,
    'axes.labelcolor': _INK,
    'axes.spines.right': False,
    'axes.spines.top': False,
    'axes.titlesize': 'medium',
    'font.size': 10,
    'grid.alpha': 0.15,
    'grid.color': _INK,
    'legend.frameon': False,
    'legend.labelcolor': _INK,
    'path.simplify': True,
    'svg.fonttype': 'none',
    'svg.hashsalt': 'maskomaly',  # the same figure is the same file
    'text.color': _INK,
    'xtick.color': _INK,
    'ytick.color': _INK,
}
_ABOVE = (0.0, 3.0)  # a label over its bar, in points
_MOST_RAISES = 6
_RESOLUTION = 500  # of curves: finer steps are not to be seen

FloatArray = NDArray[np.float64]


def series_style(index: int) -> dict[str, Any]:
    """Return colour and dashes of the series at an index, as matplotlib names them."""
    return {
        'color': _COLORS[index % len(_COLORS)],
        'linestyle': _DASHES[index // len(_COLORS) % len(_DASHES)],
    }


def legend(names: Iterable[str]) -> list[dict[str, Any]]:
    """Return name and swatch, a short piece of the line, of each series: for legends in HTML."""
    entries = []
    for index, name in enumerate(names):
        style = series_style(index)
        dashes = style['linestyle']
        pattern = '' if dashes == 'solid' else ' '.join(f'{2 * part:g}' for part in dashes[1])
        line = Markup(
            '<svg viewBox="0 0 30 10" aria-hidden="true"><line x1="0" x2="30" y1="5" y2="5" '
            'stroke="{}" stroke-width="3" stroke-dasharray="{}"/></svg>'
        ).format(style['color'], pattern)
        entries.append({'name': name, 'swatch': line})
    return entries


def precision_recall(curves: Mapping[str, Curve], *, with_legend: bool = True) -> Figure:
    """Return the precision-recall curves of methods, as the steps whose area is the AP."""
    with _figure(6.0, 5.0) as (figure, axes):
        for index, (name, curve) in enumerate(curves.items()):
            kept = thin(curve.recall, curve.precision)
            x, y = curve.recall[kept], curve.precision[kept]
            axes.plot(
                np.append(0.0, x), np.append(y[0], y),
                drawstyle='steps-pre', label=name, gid=f'series:{name}', **series_style(index),
            )  # fmt: skip
        positives = next(iter(curves.values()))
        share = positives.positives / (positives.positives + positives.negatives)
        _level(axes, share, f'chance\n{100 * share:.1f} %')
        axes.set(xlabel='recall', ylabel='precision', xlim=(0, 1), ylim=(0, 1.01))
        if with_legend:
            _legend(figure, len(curves))
    return figure


def roc(curves: Mapping[str, Curve], *, with_legend: bool = True) -> Figure:
    """Return the receiver operating characteristics of methods."""
    with _figure(6.0, 5.0) as (figure, axes):
        for index, (name, curve) in enumerate(curves.items()):
            kept = thin(curve.false_positive_rate, curve.recall)
            x, y = curve.false_positive_rate[kept], curve.recall[kept]
            axes.plot(
                np.append(0.0, x), np.append(0.0, y),
                label=name, gid=f'series:{name}', **series_style(index),
            )  # fmt: skip
        axes.plot([0, 1], [0, 1], color=_INK, alpha=0.35, linestyle=(0, (2, 2)), linewidth=1)
        _level(axes, 0.95, 'FPR95\n95 %')
        axes.set(
            xlabel='false positive rate', ylabel='true positive rate', xlim=(0, 1), ylim=(0, 1.01)
        )
        if with_legend:
            _legend(figure, len(curves))
    return figure


def recall_against_false_obstacles(
    false_obstacles: FloatArray,
    recall: Mapping[str, FloatArray],
    at: Mapping[str, tuple[float, float]] | None = None,
) -> Figure:
    """Return how much of anomalies is found for how many false obstacles on ordinary frames.

    Args:
        false_obstacles: a frame, at each of some ascending thresholds, float64 [K].
        recall: of anomalous pixels at the same thresholds, by what is to be told apart.
        at: false obstacles a frame and recall at the threshold in force; marked.

    """
    with _figure(6.0, 5.0) as (figure, axes):
        for index, (name, values) in enumerate(recall.items()):
            style = series_style(index)
            axes.plot(false_obstacles, values, label=name, marker='.', markersize=4, **style)
            if at and name in at:
                axes.plot(*at[name], 'o', markersize=9, mfc='none', color=style['color'])
        axes.set_xscale('symlog', linthresh=0.1)
        axes.set(
            xlabel='false obstacles a frame of ordinary traffic',
            ylabel='recall of anomalous pixels',
            ylim=(0, 1.01),
        )
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter('{x:g}')
        _legend(figure, len(recall))
    return figure


def query_iou_histogram(
    mean_iou: Mapping[str, FloatArray],
    threshold: float,
    anomalous: Mapping[str, Sequence[int]] | None = None,
) -> Figure:
    """Return how many queries of each checkpoint have which mean IoU with anomalies.

    Args:
        mean_iou: of every query, by checkpoint, float64 [N].
        threshold: T_IoU, drawn as a line.
        anomalous: queries in use as anomalous ones, by checkpoint; their numbers are written.

    """
    rows = len(mean_iou)
    labels: list[tuple[Axes, list[Annotation], Annotation]] = []
    top = max(0.5, 1.02 * max(float(values.max()) for values in mean_iou.values()))
    edges = np.arange(0, top + 0.025, 0.025)
    with _figure(7.0, 0.9 + 2.1 * rows, rows=rows) as (figure, axes):
        for index, (axis, (name, values)) in enumerate(
            zip(np.ravel(axes), mean_iou.items(), strict=True)
        ):
            counts, _, _ = axis.hist(values, edges, color=series_style(index)['color'])
            axis.set_yscale('symlog', linthresh=1)
            axis.set_ylim(0, 3 * counts.max())
            axis.yaxis.set_major_formatter('{x:g}')
            mark = _mark(axis, threshold, f'T_IoU = {threshold:g}')
            numbers = []
            for bin_ in range(len(counts)):
                inside = (values >= edges[bin_]) & (values < edges[bin_ + 1])
                chosen = [str(q) for q in (anomalous or {}).get(name, ()) if inside[q]]
                if chosen:
                    text = axis.annotate(
                        'query ' + ', '.join(chosen), (edges[bin_] + 0.0125, counts[bin_]),
                        _ABOVE, textcoords='offset points', ha='center', fontsize='small',
                    )  # fmt: skip
                    numbers.append(text)
            labels.append((axis, numbers, mark))
            axis.set_title(f'{name}: {len(values)} queries', loc='left')
            axis.set(ylabel='queries', xlim=(0, edges[-1]))
        np.ravel(axes)[-1].set_xlabel('mean IoU of the mask with the anomalies')
        for axis, numbers, mark in labels:
            _spread(figure, axis, numbers, mark)
    return figure


def query_count(
    figures: Mapping[str, Sequence[Any]], names: Sequence[str], used: Mapping[str, int]
) -> Figure:
    """Return figures against the number of anomalous queries.

    Args:
        figures: by checkpoint, for 0, 1, … queries, an object with the attributes names.
        names: attributes to draw, one diagram each: fractions.
        used: number of anomalous queries in use, by checkpoint; marked.

    """
    titles = {'ap': 'AP', 'fpr95': 'FPR95', 'auroc': 'AuROC'}
    with _figure(3.6 * len(names), 3.6, columns=len(names)) as (figure, axes):
        for axis, name in zip(np.ravel(axes), names, strict=True):
            for index, (checkpoint, rows) in enumerate(figures.items()):
                values = [100 * getattr(row, name) for row in rows]
                color = series_style(index)['color']
                axis.plot(values, label=checkpoint, marker='o', markersize=3, color=color)
                count = used.get(checkpoint)
                if count is not None and count < len(values):
                    axis.plot(count, values[count], 'o', markersize=9, mfc='none', color=color)
            axis.set_title(titles.get(name, name), loc='left')
            axis.set(xlabel='anomalous queries', ylabel='percent')
            axis.xaxis.get_major_locator().set_params(integer=True)
            axis.margins(y=0.15)
        _legend(figure, len(figures))
    return figure


def specialisation(
    shares: FloatArray,
    classes: Sequence[str],
    queries: Sequence[int],
    bold: Sequence[int] = (),
    title: str = '',
) -> Figure:
    """Return in which share of the images each query answers with which class.

    Args:
        shares: float64 [len(queries), len(classes)].
        classes: names of the classes, a row each.
        queries: indices of the queries, a column each.
        bold: queries whose numbers stand out.
        title: written above.

    """
    size = max(5.0, 0.16 * len(queries) + 2.6), 0.26 * len(classes) + 1.3
    with _figure(*size) as (figure, axes):
        image = axes.imshow(shares.T, cmap='viridis', vmin=0, vmax=1, aspect='auto')
        axes.set_xticks(range(len(queries)), [str(q) for q in queries], rotation=90, fontsize=7)
        for query, text in zip(queries, axes.get_xticklabels(), strict=True):
            text.set_fontweight('bold' if query in bold else 'normal')
        axes.set_yticks(range(len(classes)), classes, fontsize=8)
        axes.set_xlabel('query')
        axes.set_title(title, loc='left')
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        bar = figure.colorbar(image, ax=axes, aspect=14, pad=0.02)
        bar.set_label('share of images', fontsize=8)
        bar.ax.tick_params(labelsize=8)
        bar.outline.set_visible(False)
    return figure


def specialised_count(
    thresholds: FloatArray, counts: Mapping[str, Sequence[int]], used: float
) -> Figure:
    """Return how many queries of each checkpoint count as specialised against T_query."""
    with _figure(6.0, 3.6) as (figure, axes):
        for index, (name, values) in enumerate(counts.items()):
            axes.plot(thresholds, values, label=name, drawstyle='steps-pre', **series_style(index))
        _mark(axes, used, f'T_query = {used:g}')
        axes.set(xlabel='T_query', ylabel='specialised queries', xlim=(thresholds[0], 1))
        axes.set_ylim(bottom=0)
        axes.yaxis.get_major_locator().set_params(integer=True)
        _legend(figure, len(counts))
    return figure


def save(figure: Figure, stem: Path) -> tuple[Path, Path]:
    """Write a figure as STEM.png, at 150 dots per inch, and STEM.svg.

    Raises:
        MaskomalyError: a file cannot be written.

    """
    paths = stem.with_name(f'{stem.name}.png'), stem.with_name(f'{stem.name}.svg')
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(paths[0], dpi=150, facecolor='white')
        paths[1].write_text(_svg(figure, facecolor='white'), encoding='utf-8')
    except OSError as error:
        raise MaskomalyError(f'cannot write {error.filename}: {error.strerror}') from error
    return paths


def inline(figure: Figure, label: str) -> Markup:
    """Return a figure as part of a page; label says what it shows to those who do not see it."""
    text = _svg(figure, transparent=True)
    return html.svg(text.replace(_INK, 'currentColor'), label=label)


def _svg(figure: Figure, **options: Any) -> str:
    import matplotlib as mpl

    stream = io.StringIO()
    with mpl.rc_context(_STYLE):
        figure.savefig(stream, format='svg', metadata={'Date': None}, **options)
    return stream.getvalue()


@contextmanager
def _figure(
    width: float, height: float, *, rows: int = 1, columns: int = 1
) -> Iterator[tuple[Figure, Any]]:
    """Yield a new figure in our style and its axes; size in inches."""
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MaskomalyError('figures need matplotlib: pip install matplotlib') from error
    # Figure and not pyplot: no display, no state, and it can be drawn in any thread.
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout='constrained')
        yield figure, figure.subplots(rows, columns, sharex=rows > 1)


def _legend(figure: Figure, count: int) -> None:
    if count > 1:
        handles, labels = figure.axes[0].get_legend_handles_labels()
        columns = max(1, int(figure.get_figwidth() // 2))
        figure.legend(
            handles,
            labels,
            loc='outside lower center',
            ncols=min(count, columns),
            fontsize='small',
        )


def _level(axes: Axes, value: float, text: str) -> None:
    axes.axhline(value, color=_INK, alpha=0.5, linestyle=(0, (2, 2)), linewidth=1)
    axes.annotate(
        text, (1.0, value), (4, 0), fontsize=7, va='center', textcoords='offset points',
        annotation_clip=False,
    )  # fmt: skip


def _spread(figure: Figure, axes: Axes, texts: Sequence[Annotation], mark: Annotation) -> None:
    """Raise labels, and the top of the diagram, until none overlaps another or a bar."""
    for _ in range(_MOST_RAISES):
        figure.draw_without_rendering()
        bars = [bar.get_window_extent() for bar in axes.patches]
        taken = [_room(mark), *bars]
        for text in sorted(texts, key=lambda text: float(text.xy[0])):
            box = _room(text)
            aside = max(0.0, axes.bbox.x0 - box.x0) - max(0.0, box.x1 - axes.bbox.x1)
            text.xyann = aside * 72 / figure.dpi, _ABOVE[1]
            while any(_room(text).overlaps(other) for other in taken):
                text.xyann = text.xyann[0], text.xyann[1] + 3
            taken.append(_room(text))
        if all(box.y1 < axes.bbox.y1 for box in map(_room, texts)):
            return
        for text in texts:
            text.xyann = _ABOVE
        axes.set_ylim(top=2 * axes.get_ylim()[1])


def _room(text: Annotation) -> Bbox:
    """Return where a text is drawn, with room for the fonts of other programs."""
    return text.get_window_extent().expanded(1.15, 1.1)


def _mark(axes: Axes, value: float, text: str) -> Annotation:
    axes.axvline(value, color=_INK, linestyle=(0, (4, 2)), linewidth=1)
    return axes.annotate(
        text, (value, 1.0), (4, -3), fontsize='small', va='top',
        xycoords=axes.get_xaxis_transform(), textcoords='offset points',
    )  # fmt: skip


def thin(*axes: FloatArray) -> NDArray[np.intp]:
    """Return the places of a curve that are worth drawing; axes are its coordinates, in [0, 1]."""
    cells = np.stack(axes) * _RESOLUTION // 1
    kept = np.any(np.diff(cells, prepend=-1) != 0, axis=0)
    kept[-1] = True
    return np.flatnonzero(kept)
