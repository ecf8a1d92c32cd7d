"""Recommends what goes well with an order."""
