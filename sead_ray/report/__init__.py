"""What people see of a run: the rounds' table and one self-contained HTML page."""

from sead_ray.report.page import render_report, write_report
from sead_ray.report.rounds import RoundRow, format_table, rounds_table

__all__ = ["RoundRow", "format_table", "render_report", "rounds_table", "write_report"]
