"""A table of Q-values as a network: one row per state, for index observations."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Table(nn.Module):
    """``tables`` estimates [tables, S, A]; the Q-values are their mean, as double Q-learning acts.

    Source: Watkins and Dayan 1992; van Hasselt, "Double Q-learning", 2010 (two tables).
    """

    def __init__(self, states: int, actions: int, tables: int, init_std: float) -> None:
        super().__init__()
        self.q = nn.Parameter(torch.randn(tables, states, actions) * init_std)

    def bytes_read(self, batch: int) -> int:
        """Of the table, by one forward: a row per observation and estimate."""
        tables, _, actions = self.q.shape
        return batch * tables * actions * self.q.element_size()

    def forward(self, obs: Tensor) -> Tensor:
        """obs [B] int64 -> [B, A]."""
        rows = self.q[:, obs]
        return rows[0] if len(rows) == 1 else rows.mean(0)
