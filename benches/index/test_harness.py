"""What decides who wins: how answers are scored, and what counts as the rate at a recall."""

import math
import unittest

import numpy as np

from datasets import exact, recall
from frontier import first_at, frontier, rate_at
from plan import GROUPS
from plot import curves


def point(recall: float, seconds: float) -> dict:
    return {"recall": recall, "count": 100, "cpu_s": seconds}


class Scoring(unittest.TestCase):
    def test_rows_as_near_as_the_last_count_and_none_counts_twice(self):
        rows, distances = np.array([[4, 7, 9, 2]]), np.array([[0.0, 1.0, 1.0, 3.0]])
        self.assertEqual(recall(np.array([[4, 9]]), rows, distances, 2), 1.0)
        self.assertEqual(recall(np.array([[4, 4]]), rows, distances, 2), 0.5)
        self.assertEqual(recall(np.array([[4, 2]]), rows, distances, 2), 0.5)

    def test_where_fewer_rows_exist_than_asked_for_these_are_enough(self):
        rows, distances = np.array([[4, -1, -1]]), np.array([[0.5, np.inf, np.inf]])
        self.assertEqual(recall(np.array([[4, 2**32 - 1]]), rows, distances, 2), 1.0)

    def test_exact_answers_are_those_of_a_plain_sort(self):
        random = np.random.default_rng(1)
        base, queries = random.random((500, 8), dtype=np.float32), random.random((5, 8), dtype=np.float32)
        plain = ((queries[:, None] - base[None]) ** 2).sum(2)
        rows, _ = exact(base, queries, cosine=False)
        self.assertEqual(rows[:, :10].tolist(), np.argsort(plain, 1)[:, :10].tolist())


class Rates(unittest.TestCase):
    points = [point(0.9, 1.0), point(0.92, 2.0), point(0.94, 1.5), point(0.98, 4.0)]

    def test_a_setting_that_another_beats_is_left_out(self):
        self.assertEqual([one["recall"] for one in frontier(self.points)], [0.9, 0.94, 0.98])

    def test_between_two_settings_the_rate_is_between_theirs(self):
        middle = math.sqrt((100 / 1.5) * (100 / 4.0))
        self.assertAlmostEqual(rate_at(self.points, 0.96), middle)

    def test_recall_that_is_not_reached_has_no_rate(self):
        self.assertIsNone(rate_at(self.points, 0.99))
        self.assertIsNone(first_at(self.points, 0.99))

    def test_recall_below_all_settings_costs_what_the_cheapest_does(self):
        self.assertAlmostEqual(rate_at(self.points, 0.5), 100.0)


class Plots(unittest.TestCase):
    def test_every_engine_has_a_line_of_its_own(self):
        points = [{"recall": share, "cpu_s": 1.0 + share, "count": 1000} for share in (0.9, 0.95)]
        drawn = curves("all", {group: points for group in GROUPS})
        for group in GROUPS:
            self.assertIn(f">{group}</text>", drawn)
        self.assertEqual(drawn.count('class="l"'), len(GROUPS))


if __name__ == "__main__":
    unittest.main()
