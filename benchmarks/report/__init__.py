"""The report: tables, plots, pages, the model card."""
