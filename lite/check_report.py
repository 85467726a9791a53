"""The report of the check against the eager float32 network, as `export` stores it in an artifact's JSON, for people.

Read here are reports of any origin, so nothing in them is taken for granted.
"""

from typing import Any


def report_lines(report: dict[str, Any]) -> list[str]:
    """A report in words, one quantity a line; what it lacks is left out."""
    batches = ", ".join(map(str, _list(report, "batches")))
    reasons = "; ".join(f"{count} {why}" for why, count in _dict(report, "left_out").items() if count)
    rounding, runtime = _dict(report, "rounding"), _dict(report, "runtime")
    version = f" ({runtime.get('backend')} {runtime.get('version')})" if runtime else ""
    lines = [
        f"check against eager float32: {report.get('crops', '?')} crops, batches {batches}{_sizes(report)}",
        f"  run by {report.get('checked_with', 'an unknown backend')}{version}",
        f"  compared {report.get('compared', '?')} of {report.get('of', '?')}"
        + (f"; left out: {reasons}" if reasons else ""),
    ]
    for name, limit in _dict(report, "limits").items():
        alone = f", rounding alone {_number(rounding[name])}" if name in rounding else ""
        lines.append(f"  {name:<16} {_number(report.get(name))} (limit {_number(limit)}{alone})")
    if "oks_all_mean" in report:
        lines.append(f"  {'oks_all_mean':<16} {_number(report['oks_all_mean'])} (all keypoints, those left out too)")
    return [*lines, *(f"  FAILED: {failure}" for failure in _list(report, "failures"))]


def _sizes(report: dict[str, Any]) -> str:
    """The input sizes, where there are several."""
    sizes = ["x".join(map(str, size)) for size in _list(report, "sizes") if isinstance(size, list)]
    return f", sizes {', '.join(sizes)}" if len(sizes) > 1 else ""


def _number(value: object) -> str:
    return f"{value:.5g}" if isinstance(value, int | float) else "unknown"


def _dict(report: dict[str, Any], name: str) -> dict[str, Any]:
    value = report.get(name)
    return value if isinstance(value, dict) else {}


def _list(report: dict[str, Any], name: str) -> list[Any]:
    value = report.get(name)
    return value if isinstance(value, list) else []
