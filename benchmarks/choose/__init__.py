"""The production choice: policy, rule, sensitivity, gate."""
