"""Centroid linkage of many points without their distance matrix, and cuts of a linkage's tree.

The tree is scipy's and fastcluster's. These scan all points once for each merge, and wait for the
memory; here matrix products make many rows of distances at once. On two cores, 5400 voices take
0.16 of fastcluster's time, 21,600 take 0.08, and 129,600 (a day) a sixteenth or less.

A point's neighbour is the nearest *older* one. So each pair is known to one of its sides, and later
merges only take neighbours away: a distance once found is a lower bound from then on, and is
settled when it becomes the least of all. The row of a merged centroid follows from the rows of its
parts, without a product: |c - x|^2 = u |a - x|^2 + v |b - x|^2 - u v |a - b|^2.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from samevoice.models.fast.cpu import alone, cores, one_blas_thread, together

ROWS = 128  # rows of distances that are kept, and made at once
TILE = 1024  # columns of a product, however many cores there are: sums do not depend on them
ROOM = 16  # one merged centroid for so many points, then those that are gone are dropped


def centroid_tree(points: np.ndarray) -> np.ndarray:
    """(N, E) -> (N - 1, 4): which clusters merge, how far apart, how large then."""
    if not np.isfinite(points).all():
        raise ValueError("points: values that are NaN or infinite cannot be clustered")
    with one_blas_thread():
        return _Clusters(points).merged()


def cut(tree: np.ndarray, threshold: float) -> np.ndarray:
    """(N - 1, 4) -> (N,): clusters from 0 on, without any merge above the threshold.

    Also numbered as scipy's ``fcluster`` does: what merged last first, points behind merges.
    """
    count = len(tree) + 1
    parts = tree[:, :2].astype(np.int64).tolist()
    # Centroid linkage inverts: what counts is the highest merge in a cluster, not its last one.
    highest = [-np.inf] * count + tree[:, 2].tolist()
    for node, (a, b) in enumerate(parts, count):
        highest[node] = max(highest[node], highest[a], highest[b])
    numbers, found, waiting = [-1] * (2 * count - 1), 0, [2 * count - 2]
    while waiting:
        node = waiting.pop()
        if node >= count and highest[node] > threshold:
            waiting.extend(sorted(parts[node - count], key=lambda part: (part >= count, -part)))
        else:
            numbers[node] = found
            found += 1
    for node in range(2 * count - 2, count - 1, -1):
        if numbers[node] >= 0:
            for part in parts[node - count]:
                numbers[part] = numbers[node]
    return np.array(numbers[:count])


class _Clusters:
    """Clusters in order of age; the first ``end`` places are taken, some by merged ones."""

    def __init__(self, points: np.ndarray) -> None:
        self.count, self.end = len(points), len(points)
        self.points = np.empty((self.end + _room(self.end), points.shape[1]))
        self.points[: self.end] = points
        places = len(self.points) + 1  # the last one stays empty, and is nobody's
        # |x|^2, infinite where nobody is: so are all distances to it then.
        self.squares = np.full(places, np.inf)
        self.squares[: self.end] = np.einsum("pe,pe->p", *[self.points[: self.end]] * 2)
        self.sizes = np.ones(places, dtype=np.int64)
        self.nodes = np.arange(places)
        self.least = np.full(places, np.inf)  # at most the squared distance to the nearest older
        self.near = np.full(places, -1)  # which that was
        self._no_rows()
        blocks = range(0, self.end, TILE)
        _share(self._first_neighbours, blocks[::-1])  # the longest first

    def _no_rows(self) -> None:
        self.rows = np.empty((ROWS, len(self.squares)))  # squared distances
        self.owner = np.full(ROWS, -1)  # whose row it is
        self.row_of = np.full(len(self.squares), -1)

    def merged(self) -> np.ndarray:
        tree = np.empty((self.count - 1, 4))
        for step in range(self.count - 1):
            if self.end == len(self.points):
                self._close_up()
            tree[step] = self._merge(*self._closest(), self.count + step)
        return tree

    def _closest(self) -> tuple[int, int]:
        while True:
            place = int(self.least[: self.end].argmin())
            near = int(self.near[place])
            if self.squares[near] < np.inf:
                return near, place
            if self.row_of[place] < 0:
                self._make_rows([place])
            self._find_nearest(place)

    def _find_nearest(self, place: int) -> None:
        older = self.rows[self.row_of[place], :place]
        near = int(older.argmin())
        self.near[place], self.least[place] = near, older[near]

    def _merge(self, a: int, b: int, node: int) -> tuple[int, int, float, int]:
        """Two places become a new one; what the tree says of it."""
        if self.row_of[a] < 0 or self.row_of[b] < 0:
            self._make_rows([a, b])
        new, kept, freed = self.end, self.row_of[a], self.row_of[b]
        pair, size = [a, b], self.sizes[a] + self.sizes[b]
        u, v = self.sizes[a] / size, self.sizes[b] / size
        apart = self.points[a] - self.points[b]
        squared = float(apart @ apart)
        row = self.rows[kept, :new]
        row *= u
        row += v * self.rows[freed, :new]
        row -= u * v * squared
        self.owner[kept], self.owner[freed] = new, -1
        self.row_of[pair], self.row_of[new] = -1, kept
        self.rows[:, pair] = self.squares[pair] = self.least[pair] = np.inf
        self.rows[:, new] = self.rows[kept, self.owner]  # those of nobody get anything
        self.rows[kept, new] = 0
        self.points[new] = u * self.points[a] + v * self.points[b]
        self.squares[new] = self.points[new] @ self.points[new]
        self.sizes[new], self.nodes[new] = size, node
        self.end += 1
        self._find_nearest(new)
        first, second = sorted(self.nodes[pair].tolist())
        return first, second, squared**0.5, int(size)

    def _first_neighbours(self, start: int) -> None:
        mine = slice(start, min(start + TILE, self.end))
        doubled = -2 * self.points[mine]
        least, near, each = self.least[mine], self.near[mine], np.arange(len(doubled))
        for begin in range(0, start + 1, TILE):
            theirs = slice(begin, min(begin + TILE, self.end))
            tile = doubled @ self.points[theirs].T
            tile += self.squares[theirs]
            if begin == start:
                tile[each[:, None] <= each] = np.inf
            found = tile.argmin(axis=1)
            nearer = tile[each, found] < least
            least[nearer], near[nearer] = tile[each, found][nearer], begin + found[nearer]
        least += self.squares[mine]

    def _make_rows(self, needed: list[int]) -> None:
        """Rows of these, and of those that are likely to merge next."""
        wanted = self._wanted(needed)
        # Those needed are made anew even if they are there, so that rounding does not add up.
        self.row_of[needed] = -1
        there = self.row_of[wanted]
        free = np.setdiff1d(np.arange(ROWS), there)
        self.row_of[self.owner[free]] = -1  # where nobody owns it, that of the last place
        self.owner[free] = -1
        wanted = wanted[there < 0]
        free = free[: len(wanted)]
        self.owner[free], self.row_of[wanted] = wanted, free
        doubled = -2 * self.points[wanted]

        def make(start: int) -> None:
            columns = slice(start, min(start + TILE, self.end))
            made = doubled @ self.points[columns].T
            made += self.squares[columns]
            made += self.squares[wanted, None]
            self.rows[free, columns] = made

        _share(make, range(0, self.end, TILE))

    def _wanted(self, needed: list[int]) -> np.ndarray:
        """Places, at most ROWS: those needed, and the next by what is known of their distances."""
        urgent = self.least[: self.end].copy()
        for place in needed:
            if self.row_of[place] >= 0:
                np.minimum(urgent, self.rows[self.row_of[place], : self.end], out=urgent)
        most = min(ROWS, self.end)
        first = np.argpartition(urgent, most - 1)[:most]
        first = first[np.argsort(urgent[first])]
        near = np.where(self.least[first] == urgent[first], self.near[first], -1)
        named: np.ndarray = np.concatenate([needed, np.stack([first, near], axis=1).ravel()])
        named = named[self.squares[named] < np.inf]
        return named[np.sort(np.unique(named, return_index=True)[1])][:ROWS]

    def _close_up(self) -> None:
        """The living move up, and there is room behind them again."""
        living = np.flatnonzero(self.squares[: self.end] < np.inf)
        moved = np.full(len(self.squares), -1)
        moved[living] = np.arange(len(living))
        for start in range(0, len(living), TILE):  # in place: nobody moves back
            some = living[start : start + TILE]
            self.points[start : start + len(some)] = self.points[some]
        self.end = len(living)
        places = self.end + _room(self.end)
        self.points = self.points[:places]
        empty = np.full(places + 1 - self.end, -1)
        self.near = np.concatenate([moved[self.near[living]], empty])
        self.sizes = np.concatenate([self.sizes[living], empty])
        self.nodes = np.concatenate([self.nodes[living], empty])
        self.least = np.concatenate([self.least[living], empty + np.inf])
        self.squares = np.concatenate([self.squares[living], empty + np.inf])
        self.least[0] = np.inf  # nobody is older
        self._no_rows()


def _room(count: int) -> int:
    return max(ROWS, count // ROOM)


def _share(work: Callable[[int], None], starts: range) -> None:
    (together if len(starts) > 1 and cores() > 1 else alone)(work, starts)
