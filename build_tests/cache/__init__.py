"""Bytes in, bytes out, by digest: what a step left, kept for another time, another checkout, another machine."""
