"""The only place that imports nnU-Net internals: a file per concern. Importing this package imports none of them."""
