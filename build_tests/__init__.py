"""pytest-build: a monorepo's build as one parallel, incremental pytest run."""

__version__ = "0.1.0"
