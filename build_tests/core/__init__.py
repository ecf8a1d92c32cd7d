"""Values and pure functions: model, configuration, graph, plan, frontier, globs, digests, fingerprints."""
