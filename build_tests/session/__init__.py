"""The pytest side: items, scheduling, reporting. The only code that imports pytest or xdist."""
