"""The bundle: contract, abstain rule, engine manifests, golden frames and boxes, parity, production choice."""
