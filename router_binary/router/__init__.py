"""The order routing engine: parents in, children out, one gate."""
