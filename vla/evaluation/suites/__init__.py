"""Public benchmarks as environments: registered on import, one package or module each; see docs/benchmarks.md."""
