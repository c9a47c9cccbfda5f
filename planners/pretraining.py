"""Whether to pre-train on all images first."""

SHARE = 0.5  # of what a fold trains [our choice]
