"""A report in a directory, in its three forms."""

from __future__ import annotations

from pathlib import Path

from gen_engine.engine.base.durable import replace_file
from gen_engine.engine.errors import OutputError
from gen_engine.evaluate.report import document, markdown, page
from gen_engine.evaluate.report.report import Report


def write_report(report: Report, out: Path) -> None:
    """Write ``report.json``, ``report.html`` and ``report.md`` into a directory, which is made if it is missing.

    Raises:
        OutputError: they cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        document.write(report, out / "report.json")
        replace_file(out / "report.html", page.render(report).encode(), out)
        replace_file(out / "report.md", markdown.render(report).encode(), out)
    except OSError as error:
        reason = f"{error.strerror or error}: {error.filename or out}"
        raise OutputError(f"{out}: the report cannot be written ({reason}); choose another --out") from error
