"""What decides: evidence, strategy, budget, plan."""
