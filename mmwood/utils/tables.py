"""Tables of numbers for terminals."""

from collections.abc import Iterable, Sequence

from prettytable import PrettyTable


def number_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]]
) -> PrettyTable:
    """A table of numbers with what they are about on the left."""
    table = PrettyTable(columns, align="r")
    table.align[columns[0]] = "l"
    table.add_rows([list(row) for row in rows])
    return table
