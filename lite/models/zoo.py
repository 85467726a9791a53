"""The zoo: every model that can be asked for by name. Importing it loads no torch; a row's `build` does."""

from dataclasses import replace

from lite.models.hrnet_rows import ZOO_ROWS as HRNET_ROWS
from lite.models.lite_hrnet_rows import ZOO_ROWS as LITE_HRNET_ROWS
from lite.models.places import PLACES
from lite.models.rows import ZooRow
from lite.models.rtmdet_rows import ZOO_ROWS as RTMDET_ROWS
from lite.models.sapiens_rows import ZOO_ROWS as SAPIENS_ROWS
from lite.models.vitpose_rows import ZOO_ROWS as VITPOSE_ROWS


def _by_name(*groups: list[ZooRow]) -> dict[str, ZooRow]:
    zoo: dict[str, ZooRow] = {}
    for row in (row for group in groups for row in group):
        if row.name in zoo:
            raise ValueError(f"two zoo rows are named {row.name}")
        zoo[row.name] = replace(row, place=PLACES.get(row.name))
    return zoo


ZOO: dict[str, ZooRow] = _by_name(HRNET_ROWS, LITE_HRNET_ROWS, RTMDET_ROWS, SAPIENS_ROWS, VITPOSE_ROWS)
