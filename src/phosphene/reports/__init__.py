"""Reports: figures, grids of pictures and one self-contained HTML file built from sections."""

from phosphene.reports.html import Report, Section
from phosphene.reports.report import ReportContext, write_report, write_result_report

__all__ = ["Report", "ReportContext", "Section", "write_report", "write_result_report"]
