"""The production choice: policy, rule, sensitivity; and the regressions that `benchmarks gate` looks for."""
