"""The part of a tab that orders its rows, and says what each order may cost."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
from nicegui import ui

from mmwood.fileio.image_features import features_path
from mmwood.ood.review.alike import Alike
from mmwood.ood.review.orders import expected_looks, keep_rates, round_robin
from mmwood.ood.review.session import Session
from mmwood.ood.review.texts import number_of

NAMES = dict(
    hardest="hardest first", diverse="diverse first", balanced="class by turns"
)


class Ordering:
    """The select of the order.

    Args:
        session: What all tabs share.
        alike: Gives what knows of features, or None.
    """

    def __init__(
        self, session: Session, alike: Callable[[], Awaitable[Alike | None]]
    ) -> None:
        self.session = session
        self._alike = alike

    def build(
        self,
        choose: Callable[[], Any],
        missing: Callable[[], int],
        rows: Callable[[], np.ndarray],
    ) -> None:
        """Add the select.

        Args:
            choose: Chooses the tab's rows anew.
            missing: Gives how many usable images are still wanted.
            rows: Gives the rows of the tab's filters.
        """
        self._missing, self._rows = missing, rows
        self.select = (
            ui.select(dict(NAMES), label="order", value="hardest", on_change=choose)
            .props("dense outlined options-dense")
            .style("min-width: 150px")
            .on("popup-show", self._estimate)
        )

    async def arranged(self, rows: np.ndarray) -> np.ndarray:
        """Rows, which come class by class, in the order that is chosen."""
        if self.select.value == "balanced":
            return rows[round_robin(self.session.rows.class_of[rows])]
        if self.select.value == "diverse":
            alike = await self._alike()
            if alike is not None:
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(None, alike.varied, rows)
            self.select.value = "hardest"
        return rows

    async def _estimate(self) -> None:
        """Say how many looks each order is expected to cost."""
        table = self.session.rows
        keep = keep_rates(table)
        if keep is None:
            costs = dict.fromkeys(NAMES, "no evidence yet")
        else:
            rows = np.sort(self._rows())
            # Class by class, highest first.
            first = np.lexsort((-table.probability[rows], table.class_of[rows]))
            orders = dict(hardest=rows[first])
            turns = round_robin(table.class_of[orders["hardest"]])
            orders["balanced"] = orders["hardest"][turns]
            if features_path(self.session.review.path).exists():
                alike = await self._alike()
                if alike is not None:
                    loop = asyncio.get_running_loop()
                    orders["diverse"] = await loop.run_in_executor(
                        None, alike.varied, orders["hardest"]
                    )
            costs = {}
            for name, order in orders.items():
                looks = expected_looks(table, order, keep, self._missing())
                costs[name] = (
                    "too few images" if looks is None else number_of(looks, "look")
                )
            costs.setdefault("diverse", "needs features")
        self.select.set_options(
            {key: f"{name} ({costs[key]})" for key, name in NAMES.items()}
        )
