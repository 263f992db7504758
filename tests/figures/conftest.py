"""A run with made-up files, for every test of figures and tables."""

from drawn_run import copied, run  # noqa: F401
