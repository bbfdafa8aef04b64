"""A record as the measured part of docs/gpu.md."""

from __future__ import annotations

from typing import Any

BEGIN, END = "<!-- made from docs/gpu-record.json by benchmarks/gpu.py -->", "<!-- end of what is made -->"


def markdown(record: dict[str, Any]) -> str:
    """Return the record as sections: the machine, what passed, the figures, what is unmeasured."""
    parts = record["parts"]
    ran = [part for part in parts if part["status"] != "missing"]
    sections = [_machine(record), _status(parts)]
    sections += [_figures(part) for part in ran if part["figures"]]
    return "\n\n".join([BEGIN, *sections, END]) + "\n"


def replaced(document: str, record: dict[str, Any]) -> str:
    """Return a document with the part between its two marks made anew.

    Raises:
        ValueError: it lacks the marks.
    """
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END + "\n")
    if not begin or not end:
        raise ValueError(f"the document lacks {BEGIN} or {END}")
    return before + markdown(record) + after


def _machine(record: dict[str, Any]) -> str:
    machine = record["machine"]
    gpus = "; ".join(
        f"{gpu['gpu']} ({gpu['memory']}, compute capability {gpu['compute capability']}), driver {gpu['driver']}"
        for gpu in machine["gpus"]
    )
    versions = ", ".join(f"{name} {number}" for name, number in record["packages"].items())
    return (
        f"Measured on {record['date']}: {gpus}; {machine['cores']} cores of {machine['processor']}; "
        f"Python {machine['python']}, {versions}."
    )


def _status(parts: list[dict[str, Any]]) -> str:
    lines = ["| part | what it tries | result |", "|---|---|---|"]
    for part in parts:
        passed = sum(check["passed"] for check in part["checks"])
        said = f"{part['status']}: {part['reason']}" if part["reason"] else part["status"]
        checks = f", {passed} of {len(part['checks'])} checks" if part["checks"] else ""
        lines.append(f"| {part['name']} | {part['what']} | {_cell(said)}{checks} |")
    return "\n".join(lines)


def _figures(part: dict[str, Any]) -> str:
    lines = [f"### {part['name']}", "", "| | |", "|---|---|"]
    lines += [f"| {_cell(one['name'])} | {_shown(one['value'])} {one['unit']} |" for one in part["figures"]]
    said = [f"- {check['name']}: {check['detail']}" for check in part["checks"] if check["detail"]]
    return "\n".join(lines + (["", "Checked:", "", *said] if said else []))


def _shown(value: float) -> str:
    """Return a figure to three digits or so, with its thousands apart."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
