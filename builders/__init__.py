"""Language builders: each turns a component into steps. They import the builder API only."""
